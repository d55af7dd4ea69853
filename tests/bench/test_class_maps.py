"""Explanations of several classes of a picture: which ones, and that a run leaves them beside those of the prediction."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import zoo
from bench.plan import load_plan
from bench.registry import LimenError
from bench.runner import Progress, Runner, explained_classes, load_engines, true_classes
from bench.store import Store

LOGITS = np.array([[5.0, 4, 3, 2, 1], [1.0, 2, 3, 4, 5], [0.0, 9, 1, 8, 2]])


def test_right_predictions_give_the_top_classes_and_wrong_ones_the_truth_in_the_last_place() -> None:
    found = explained_classes(LOGITS, [0, 0, 3], 4)
    assert found.tolist() == [[0, 1, 2, 3], [4, 3, 2, 0], [1, 3, 4, 2]]


@pytest.mark.parametrize("count", [1, 6])
def test_more_classes_than_the_network_has_are_refused(count: int) -> None:
    with pytest.raises(LimenError, match="allowed are 2 to 5"):
        explained_classes(LOGITS, [0, 0, 3], count)


def test_classes_are_matched_by_name() -> None:
    assert true_classes(["b", "a"], ["a", "b"], [0, 1, 1], "plan") == [1, 0, 0]
    assert true_classes([], ["a", "b"], [0, 1], "plan") == [0, 1]
    with pytest.raises(LimenError, match="class 'c'"):
        true_classes(["a", "b"], ["a", "c"], [1], "plan")


@pytest.mark.long
def test_a_run_leaves_the_maps_of_each_class(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    zoo.load_network("tiny@digits", cache=cache, progress=False)
    monkeypatch.setenv("LIMEN_CACHE", str(cache))
    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: several\nnetwork: tiny@digits\nimages: {set: digits, n: 10}\nattributions: [gradient_input]\nexplained_classes: 4\n"
    )
    plan, store, begun = load_plan(path), Store(tmp_path / "store"), []
    totals: list[int] = []
    engines = load_engines(plan, device="cpu", precision="fp32", progress=False)
    progress = Progress(total=totals.append, begin=begun.append)
    made = Runner(plan, store, engines, progress).run().manifest["parents"]
    assert totals == [len(begun)]
    held = store.open("class_explanations", made["class_explanations/gradient_input"])
    several = held.tensors("maps.safetensors")
    single = store.open("explanations", made["explanations/gradient_input"]).tensors("maps.safetensors")["maps"]
    rows = store.open("predictions", made["predictions"]).rows()
    names = json.loads(held.file("classes.json").read_text())
    assert several["maps"].shape == (10, 4, *single.shape[1:])
    assert several["classes"][:, 0].tolist() == rows["predicted"].tolist()
    assert [names[index] for index in several["classes"][:, 0]] == rows["predicted_class"].tolist()
    np.testing.assert_allclose(several["maps"][:, 0], single, atol=1e-5)
    assert not np.allclose(several["maps"][:, 1], single)
