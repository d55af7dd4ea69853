"""The concepts of a plan: what is fitted where, what is left for a page, and that a run goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import concept_place, zoo
from bench.api import fit_dictionary
from bench.concepts_run import ConceptsRun
from bench.plan import Plan, load_plan, untrained
from bench.records import Score, columns
from bench.runner import Progress, Runner, load_engines
from bench.spaces import Dictionary
from bench.spaces.dictionary import top_positions
from bench.store import Artifact, Store

PLAN = """
name: small-concepts
network: tiny@digits
null_draws: 1
concepts:
  images: {set: collages, n: 24, options: {objects: 6}}
  layers: [LAYER]
  positions: true
  k: [3, 5]
  dictionaries: [neurons, pca, {random: {k: 4}}]
  seeds: 2
  crops: 2
  untrained: true
  metrics: [reconstruction_r2, identifiability]
  attributions: [gradient_input, {occlusion: {}}]
  attribution_metrics: [{deletion: {steps: 3}}]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    zoo.load_network("tiny@digits", cache=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def plan(cache, tmp_path_factory) -> Plan:
    network = zoo.load_network("tiny@digits", cache=cache, progress=False)
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    path.write_text(PLAN.replace("LAYER", str(network.layer)))
    return load_plan(path)


def run(plan: Plan, store: Store, cache: Path, progress: Progress | None = None) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMEN_CACHE", str(cache))
        engines = load_engines(plan, device="cpu", precision="fp32", progress=False)
        return Runner(plan, store, engines, progress or Progress()).run()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("run") / "store")


@pytest.fixture(scope="module")
def made(plan, store, cache) -> Artifact:
    return run(plan, store, cache)


def opened(store: Store, made: Artifact, role: str) -> Artifact:
    return store.open(role.split("/")[0], made.manifest["parents"][role])


def test_a_plan_of_concepts_alone_runs_without_images_of_its_own(made):
    kinds = {role.split("/")[0] for role in made.manifest["parents"]}
    assert kinds == {"dictionaries", "scores", "nulls", "importances"}
    assert list(made.rows("table.parquet").columns) == columns(Score)


def test_every_size_of_every_method_is_scored_on_trained_and_untrained_weights(made, plan):
    table = made.rows("table.parquet")
    methods = {"neurons", "pca (k=3)", "pca (k=5)", "random"}
    metrics = {"reconstruction_r2", "identifiability", "C-deletion by gradient_input", "C-deletion by occlusion"}
    assert set(table["method"]) == methods
    assert set(table["metric"]) == metrics
    assert set(table["network"]) == {"tiny@digits", untrained("tiny@digits")}
    assert len(table) == 2 * len(methods) * len(metrics)
    assert np.isfinite(table[["value", "null", "gain"]]).all().all()
    assert set(table["layer"]) == set(plan.concepts.layers)


def test_an_entry_may_have_its_own_number_of_atoms(made, store, plan):
    layer = plan.concepts.layers[0]
    sizes = {
        label: Dictionary.load(
            opened(store, made, f"dictionaries/{label} @ {layer} seed 1").file("dictionary.safetensors")
        ).k
        for label in ("neurons", "pca (k=3)", "pca (k=5)", "random")
    }
    assert sizes == {"neurons": 28, "pca (k=3)": 3, "pca (k=5)": 5, "random": 4}


def test_a_replicate_is_fitted_on_every_position_of_its_own_resample_of_the_pictures(made, store, plan, cache):
    layer = plan.concepts.layers[0]
    kept = opened(store, made, f"dictionaries/pca (k=5) @ {layer} seed 1")
    engine = load(plan, cache)
    images = zoo.load_images("collages", "train", 24, 0, objects=6)
    maps = engine.tap(engine.inputs(images.pictures), layer)
    chosen = engine.draws(plan.seed, "replicate", 1).integers(24, 24)
    assert len(chosen.unique()) < 24
    again = fit_dictionary("pca", maps[chosen], 5, seed=1)
    found = Dictionary.load(kept.file("dictionary.safetensors"))
    torch.testing.assert_close(found.atoms, again.atoms, atol=1e-4, rtol=1e-4)
    assert kept.config["rows"] == "bootstrap of positions"


