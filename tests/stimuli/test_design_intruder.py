"""The intruder protocol: one crop of another concept, each place equally often, and an audit that sees each fault."""

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
from bench.store import Store
from fake_crops import make_fake_crops
from stimuli.build import _tables, build, draw, plan, verify
from stimuli.designs.intruder import intruder
from stimuli.protocol import Tables
from stimuli.records import StudyFile
from stimuli.study import load_study

DESIGN = {"size": 32, "layer": "late", "trials": 10}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "odd", "version": 1, "protocol": "intruder", "title": "Odd?", "run": "crops", "quota": 10,
        "conditions": ("neurons", "nmf"), "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("intruder")
    make_fake_crops(root)
    return Store(root)


@pytest.fixture(scope="module")
def tables(store: Store) -> Tables:
    made = plan(_file(), store)
    return _tables(made, draw(made))


def test_each_item_has_its_intruder_at_every_place_once(tables: Tables) -> None:
    for _, trials in tables.trials.groupby("item_id"):
        places = [
            json.loads(row["payload"])["options"].index(json.loads(row["answer"])["expected"])
            for row in trials.to_dict("records")
        ]
        assert sorted(places) == [0, 1, 2, 3, 4]


def test_the_crops_are_of_the_class_that_the_item_says(store: Store, tables: Tables) -> None:
    made = plan(_file(), store)
    classes = made.material.pool.rows.set_index("index")["class_name"]
    for row in tables.items.to_dict("records"):
        sources = json.loads(row["facts"])["sources"]
        assert set(classes.loc[sources]) == {row["label"]}
        assert min(sources) >= 64


def test_the_intruder_is_from_no_picture_of_the_concept(store: Store, tables: Tables) -> None:
    from stimuli.designs._crops import read_crops

    made = plan(_file(), store)
    for row in tables.items.to_dict("records"):
        facts = json.loads(row["facts"])
        crops = read_crops(made.material, row["group"], "late")
        assert facts["sources"][-1] not in crops.source[facts["atom"]]
        assert 7 not in (facts["atom"], facts["other"])


