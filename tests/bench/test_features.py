"""What studies of single features draw on: activations of every atom on every picture, and pictures made for them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.config import parse_config
from bench.engine import Engine
from bench.images import picture_hash
from bench.occlusions import favourites, squares
from bench.plan import OcclusionsSpec, Plan
from bench.registry import LimenError
from bench.runner import Progress, Runner
from bench.spaces.dictionary import Dictionary
from bench.store import Store
from bench.zoo import load_images, load_network

PLAN = {
    "name": "features",
    "network": "untrained@scenes",
    "concepts": {
        "images": {"set": "scenes", "n": 12},
        "layers": ["stage4"],
        "k": 4,
        "dictionaries": ["neurons", "kmeans"],
        "seeds": 2,
        "features": True,
        "occlusions": {"share": 0.4, "grid": 3, "pictures": 2},
        "visualizations": [{"maco": {"steps": 2, "crops": 2}}, {"fourier": {"steps": 2, "crops": 2, "minimise": True}}],
        "visualized": 3,
        "visualization_seeds": 2,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("features"))
    plan = parse_config(PLAN, Plan, where="plan")
    told: list[int] = []
    engines = {"untrained@scenes": Engine(load_network("untrained@scenes"), device="cpu")}
    run = Runner(plan, store, engines, Progress(total=told.append)).run()
    return store, run, engines["untrained@scenes"], told[0]


def part(made, role: str):
    store, run, *_ = made
    return store.open(role.split("/")[0], run.manifest["parents"][role])


def test_the_run_says_beforehand_how_many_cells_it_has(made) -> None:
    _, run, _, told = made
    assert told == len(run.manifest["parents"]) + 1


def test_the_pictures_of_both_splits_are_kept_training_first(made) -> None:
    kept = part(made, "images/concepts")
    train, test = (load_images("scenes", split, 12) for split in ("train", "test"))
    pictures = kept.tensors("pictures.safetensors")["pictures"]
    assert np.array_equal(pictures, np.concatenate([train.pictures, test.pictures]))
    rows = kept.rows()
    assert list(rows["image_id"]) == [*train.ids, *test.ids]
    assert list(rows["sha256"]) == [picture_hash(one) for one in pictures]


@pytest.mark.parametrize("name", ["neurons", "kmeans"])
def test_features_are_the_largest_and_the_mean_code_over_positions(made, name: str) -> None:
    _, _, engine, _ = made
    features = part(made, f"features/{name} @ stage4").tensors("features.safetensors")
    fitted = Dictionary.load(part(made, f"dictionaries/{name} @ stage4 seed 0").file("dictionary.safetensors"))
    pictures = part(made, "images/concepts").tensors("pictures.safetensors")["pictures"]
    maps = engine.tap(engine.inputs(pictures), "stage4").flatten(2).transpose(1, 2)
    codes = fitted.encode(maps)
    np.testing.assert_allclose(features["peak"], codes.amax(dim=1).numpy(), atol=1e-4)
    np.testing.assert_allclose(features["mean"], codes.mean(dim=1).numpy(), atol=1e-4)
    assert features["train"].tolist() == [1] * 12 + [0] * 12


@pytest.mark.parametrize("name", ["neurons", "kmeans"])
def test_occlusions_hold_the_codes_of_the_covered_pictures(made, name: str) -> None:
    _, _, engine, _ = made
    held = part(made, f"occlusions/{name} @ stage4").tensors("occlusions.safetensors")
    fitted = Dictionary.load(part(made, f"dictionaries/{name} @ stage4 seed 0").file("dictionary.safetensors"))
    pictures = part(made, "images/concepts").tensors("pictures.safetensors")["pictures"]
    peak = part(made, f"features/{name} @ stage4").tensors("features.safetensors")["peak"]
    assert set(np.argsort(-peak, axis=0, kind="stable")[:2].ravel()) == set(held["index"])
    np.testing.assert_allclose(held["whole"], peak[held["index"]], atol=1e-4)
    side = round(0.4 * pictures.shape[1])
    sides = held["boxes"][..., 2:] - held["boxes"][..., :2]
    assert (sides == side).all()
    assert held["boxes"].min() >= 0
    assert held["boxes"].max() <= pictures.shape[1]
    for number, box in ((0, 0), (1, 8)):
        covered = pictures[held["index"][number]].copy()
        left, top, right, bottom = held["boxes"][number, box]
        covered[top:bottom, left:right] = 128
        maps = engine.tap(engine.inputs(covered[None]), "stage4").flatten(2).transpose(1, 2)
        np.testing.assert_allclose(held["peak"][number, box], fitted.encode(maps).amax(dim=1)[0].numpy(), atol=1e-4)


def test_squares_stand_in_every_cell_of_the_picture_and_differ_by_picture() -> None:
    spec = OcclusionsSpec(grid=4, share=0.25)
    engine = Engine(load_network("untrained@scenes"), device="cpu")
    one, other = (squares((63, 63), spec, engine.draws(0, "occlusions", n)) for n in (0, 1))
    again = squares((63, 63), spec, engine.draws(0, "occlusions", 0))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    cells = np.floor(one[:, :2] / (63 - 16 + 1) * 4)
    assert len(np.unique(cells, axis=0)) == 16


def test_copies_of_a_picture_are_occluded_once() -> None:
    peak = np.array([[9.0, 0.0], [9.0, 0.0], [1.0, 5.0], [2.0, 4.0]])
    assert favourites(peak, ["a", "a", "b", "c"], 1).tolist() == [0, 2]
    assert favourites(peak, ["a", "a", "b", "c"], 2).tolist() == [0, 2, 3]


def test_occlusions_without_features_are_refused(tmp_path) -> None:
    concepts = {**PLAN["concepts"], "features": False}
    plan = parse_config({**PLAN, "concepts": concepts}, Plan, where="plan")
    engines = {"untrained@scenes": Engine(load_network("untrained@scenes"), device="cpu")}
    with pytest.raises(LimenError, match="features: true"):
        Runner(plan, Store(tmp_path), engines, Progress()).run()


def test_visuals_are_of_the_drawn_atoms_two_of_each(made) -> None:
    visuals = part(made, "visualizations/neurons @ stage4/maco")
    tensors, rows = visuals.tensors("visuals.safetensors"), visuals.rows()
    atoms = tensors["atoms"]
    assert len(set(atoms.tolist())) == 3
    assert tensors["pictures"].shape == (3, 2, 146, 146, 3)
    assert tensors["opacity"].shape == (3, 2, 146, 146)
    assert sorted(rows["atom"]) == sorted([*atoms, *atoms])
    assert not np.array_equal(tensors["pictures"][:, 0], tensors["pictures"][:, 1])
    assert np.isfinite(rows[["reached", "null", "natural", "spectrum_error"]]).all(axis=None)


def test_the_natural_peak_is_the_largest_projection_on_a_training_picture(made) -> None:
    _, _, engine, _ = made
    rows = part(made, "visualizations/neurons @ stage4/maco").rows()
    maps = engine.tap(engine.inputs(load_images("scenes", "train", 12).pictures), "stage4")
    peaks = maps.amax(dim=(0, 2, 3))
    assert np.allclose(rows["natural"], peaks.numpy()[rows["atom"]], atol=1e-4)


def test_a_visualisation_that_needs_a_picture_is_refused_in_a_plan(tmp_path) -> None:
    from bench.plan import load_plan

    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: x\nnetwork: tiny@digits\nconcepts: {images: {set: digits}, layers: [a], k: 2, dictionaries: [pca], "
        "visualizations: [accentuation]}\n"
    )
    with pytest.raises(LimenError, match=r"concepts.visualizations': 'accentuation' begins with a picture of its own"):
        load_plan(path)
