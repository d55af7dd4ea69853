"""The preference protocol: every pair equally often on both sides, mirrored lists, and an audit that sees each fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.build import _tables, build, draw, plan, verify
from stimuli.designs.preference import preference
from stimuli.protocol import Tables
from stimuli.records import StudyFile
from stimuli.study import load_study

METHODS = ("saliency", "grad_cam", "image_gradient")
DESIGN = {"size": 32, "methods": METHODS}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "prefer", "version": 1, "protocol": "preference", "title": "Which?", "run": "demo", "quota": 8,
        "conditions": ("pairs",), "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("preference")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def tables(store: Store) -> Tables:
    made = plan(_file(), store)
    return _tables(made, draw(made))


def test_over_all_lists_each_pair_has_each_side_equally_often(tables: Tables) -> None:
    sides = Counter((f["left"], f["right"]) for f in map(json.loads, tables.trials["factors"]))
    assert len(sides) == 6
    assert set(sides.values()) == {4}


def test_names_of_methods_are_in_no_payload(tables: Tables) -> None:
    assert not any(name in payload for payload in tables.trials["payload"] for name in METHODS)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(repeats=st.integers(1, 4), pairs=st.integers(1, 4), seed=st.integers(0, 10**6), few=st.booleans())
def test_any_size_keeps_the_rules(store: Store, repeats: int, pairs: int, seed: int, few: bool) -> None:
    methods = METHODS[:2] if few else METHODS
    options = {"size": 32, "methods": methods, "repeats": repeats, "lists": 2 * pairs}
    made = plan(_file(design=options, seed=seed), store)
    drawn = draw(made)
    sides = Counter((f["left"], f["right"]) for f in (json.loads(t.factors) for t in drawn.trials))
    assert set(sides.values()) == {repeats * pairs}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(store: Store) -> None:
    first, again, other = (draw(plan(_file(seed=seed), store)) for seed in (0, 0, 1))
    assert first == again
    assert first.trials != other.trials


def test_a_share_of_wrong_predictions_is_kept(store: Store) -> None:
    drawn = draw(plan(_file(design={**DESIGN, "wrong_share": 0.5}), store))
    assert sum(not item.model_correct for item in drawn.items) == 6


def test_a_built_set_verifies(store: Store) -> None:
    assert verify(build(_file(study="prefer-built"), store)) == []


def _change(tables: Tables, part: str, change: Callable[[dict[str, Any]], None], row: int = 0) -> Tables:
    trials = tables.trials.copy()
    value = json.loads(str(trials.loc[row, part]))
    change(value)
    trials.loc[row, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _swap(factors: dict[str, Any]) -> None:
    factors["left"], factors["right"] = factors["right"], factors["left"]


def _item(tables: Tables, from_row: int) -> Tables:
    trials = tables.trials.copy()
    trials.loc[0, "item_id"] = trials.loc[from_row, "item_id"]
    return replace(tables, trials=trials)


def _share(tables: Tables) -> Tables:
    """Give list 3 and 4 the images of lists 1 and 2."""
    trials = tables.trials.copy()
    first = trials.loc[trials["list"] == 1, "item_id"].to_numpy()
    for number in (3, 4):
        trials.loc[trials["list"] == number, "item_id"] = first
    return replace(tables, trials=trials)


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "sides": (lambda t: _change(t, "factors", _swap), "on the left of"),
    "another pair": (lambda t: _change(t, "factors", lambda f: f.update(left=f["right"])), "not planned"),
    "a trial less": (lambda t: replace(t, trials=t.trials.drop(index=0)), "planned are 2"),
    "an image twice": (lambda t: _item(t, 1), "shows an image twice"),
    "an answer expected": (
        lambda t: _change(t, "answer", lambda a: a.update(expected="x")), "where nothing is right"),
    "another picture": (
        lambda t: _change(t, "payload", lambda p: p["panels"][0].update(pictures=["0" * 64])), "item's picture"),
    "a label": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(label="A")), "more or less of an option"),
    "a method named": (lambda t: _change(t, "payload", lambda p: p["panels"][0].update(label="grad_cam")), "sends 'grad_cam'"),
    "telling ids": (lambda t: _change(t, "payload", lambda p: p.update(options=["a", "b"])), "not opaque"),
    "two pictures of one": (
        lambda t: _change(t, "payload", lambda p: p["faces"][0].update(pictures=["0" * 64])), "allowed is one"),
    "no mirror": (
        lambda t: replace(t, trials=t.trials.assign(item_id=t.trials["item_id"].where(
            t.trials["list"] != 2, t.trials.loc[t.trials["list"] == 2, "item_id"].iloc[::-1].set_axis(
                t.trials.index[t.trials["list"] == 2]).reindex(t.trials.index)))), "sides exchanged"),
    "a list less": (
        lambda t: replace(t, cells=t.cells[t.cells["list"] < 4], trials=t.trials[t.trials["list"] < 4]), "planned are 1 to 4"),
    "shared images": (_share, "share an image"),
}  # fmt: skip


def test_the_drawn_tables_break_no_rule(tables: Tables) -> None:
    assert preference.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_audit_finds(tables: Tables, name: str) -> None:
    plant, told = VIOLATIONS[name]
    faults = preference.audit(plant(tables))  # type: ignore[attr-defined]
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"conditions": ("a", "b")}, "allowed is one"),
        ({"design": {**DESIGN, "lists": 3}}, "even numbers"),
        ({"design": {**DESIGN, "methods": ("saliency", "saliency")}}, "may stand once"),
        ({"design": {**DESIGN, "methods": ("saliency", "gradcam")}}, "grad_cam"),
        ({"design": {**DESIGN, "repeats": 20, "lists": 4}}, "96"),
        ({"quota": 3}, "quota"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LimenError, match=told):
        build(_file(**changes), store)


def test_the_example_study_file_is_valid() -> None:
    assert load_study("configs/studies/preference.yaml").protocol == "preference"


def test_drawing_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.preference; print([n for n in ('torch', 'flask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