def test_luminance_is_matched_more_closely_than_by_rank(store: Store) -> None:
    def gap(match: str) -> float:
        made = plan(_file(design={**DESIGN, "match": match}), store)
        from stimuli.designs._crops import read_crops

        total = 0.0
        for item in draw(made).items:
            facts, crops = json.loads(item.facts), read_crops(made.material, item.group, "late")
            light = [crops.pictures[facts["atom"], place].mean() for place in facts["ranks"][:-1]]
            total += abs(crops.pictures[facts["other"], facts["ranks"][-1]].mean() - sum(light) / len(light))
        return total

    assert gap("luminance") < gap("rank")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    trials=st.integers(1, 7),
    majority=st.integers(2, 5),
    lists=st.integers(1, 7),
    same=st.booleans(),
    seed=st.integers(0, 999),
)
def test_any_size_keeps_the_rules(store: Store, trials: int, majority: int, lists: int, same: bool, seed: int) -> None:
    options = {"size": 32, "layer": "late", "trials": trials, "majority": majority, "lists": lists, "same_class": same}
    drawn = draw(plan(_file(design=options, seed=seed), store))
    for cell in drawn.cells:
        mine = [t for t in drawn.trials if t.cell == cell.cell]
        counts = Counter(json.loads(t.payload)["options"].index(json.loads(t.answer)["expected"]) for t in mine)
        assert max(counts.values()) <= -(-trials // (majority + 1))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(store: Store) -> None:
    first, again, other = (draw(plan(_file(seed=seed), store)) for seed in (0, 0, 1))
    assert (first.pictures, first.trials, first.cells) == (again.pictures, again.trials, again.cells)
    assert first.trials != other.trials


def test_a_built_set_verifies(store: Store) -> None:
    assert verify(build(_file(study="odd-built"), store)) == []


def _change(tables: Tables, part: str, change: Callable[[dict[str, Any]], None]) -> Tables:
    trials = tables.trials.copy()
    value = json.loads(str(trials.loc[0, part]))
    change(value)
    trials.loc[0, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _facts(tables: Tables, change: Callable[[dict[str, Any]], None]) -> Tables:
    items = tables.items.copy()
    value = json.loads(str(items.loc[0, "facts"]))
    change(value)
    items.loc[0, "facts"] = json.dumps(value)
    return replace(tables, items=items)


def _move(payload: dict[str, Any]) -> None:
    payload["options"] = payload["options"][1:] + payload["options"][:1]
    payload["faces"] = payload["faces"][1:] + payload["faces"][:1]


def _twice(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    trials.loc[1, "item_id"] = trials.loc[0, "item_id"]
    return replace(tables, trials=trials)


def _all_left(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    for row in range(10):
        payload, answer = (json.loads(str(trials.loc[row, name])) for name in ("payload", "answer"))
        while payload["options"][0] != answer["expected"]:
            _move(payload)
        trials.loc[row, "payload"] = json.dumps(payload)
    return replace(tables, trials=trials)


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "another answer": (
        lambda t: _change(t, "payload", lambda p: p["faces"].reverse() or p["options"].reverse() or p["faces"].append(p["faces"].pop(0))),
        "expect the crop"),
    "an answer not offered": (lambda t: _change(t, "answer", lambda a: a.update(expected="x")), "expect the crop"),
    "a strange crop": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(pictures=["0" * 64])), "item's crops"),
    "a label": (lambda t: _change(t, "payload", lambda p: p["faces"][0].update(label="A")), "more than the crops"),
    "a condition named": (lambda t: _change(t, "payload", lambda p: p.update(question="nmf")), "sends 'nmf'"),
    "telling ids": (lambda t: _change(t, "payload", lambda p: p["options"].__setitem__(0, "a")), "not opaque"),
    "a place moved": (lambda t: _change(t, "payload", _move), "move on by one"),
    "one place": (_all_left, "differ by more than one"),
    "twice": (_twice, "different ones"),
    "a trial less": (lambda t: replace(t, trials=t.trials.drop(index=0)), "planned are 10"),
    "another condition's": (lambda t: replace(t, items=t.items.assign(group="nmf")), "concepts of condition 'nmf'"),
    "its own intruder": (lambda t: _facts(t, lambda f: f.update(other=f["atom"])), "of the same concept"),
    "nearly its own intruder": (lambda t: _facts(t, lambda f: f.update(cosine=0.99)), "a cosine of 0.99"),
    "one picture": (lambda t: _facts(t, lambda f: f.update(sources=[1, 1, 2, 3, 4])), "from one picture"),
    "two alike": (lambda t: _facts(t, lambda f: f["pictures"].__setitem__(0, f["pictures"][1])), "look the same"),
    "no class": (lambda t: replace(t, items=t.items.assign(label="")), "no class"),
}  # fmt: skip


def test_concepts_of_nearly_one_direction_are_never_in_one_trial_and_are_counted(store: Store) -> None:
    def met(limit: float) -> tuple[bool, int]:
        drawn = draw(plan(_file(design={**DESIGN, "max_cosine": limit}), store))
        pairs = [{facts["atom"], facts["other"]} for facts in (json.loads(item.facts) for item in drawn.items)]
        return {0, 1} in pairs, drawn.pool["kinds"][0]["pairs_too_alike"]

    assert met(0.8) == (False, 1)
    assert met(1.0)[1] == 0


def test_the_drawn_tables_break_no_rule(tables: Tables) -> None:
    assert intruder.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_audit_finds(tables: Tables, name: str) -> None:
    plant, told = VIOLATIONS[name]
    faults = intruder.audit(plant(tables))  # type: ignore[attr-defined]
    assert any(told in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"design": {**DESIGN, "trials": 40}}, "concepts and classes of 'neurons' with 4 crops"),
        ({"design": {**DESIGN, "layer": "lat"}}, "late"),
        ({"conditions": ("nfm",)}, "nmf"),
        ({"quota": 4}, "quota"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LimenError, match=told):
        build(_file(**changes), store)


def test_the_example_study_file_is_valid() -> None:
    assert load_study("configs/studies/intruder.yaml").protocol == "intruder"


def test_drawing_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.intruder; print([n for n in ('torch', 'flask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
