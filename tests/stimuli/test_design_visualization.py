"""The visualization protocol: batches, kinds of references, order, and an audit that finds every planted violation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.build import build, verify
from stimuli.designs._visualization_draw import Layout
from stimuli.designs.visualization import visualization
from stimuli.protocol import Tables
from stimuli.records import Bots, StudyFile

DESIGN: dict[str, Any] = {
    "schemes": ["max-4", "min-max-4"], "units": 4, "per_list": 2, "lists": 4, "batches": 3, "practice": 2, "catch": 2,
    "repeats": 2, "size": 64,
}  # fmt: skip
KINDS = ("natural", "synthetic", "mixed", "blurred", "none")


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "kinds", "version": 1, "protocol": "visualization", "title": "Parts", "run": "demo", "conditions": KINDS,
        "contact": "a@b.org", "design": DESIGN, "quota": 8, "seed": 5,
    }  # fmt: skip
    facts |= changes
    return StudyFile(**facts, bots=Bots(accuracy=dict.fromkeys(facts["conditions"], (0.7,))))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("visualization")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def made(store: Store) -> Artifact:
    return build(_file(), store)


@pytest.fixture(scope="module")
def within(store: Store) -> Artifact:
    return build(
        _file(study="within", conditions=("all",), design={**DESIGN, "kinds": ["none", "natural", "synthetic"]}), store
    )


def _audit(made: Artifact, **changes: pd.DataFrame) -> list[str]:
    study, options = StudyFile.model_validate(made.config["file"]), made.config["design"]["options"]
    held = {name: made.rows(f"{name}.parquet") for name in ("trials", "cells", "items")} | changes
    tables = Tables(study, options, held["trials"], held["cells"], held["items"])
    return visualization.audit(tables)  # type: ignore[attr-defined,no-any-return]


def _read(made: Artifact) -> list[dict[str, Any]]:
    rows = made.rows("trials.parquet").to_dict("records")
    return [{str(k): json.loads(v) if k in {"payload", "answer", "factors"} else v for k, v in r.items()} for r in rows]


def _items(made: Artifact) -> dict[str, Any]:
    return {row["item_id"]: json.loads(row["facts"]) for row in made.rows("items.parquet").to_dict("records")}


def _main(row: dict[str, Any]) -> bool:
    return bool(row["phase"] == "test" and not row["is_catch"] and not row["factors"]["repeated"])


def test_a_built_set_verifies_between_and_within_people(made: Artifact, within: Artifact) -> None:
    assert verify(made) == []
    assert verify(within) == []


def test_each_kind_shows_its_own_references(made: Artifact) -> None:
    items = _items(made)
    for row in filter(_main, _read(made)):
        held, kind = items[row["item_id"]], row["factors"]["reference"]
        assert kind == row["condition"]
        batch = held["batches"][row["factors"]["batch"]]["max"]
        natural, soft = {one["picture"] for one in batch}, {one["blurred"] for one in batch}
        shown = {
            name for grid in row["payload"]["references"] if grid["polarity"] == "max" for name in grid["pictures"]
        }
        expected = {
            "natural": (4, 0, 0),
            "blurred": (0, 4, 0),
            "synthetic": (0, 0, 4),
            "mixed": (2, 0, 2),
            "none": (0, 0, 0),
        }
        assert (len(shown & natural), len(shown & soft), len(shown & set(held["made"]["max"]))) == expected[kind]


def test_people_of_all_conditions_are_asked_about_the_same_pictures_in_the_same_order(made: Artifact) -> None:
    for number in (1, 2, 3, 4):
        orders = {
            json.dumps([(r["item_id"], sorted(r["payload"]["queries"])) for r in _read(made) if _main(r) and r["cell"] == f"{kind}-{number}"])
            for kind in KINDS
        }  # fmt: skip
        assert len(orders) == 1


def test_queries_are_not_references_but_in_catch_trials(made: Artifact) -> None:
    for row in _read(made):
        shown = {name for grid in row["payload"]["references"] for name in grid["pictures"]}
        assert bool(shown & set(row["payload"]["queries"])) == row["is_catch"]
    caught = Counter(row["condition"] for row in _read(made) if row["is_catch"])
    assert caught == {kind: 8 for kind in KINDS if kind != "none"}


def test_batch_0_is_for_practice_and_catch_trials_only(made: Artifact) -> None:
    for row in _read(made):
        assert (row["factors"]["batch"] == 0) == (row["is_catch"] or row["phase"] == "practice")


def test_repeated_questions_show_the_same_pictures_with_sides_exchanged(made: Artifact) -> None:
    rows = {(row["cell"], row["trial_id"]): row for row in _read(made)}
    repeated = [row for row in rows.values() if row["factors"]["repeated"]]
    assert len(repeated) == 2 * 4 * 5
    for row in repeated:
        first = rows[row["cell"], row["answer"]["repeat_of"]]
        assert row["payload"]["queries"] == first["payload"]["queries"][::-1]
        assert row["payload"]["references"] == first["payload"]["references"]


def test_within_people_none_comes_first_and_the_others_take_turns(within: Artifact) -> None:
    orders = {
        cell: list(
            dict.fromkeys(row["block"] for row in _read(within) if row["cell"] == cell and row["phase"] == "test")
        )
        for cell in within.rows("cells.parquet")["cell"]
    }
    assert {order[0] for order in orders.values()} == {"test none"}
    assert Counter(order[1] for order in orders.values()) == {"test natural": 2, "test synthetic": 2}


def test_within_people_a_unit_never_shows_a_query_twice(within: Artifact) -> None:
    for cell in within.rows("cells.parquet")["cell"]:
        asked = [tuple(sorted(r["payload"]["queries"])) for r in _read(within) if r["cell"] == cell and _main(r)]
        assert len(set(asked)) == len(asked) == 2 * 2 * 3


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 4, 9]), st.integers(1, 4), st.sampled_from([100.0, 95.0, 80.0]), st.integers(0, 9))
def test_batches_are_disjoint_and_take_one_picture_of_each_bucket(
    refs: int, count: int, hard: float, seed: int
) -> None:
    layout = Layout(refs, count, hard, seed)
    order = np.random.default_rng(seed).permutation(300)
    rank = {int(row): place for place, row in enumerate(order)}
    batches = layout.cut(order, ("x",))
    used = [row for batch in batches for part in batch.values() for row in part]
    assert len(used) == len(set(used)) == 2 * (count + 1) * (refs + 1)
    for batch in batches:
        assert [rank[row] // (count + 1) for row in batch["max"]] == list(range(1, refs + 1))
    inside = layout.inside(300)
    assert all(rank[row] < inside for batch in batches for row in (*batch["high"], *batch["max"]))
    assert all(rank[row] >= 300 - inside for batch in batches for row in (*batch["low"], *batch["min"]))


def test_a_harder_query_stands_at_its_percentile(store: Store) -> None:
    hard = build(
        _file(study="hard", conditions=("natural",), design={**DESIGN, "hardness": 70, "schemes": ["max-1"]}), store
    )
    assert verify(hard) == []
    for held in _items(hard).values():
        for batch in held["batches"][1:]:
            assert batch["high"][0]["percentile"] == pytest.approx(70, abs=3)
            assert batch["low"][0]["percentile"] == pytest.approx(30, abs=3)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, fake_run: Callable[..., Artifact], made: Artifact) -> None:
    fake_run(tmp_path)
    again = build(_file(), Store(tmp_path))
    assert (again.key, again.manifest["files"]) == (made.key, made.manifest["files"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conditions": ("all", "natural")}, "key 'conditions': given all, natural"),
        ({"design": {**DESIGN, "task": "occlusion"}}, "allowed are max-1, max-4 and max-9"),
        ({"design": {**DESIGN, "schemes": ["max-1"]}}, "with mixed references, which need two"),
        ({"design": {**DESIGN, "units": 8}}, "key 'design.units': given 8, allowed is less than 8"),
        ({"design": {**DESIGN, "batches": 9}}, "lower units or batches"),
        ({"design": {**DESIGN, "synthetic": "macos"}}, "did you mean"),
        ({"design": {**DESIGN, "repeats": 30}}, "key 'design.repeats': given 30, allowed is at most 4"),
        (
            {"design": {**DESIGN, "batches": 1}, "conditions": ("all",)},
            "key 'design.batches': given 1, allowed is at least 2",
        ),
        ({"quota": 3}, "key 'quota': given 3"),
    ],
)
def test_a_study_that_cannot_be_drawn_is_refused(store: Store, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimenError, match=sentence):
        build(_file(study="refused", **changes), store)


def test_a_study_without_made_pictures_draws_on_none(store: Store) -> None:
    plain = build(_file(study="plain", conditions=("natural", "none")), store)
    assert not [role for role in plain.manifest["parents"] if role.startswith("visualizations")]


def _edit(made: Artifact, pick: Callable[[dict[str, Any]], bool], column: str, change: Callable[[Any], Any]) -> Any:
    table = made.rows("trials.parquet")
    place = next(i for i, row in enumerate(_read(made)) if pick(row))
    table.loc[table.index[place], column] = json.dumps(change(json.loads(table.iloc[place][column])))
    return table


def _repeated(row: dict[str, Any]) -> bool:
    return bool(row["factors"]["repeated"])


@pytest.mark.parametrize(
    ("pick", "column", "change", "fault"),
    [
        (_main, "payload", lambda p: {**p, "references": []}, "shows other max references"),
        (_main, "payload", lambda p: {**p, "queries": p["queries"][::-1]}, "does not expect the picture that activates"),
        (_main, "payload", lambda p: {**p, "queries": [p["references"][0]["pictures"][0], p["queries"][1]]}, "has a query among"),
        (_main, "factors", lambda f: {**f, "batch": 0}, "batch 0 is for practice and catch trials only"),
        (_main, "factors", lambda f: {**f, "reference": "none"}, "once with each kind of references"),
        (_main, "factors", lambda f: {**f, "atom": 99}, "that are not those of its item"),
        (_main, "answer", lambda a: {**a, "repeat_of": "t0"}, "outside the repeated questions"),
        (_repeated, "answer", lambda a: {**a, "repeat_of": "t0"}, "does not repeat a question of its cell"),
        (_repeated, "payload", lambda p: {**p, "references": []}, "repeats a question with other references"),
        (lambda r: r["is_catch"], "payload", lambda p: {**p, "queries": ["0" * 64, "1" * 64]}, "not among the strong references"),
    ],
)  # fmt: skip
def test_the_audit_finds_a_broken_trial(
    made: Artifact, pick: Callable[..., bool], column: str, change: Callable[[Any], Any], fault: str
) -> None:
    assert _audit(made) == []
    assert any(fault in one for one in _audit(made, trials=_edit(made, pick, column, change)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda b: b[1]["max"].__setitem__(0, b[2]["max"][0]), "has a picture twice in its batches"),
        (lambda b: b[1]["max"].pop(), "has a batch without 1 query and 4 references"),
        (lambda b: b.pop(), "has 3 batches, planned are 4"),
        (lambda b: b[1]["high"][0].__setitem__("activation", 0.0), "not above 0"),
        (lambda b: b[1]["max"][0].__setitem__("activation", 99.0), "a query is not the most extreme picture"),
    ],
)
def test_the_audit_finds_a_broken_batch(made: Artifact, change: Callable[[Any], Any], fault: str) -> None:
    table = made.rows("items.parquet")
    facts = json.loads(table.loc[table.index[0], "facts"])
    change(facts["batches"])
    table.loc[table.index[0], "facts"] = json.dumps(facts)
    assert any(fault in one for one in _audit(made, items=table))


def test_the_audit_finds_a_list_out_of_turn_and_another_order(made: Artifact) -> None:
    table = made.rows("trials.parquet")
    one = table[table["cell"] == "natural-1"].assign(cell="natural-2", list=2)
    found = _audit(made, trials=pd.concat([table[table["cell"] != "natural-2"], one]))
    assert any("another order" in fault for fault in found)
    wrong = table.copy()
    for kind in KINDS:
        part = table[table["cell"] == f"{kind}-1"].assign(cell=f"{kind}-2", list=2)
        wrong = pd.concat([wrong[wrong["cell"] != f"{kind}-2"], part])
    assert any("its turn of the round robin" in fault for fault in _audit(made, trials=wrong))


def test_what_differs_between_people_is_told_at_the_end_only(made: Artifact) -> None:
    texts = StudyFile.model_validate_json(made.file("study.json").read_text(encoding="utf-8")).texts
    assert texts is not None
    before = " ".join(page.body for page in texts.instructions)
    for word in ("some people", "made by a computer", "one part of the study"):
        assert word not in before
    assert "pictures made by a computer" in texts.debrief.body
    assert "\n\n**A few questions were easy" in texts.debrief.body
