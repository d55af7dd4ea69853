"""Concept explanations of a run: each picture in the terms of its own class's concepts, and where crops were cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import zoo
from bench.cells import Cells
from bench.concept_explanations import keep_concepts
from bench.craft import craft
from bench.engine import Engine
from bench.plan import CraftSpec, load_plan
from bench.registry import LimenError
from bench.runner import Progress, Runner, load_engines
from bench.store import Artifact, Store

PLAN = """
name: concepts-of-classes
network: tiny@digits
images: {set: digits, n: 30}
attributions: [gradient_input]
craft: {k: 3, stride: 0.5}
"""


@pytest.fixture
def made(engine: Engine, tmp_path: Path) -> tuple[Artifact, np.ndarray, Engine, np.ndarray]:
    """Return what was kept, the answers, the engine and the pictures."""
    pictures = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3)).astype(np.uint8)
    answered = np.tile([1, 3, 3], 10)
    cells = Cells(Store(tmp_path / "store"), Progress(), 0)
    place = {"base": {}, "suffix": "", "seed": 0}
    return (
        keep_concepts(cells, CraftSpec(k=3, stride=0.5), engine, pictures, answered, **place),
        answered,
        engine,
        pictures,
    )


@pytest.mark.long
def test_a_plan_keeps_concepts_beside_its_attributions(tmp_path: Path) -> None:
    zoo.load_network("tiny@digits", cache=tmp_path / "cache", progress=False)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    plan, store = load_plan(path), Store(tmp_path / "store")
    totals: list[int] = []
    begun: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMEN_CACHE", str(tmp_path / "cache"))
        engines = load_engines(plan, device="cpu", precision="fp32", progress=False)
        run = Runner(plan, store, engines, Progress(total=totals.append, begin=begun.append)).run()
    assert totals == [len(begun)]
    parents = run.manifest["parents"]
    kept = store.open("concept_explanations", parents["concept_explanations/craft"])
    rows = store.open("predictions", parents["predictions"]).rows()
    assert kept.tensors("concepts.safetensors")["answered"].tolist() == rows["predicted"].tolist()
    assert kept.manifest["parents"] == {name: parents[name] for name in ("images", "predictions")}


def test_every_picture_is_in_the_terms_of_the_class_it_is_answered_as(made) -> None:
    kept, answered, engine, pictures = made
    tensors = kept.tensors("concepts.safetensors")
    assert len(np.unique(answered)) > 1
    assert tensors["answered"].tolist() == answered.tolist()
    number = int(np.bincount(answered).argmax())
    members = np.flatnonzero(tensors["answered"] == number)
    found = craft(engine, pictures[members], target_class=number, k=3, stride=0.5, seed=0)
    np.testing.assert_allclose(tensors["importance"][members], found.importance, atol=1e-6)
    np.testing.assert_allclose(tensors["codes"][members], found.codes, atol=1e-5)
    each = len(found.crops) // len(members)
    np.testing.assert_allclose(
        tensors["crop_codes"][members], found.crop_codes.reshape(len(members), each, 3), atol=1e-5
    )


def test_a_crop_is_cut_where_the_shares_say(made) -> None:
    kept, answered, engine, pictures = made
    crops = kept.tensors("concepts.safetensors")["crops"]
    number = int(np.bincount(answered).argmax())
    members = np.flatnonzero(answered == number)
    found = craft(engine, pictures[members], target_class=number, k=3, stride=0.5, seed=0)
    height, width = pictures.shape[1:3]
    top, left, tall, wide = np.rint(crops[5] * [height, width, height, width]).astype(int)
    np.testing.assert_array_equal(
        pictures[members[0]][top : top + tall, left : left + wide], found.crops.cut(np.array([5]))[0]
    )
    assert crops.min() >= 0
    assert (crops[:, :2] + crops[:, 2:]).max() <= 1


def test_the_dictionary_of_each_class_is_kept(made) -> None:
    kept, answered, _, _ = made
    held = {name for name in kept.manifest["files"] if name.startswith("class-")}
    assert held == {f"class-{number}.safetensors" for number in np.unique(answered)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (PLAN.replace("k: 3", "method: nmff"), "key 'craft.method': unknown name 'nmff'.*did you mean 'nmf'"),
        (
            "name: no-maps\nnetwork: tiny@digits\ncraft: {k: 3}\n"
            "concepts: {images: {set: digits}, layers: [x], k: [2], dictionaries: [pca]}\n",
            "key 'craft': given in a plan without attributions",
        ),
    ],
)
def test_a_plan_whose_concepts_cannot_be_found_is_refused(tmp_path, text: str, sentence: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(LimenError, match=sentence):
        load_plan(path)


@pytest.mark.parametrize("name", ["bias", "classes", "pairs"])
def test_the_plans_of_the_studies_are_read(name: str) -> None:
    assert load_plan(f"configs/{name}.yaml").name == name
