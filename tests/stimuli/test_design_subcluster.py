"""The binary-fit protocol: a crop, its sub-concept and its concept, mirrored lists, and an audit that sees each fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.registry import LimenError
from bench.store import Store
from fake_crops import make_fake_crops
from stimuli.build import _tables, build, draw, plan, verify
from stimuli.designs.subcluster import k_means, subcluster
from stimuli.protocol import Tables
from stimuli.records import StudyFile
from stimuli.study import load_study

DESIGN = {"size": 32, "layer": "late", "trials": 10}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "fit", "version": 1, "protocol": "subcluster", "title": "Odd?", "run": "crops", "quota": 10,
        "conditions": ("neurons", "nmf"), "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("subcluster")
    make_fake_crops(root)
    return Store(root)


@pytest.fixture(scope="module")
def tables(store: Store) -> Tables:
    made = plan(_file(), store)
    return _tables(made, draw(made))


def test_k_means_finds_groups_that_are_apart() -> None:
    draw = np.random.default_rng(0)
    points = np.concatenate([draw.normal(centre, 0.1, (10, 2)) for centre in (0, 3)])
    labels = k_means(points, 2, draw)
    assert len(set(labels[:10])) == len(set(labels[10:])) == 1
    assert labels[0] != labels[-1]
    assert k_means(points[:1], 2, draw).tolist() == [0]


def test_the_groups_are_of_what_is_told(store: Store, tables: Tables) -> None:
    from stimuli.designs._crops import read_crops

    made = plan(_file(), store)
    for row in tables.items.to_dict("records"):
        facts = json.loads(row["facts"])
        crops = read_crops(made.material, row["group"], "late")
        assert set(facts["sources"]) <= set(crops.source[facts["atom"]].tolist())
        assert facts["members"][:4] == [facts["cluster"]] * 4
        assert set(facts["members"][4:]) != {facts["cluster"]}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trials=st.integers(1, 7), lists=st.integers(1, 3), references=st.integers(2, 4), seed=st.integers(0, 999))
def test_any_size_keeps_the_rules(store: Store, trials: int, lists: int, references: int, seed: int) -> None:
    options = {"size": 32, "layer": "late", "trials": trials, "lists": 2 * lists, "references": references}
    drawn = draw(plan(_file(design=options, seed=seed), store))
    left = [json.loads(t.payload)["options"].index(json.loads(t.answer)["expected"]) for t in drawn.trials]
    assert 2 * sum(left) == len(left)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(store: Store) -> None:
    first, again, other = (draw(plan(_file(seed=seed), store)) for seed in (0, 0, 1))
    assert (first.pictures, first.trials, first.cells) == (again.pictures, again.trials, again.cells)
    assert first.trials != other.trials


def test_a_built_set_verifies(store: Store) -> None:
    assert verify(build(_file(study="fit-built"), store)) == []


def _change(tables: Tables, part: str, change: Callable[[dict[str, Any]], Any]) -> Tables:
    trials = tables.trials.copy()
    value = json.loads(str(trials.loc[0, part]))
    change(value)
    trials.loc[0, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _facts(tables: Tables, change: Callable[[dict[str, Any]], Any]) -> Tables:
    items = tables.items.copy()
    value = json.loads(str(items.loc[0, "facts"]))
    change(value)
    items.loc[0, "facts"] = json.dumps(value)
    return replace(tables, items=items)


def _twice(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    trials.loc[1, "item_id"] = trials.loc[0, "item_id"]
    return replace(tables, trials=trials)


def _all_left(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    for row in range(10):
        payload, answer = (json.loads(str(trials.loc[row, name])) for name in ("payload", "answer"))
        if payload["options"][0] != answer["expected"]:
            payload["options"].reverse()
            payload["faces"].reverse()
        trials.loc[row, "payload"] = json.dumps(payload)
    return replace(tables, trials=trials)


def _members(place: int) -> Callable[[Tables], Tables]:
    return lambda t: _facts(t, lambda f: f["members"].__setitem__(place, 1 - f["cluster"]))


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "another answer": (lambda t: _change(t, "payload", lambda p: p["faces"].reverse()), "expect the sub-concept"),
    "an answer not offered": (lambda t: _change(t, "answer", lambda a: a.update(expected="x")), "expect the sub-concept"),
    "a strange crop": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(pictures=["0" * 64])), "two groups"),
    "a strange piece": (lambda t: _change(t, "payload", lambda p: p["panels"][0].update(pictures=["0" * 64])), "item's crop"),
    "a label": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(label="A")), "something of a group"),
    "a condition named": (lambda t: _change(t, "payload", lambda p: p.update(question="nmf")), "sends 'nmf'"),
    "telling ids": (lambda t: _change(t, "payload", lambda p: p["options"].__setitem__(0, "a")), "not opaque"),
    "one side": (_all_left, "differ by more than one"),
    "no mirror": (_all_left, "sides exchanged"),
    "twice": (_twice, "planned are 10"),
    "a trial less": (lambda t: replace(t, trials=t.trials.drop(index=0)), "planned are 10"),
    "another condition's": (lambda t: replace(t, items=t.items.assign(group="nmf")), "concepts of condition 'nmf'"),
    "a strange piece of the group": (_members(1), "of another sub-concept"),
    "a strange query": (_members(0), "of another sub-concept"),
    "one sub-concept": (
        lambda t: _facts(t, lambda f: f.update(members=[f["cluster"]] * 7)), "is of one sub-concept"),
    "one picture": (lambda t: _facts(t, lambda f: f["sources"].__setitem__(0, f["sources"][1])), "from one picture"),
    "shown twice": (lambda t: _facts(t, lambda f: f["whole"].__setitem__(0, f["fine"][0])), "is shown twice"),
    "a crop less": (lambda t: _facts(t, lambda f: f["whole"].pop()), "3 crops each"),
}  # fmt: skip


def test_the_drawn_tables_break_no_rule(tables: Tables) -> None:
    assert subcluster.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_audit_finds(tables: Tables, name: str) -> None:
    plant, told = VIOLATIONS[name]
    faults = subcluster.audit(plant(tables))  # type: ignore[attr-defined]
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"design": {**DESIGN, "trials": 40}}, "sub-concepts of 'neurons' with 4 crops"),
        ({"design": {**DESIGN, "layer": "lat"}}, "late"),
        ({"design": {**DESIGN, "lists": 3}}, "even numbers"),
        ({"quota": 1}, "quota"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LimenError, match=told):
        build(_file(**changes), store)


def test_the_example_study_file_is_valid() -> None:
    assert load_study("configs/studies/subcluster.yaml").protocol == "subcluster"


def test_drawing_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.subcluster; print([n for n in ('torch', 'flask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