def load(plan, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMEN_CACHE", str(cache))
        return load_engines(plan, device="cpu", precision="fp32", progress=False)["tiny@digits"]


def test_the_page_finds_each_atom_s_activity_and_its_top_places(made, store, plan, cache):
    layer = plan.concepts.layers[0]
    kept = opened(store, made, f"dictionaries/pca (k=3) @ {layer} seed 0")
    engine = load(plan, cache)
    test = zoo.load_images("collages", "test", 24, 0, objects=6)
    codes = Dictionary.load(kept.file("dictionary.safetensors")).encode(engine.tap(engine.inputs(test.pictures), layer))
    atoms = kept.rows("atoms.parquet")
    np.testing.assert_allclose(atoms["mean"], codes.mean(dim=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(atoms["peak"], codes.flatten(0, 2).amax(dim=0), rtol=1e-4)
    np.testing.assert_allclose(atoms["frequency"], (codes != 0).float().mean(dim=(0, 1, 2)), atol=1e-6)
    crops = kept.tensors("crops.safetensors")
    np.testing.assert_array_equal(crops["places"], top_positions(codes, 2).numpy())
    image, row, column = crops["places"][1, 0]
    side, size, height = crops["crops"].shape[2], test.size, codes.shape[1]
    top, left = (int(np.clip((at + 0.5) * size / height - side / 2, 0, size - side)) for at in (row, column))
    np.testing.assert_array_equal(crops["crops"][1, 0], test.pictures[image, top : top + side, left : left + side])


def test_importance_is_kept_by_picture_and_adds_up_at_the_linear_head(made, store, plan):
    layer = plan.concepts.layers[0]
    kept = opened(store, made, f"importances/pca (k=5) @ {layer}/gradient_input")
    told = kept.tensors("importances.safetensors")
    assert told["credit"].shape == told["codes"].shape == (24, 5)
    np.testing.assert_allclose(told["credit"].sum(1), told["logit"] - told["base"], atol=1e-4)
    names = json.loads(kept.file("classes.json").read_text())
    assert len(names) == 10
    assert set(told["target"]) <= set(range(10))


def test_the_null_of_c_deletion_is_that_of_random_importance(made, store, plan):
    layer = plan.concepts.layers[0]
    null = opened(store, made, f"nulls/pca (k=5) @ {layer}/deletion").tensors("null.safetensors")["null"]
    for attribution in ("gradient_input", "occlusion"):
        rows = opened(store, made, f"scores/pca (k=5) @ {layer}/C-deletion by {attribution}").rows()
        np.testing.assert_array_equal(rows["null"], null)
    table = made.rows("table.parquet").set_index(["network", "method", "metric"])
    row = table.loc[("tiny@digits", "pca (k=5)", "C-deletion by occlusion")]
    assert row["question"] == "faithfulness"
    assert row["value"] < row["null"]


def test_a_second_run_makes_nothing_and_gathers_nothing(made, plan, store, cache, monkeypatch):
    monkeypatch.setattr(concept_place, "concept_data", None)
    again = []
    second = run(plan, store, cache, Progress(done=lambda reused: again.append(reused)))
    assert second.key == made.key
    assert all(again)


def test_the_progress_bar_is_told_how_many_cells_there_are(made, plan, store, cache):
    told, done = [], []
    run(plan, store, cache, Progress(total=told.append, done=lambda reused: done.append(reused)))
    assert told == [len(done)]


class Killed(BaseException):
    """A kill in the middle of a run."""


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(made, plan, store, cache, tmp_path):
    torn = Store(tmp_path / "torn")
    for limit in (3, 9, 21):
        left = iter(range(limit))

        def begin(label: str, left=left) -> None:
            if next(left, None) is None:
                raise Killed

        with pytest.raises(Killed):
            run(plan, torn, cache, Progress(begin=begin))
    finished = run(plan, torn, cache)
    assert finished.key == made.key
    for role, key in made.manifest["parents"].items():
        kind = role.split("/")[0]
        facts = [one.open(kind, key).manifest["files"] for one in (store, torn)]
        assert facts[0] == facts[1], role


def test_positions_too_many_for_memory_are_streamed_from_disk(plan, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(concept_place, "STREAMED", 100)
    changes = {"metrics": ("reconstruction_r2",), "dictionaries": ("pca",), "k": (5,), "untrained": False}
    small = plan.model_copy(update={"concepts": plan.concepts.model_copy(update={**changes, "attributions": ()})})
    small = small.model_copy(update={"concepts": small.concepts.model_copy(update={"attribution_metrics": ()})})
    store = Store(tmp_path / "store")
    streamed = run(small, store, cache)
    layer = plan.concepts.layers[0]
    rows = opened(store, streamed, f"activations/{layer}")
    assert rows.verify() == []
    found = opened(store, streamed, f"dictionaries/pca @ {layer} seed 0")
    engine = load(plan, cache)
    pictures = zoo.load_images("collages", "train", 24, 0, objects=6).pictures
    whole = fit_dictionary("pca", engine.tap(engine.inputs(pictures), layer), 5)
    atoms = Dictionary.load(found.file("dictionary.safetensors")).atoms
    torch.testing.assert_close(atoms, whole.atoms, atol=1e-3, rtol=1e-3)
    assert found.config["rows"] == "every position"
    assert set(found.manifest["files"]) >= {"atoms.parquet", "crops.safetensors"}
    assert not list((tmp_path / "store").rglob(".*rows"))


def test_rows_for_reconstruction_are_positions_one_a_test_picture(plan, cache, store):
    engine = load(plan, cache)
    runner = Runner(plan, store, {"tiny@digits": engine}, Progress())
    place = ConceptsRun(plan, runner.cells, {"tiny@digits": engine}).places[0]
    maps = place.data.test_maps
    assert place.rows.test.shape == place.data.test.shape
    assert len(place.rows.train) == 24 * concept_place.TRAIN_POSITIONS
    gaps = (maps - place.rows.test[:, None]).abs().sum(dim=2)
    assert bool((gaps.min(dim=1).values == 0).all())
