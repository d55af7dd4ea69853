"""The basis protocol: rules of choice, balance, determinism, and an audit that finds every planted violation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
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
from stimuli.designs._basis_pairs import comparable, match
from stimuli.designs._references import Codes, deal, in_turns, spaced, strata
from stimuli.designs.basis import basis
from stimuli.protocol import Tables
from stimuli.records import Bots, StudyFile

DESIGN: dict[str, Any] = {
    "pairs": 2, "per_list": 1, "lists": 4, "query_pairs": 2, "maximum": 4, "minimum": 2, "high": [80, 100], "low": [0, 20],
    "practice": 2, "catch": 2, "references": ["free", "matched", "mixed"], "size": 64,
}  # fmt: skip


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "bases", "version": 1, "protocol": "basis", "title": "Parts", "run": "demo", "conditions": ("all",),
        "contact": "a@b.org", "design": DESIGN, "quota": 8, "seed": 5,
    }  # fmt: skip
    facts |= changes
    return StudyFile(**facts, bots=Bots(accuracy=dict.fromkeys(facts["conditions"], (0.7,))))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("basis")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def made(store: Store) -> Artifact:
    return build(_file(), store)


def _tables(made: Artifact, **changes: pd.DataFrame) -> Tables:
    study, options = StudyFile.model_validate(made.config["file"]), made.config["design"]["options"]
    held = {name: made.rows(f"{name}.parquet") for name in ("trials", "cells", "items")} | changes
    return Tables(study, options, held["trials"], held["cells"], held["items"])


def _audit(made: Artifact, **changes: pd.DataFrame) -> list[str]:
    return basis.audit(_tables(made, **changes))  # type: ignore[attr-defined,no-any-return]


def _read(made: Artifact) -> list[dict[str, Any]]:
    rows = made.rows("trials.parquet").to_dict("records")
    return [{str(k): json.loads(v) if k in {"payload", "answer", "factors"} else v for k, v in r.items()} for r in rows]


def test_a_built_set_verifies(made: Artifact) -> None:
    assert verify(made) == []


def test_every_pair_is_asked_about_in_both_bases_with_each_kind(made: Artifact) -> None:
    for cell in made.rows("cells.parquet")["cell"]:
        main = [r for r in _read(made) if r["cell"] == cell and r["phase"] == "test" and not r["is_catch"]]
        found = Counter((r["item_id"], r["factors"]["basis"], r["factors"]["reference"]) for r in main)
        assert set(found.values()) == {1}
        assert len(found) == 2 * 1 * 2 * 3


def test_queries_activate_apart_and_are_not_references(made: Artifact) -> None:
    items = {r["item_id"]: json.loads(r["facts"]) for r in made.rows("items.parquet").to_dict("records")}
    for row in _read(made):
        asked = items[row["item_id"]]["questions"][row["factors"]["basis"]][row["factors"]["reference"]]
        pair = asked["queries"][row["factors"]["draw"] - 1]
        assert pair["high"]["activation"] > pair["low"]["activation"]
        references = {name for grid in row["payload"]["references"] for name in grid["pictures"]}
        assert bool(references & set(row["payload"]["queries"])) == row["is_catch"]


def test_matched_pictures_share_one_class(made: Artifact, store: Store) -> None:
    run = next(iter(store.all("runs")))
    pool = store.open("images", run.manifest["parents"]["images/concepts"])
    from stimuli.designs._references import Gallery
    from stimuli.protocol import Material

    gallery = Gallery(Material(_file(), run, {"images/concepts": pool}), DESIGN["size"])
    label = {gallery.natural(i): name for i, name in enumerate(pool.rows().sort_values("index")["class_name"])}
    matched = [r for r in _read(made) if r["factors"]["reference"] == "matched"]
    assert matched
    for row in matched:
        shown = [*row["payload"]["queries"], *(name for g in row["payload"]["references"] for name in g["pictures"])]
        assert len({label[name] for name in shown}) == 1


def test_the_matched_direction_is_the_one_most_often_on_top() -> None:
    draws = np.random.default_rng(0)
    units = Codes("n", "l", draws.random((40, 3)), np.arange(40), np.full(3, np.nan), False)
    directions = draws.random((40, 5))
    for unit in range(3):
        top = sorted(range(40), key=lambda i: -units.peak[i, unit])[:7]
        votes = Counter(int(np.argmax(directions[i])) for i in top)
        chosen, count = match(units, directions, unit, 7, 0)
        assert count == max(votes.values()) == votes[chosen]


def test_ranks_take_the_scale_of_a_direction_away() -> None:
    peak = np.random.default_rng(1).random((30, 4)) + 0.5
    codes = Codes("d", "l", peak * [1, 10, 100, 1000], np.arange(30), np.full(4, np.nan), False)
    plain = Codes("d", "l", peak, np.arange(30), np.full(4, np.nan), False)
    assert (comparable(codes, "rank") == comparable(plain, "rank")).all()
    assert np.allclose(comparable(codes, "share").max(axis=0), 1)
    assert set(comparable(codes, "activation").argmax(axis=1)) == {3}


def test_dead_atoms_are_not_alive() -> None:
    peak = np.random.default_rng(2).random((20, 4)) + 0.1
    peak[:, 1] = 0
    peak[:, 2] = 0.5
    peak[3:, 3] = 0
    codes = Codes("d", "l", peak, np.arange(20), np.full(4, np.nan), False)
    assert codes.alive(5, 5).tolist() == [0]
    assert codes.alive(3, 5).tolist() == [0, 3]


def test_ties_are_broken_by_the_seed_and_not_by_the_order_of_pictures() -> None:
    codes = Codes("d", "l", np.zeros((50, 1)), np.arange(50), np.full(1, np.nan), False)
    assert codes.order(0, 0).tolist() == codes.order(0, 0).tolist()
    assert codes.order(0, 0).tolist() != codes.order(1, 0).tolist()
    assert codes.order(0, 0).tolist() != list(range(50))


def test_strata_rise_in_complexity() -> None:
    codes = Codes("d", "l", np.ones((4, 9)), np.arange(4), np.array([*np.linspace(1, 0, 8), np.nan]), True)
    groups = strata(codes, np.arange(9), 3, 0)
    assert sorted(atom for group in groups for atom in group) == list(range(8))
    spans = [(min(codes.complexity[g]), max(codes.complexity[g])) for g in groups]
    assert all(low[1] < high[0] for low, high in pairwise(spans))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_the_deal_shows_each_item_in_as_many_lists_or_is_refused(count: int, lists: int, each: int) -> None:
    if each > count or lists * each % count:
        with pytest.raises(LimenError, match="a multiple of it"):
            deal(count, lists, each, "here")
        return
    dealt = deal(count, lists, each, "here")
    assert all(len(set(turn)) == each for turn in dealt)
    assert set(Counter(i for turn in dealt for i in turn).values()) == {lists * each // count}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 99))
def test_catch_trials_are_spaced_out_and_never_first(main: int, extra: int, seed: int) -> None:
    found = spaced(["m"] * main, [f"c{i}" for i in range(extra)], np.random.default_rng(seed))
    assert Counter(one[0] for one in found) == Counter({"m": main, "c": extra})
    assert found[0] == "m"


def test_groups_take_turns_and_what_cannot_be_made_is_passed_over() -> None:
    found = in_turns([[1, 2, 3], [4, 5], [6]], 5, lambda atom: None if atom == 2 else atom)
    assert found == [(0, 1), (1, 4), (2, 6), (0, 3), (1, 5)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, fake_run: Callable[..., Artifact], made: Artifact
) -> None:
    fake_run(tmp_path)
    again, other = build(_file(), Store(tmp_path)), build(_file(study="bases-2", seed=6), Store(tmp_path))
    assert again.key == made.key
    assert again.manifest["files"] == made.manifest["files"]
    assert other.manifest["files"]["items.parquet"] != made.manifest["files"]["items.parquet"]


def test_kinds_may_differ_between_people_who_are_asked_in_the_same_order(store: Store) -> None:
    between = build(_file(study="between", conditions=("free", "mixed")), store)
    assert verify(between) == []
    rows = _read(between)
    assert {r["factors"]["reference"] for r in rows if r["condition"] == "mixed" and r["item_id"].count("pair")} == {
        "mixed"
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"conditions": ("all", "free")}, "key 'conditions': given all, free"),
        ({"conditions": ("frees",)}, "allowed is 'all' alone"),
        ({"design": {**DESIGN, "per_list": 3}}, "given 3 of 2 in each of 4 lists"),
        ({"design": {**DESIGN, "pairs": 9}}, "key 'design.pairs': given 9, allowed is at most"),
        ({"design": {**DESIGN, "practice": 16, "catch": 16}}, "practice and catch trials need 32 features of no pair"),
        ({"design": {**DESIGN, "low": [50, 90]}}, "all of `high` above all of `low`"),
        ({"design": {**DESIGN, "dictionary": "neurons"}}, "name two bases"),
        ({"design": {**DESIGN, "dictionary": "nmfs", "layers": ["late"]}}, "did you mean"),
        ({"design": {**DESIGN, "references": ["free", "free"]}}, "one or more, each once"),
        ({"quota": 3}, "key 'quota': given 3"),
    ],
)
def test_a_study_that_cannot_be_drawn_is_refused(store: Store, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimenError, match=sentence):
        build(_file(study="refused", **changes), store)


def _edit(made: Artifact, pick: Callable[[dict[str, Any]], bool], column: str, change: Callable[[Any], Any]) -> Any:
    table = made.rows("trials.parquet")
    place = next(i for i, row in enumerate(_read(made)) if pick(row))
    table.loc[table.index[place], column] = json.dumps(change(json.loads(table.iloc[place][column])))
    return table


def _main(row: dict[str, Any]) -> bool:
    return bool(row["phase"] == "test" and not row["is_catch"])


def _swap_first(payload: dict[str, Any]) -> dict[str, Any]:
    """Put a reference in the place of a query."""
    return {**payload, "queries": [payload["references"][0]["pictures"][0], payload["queries"][1]]}


@pytest.mark.parametrize(
    ("pick", "column", "change", "fault"),
    [
        (_main, "payload", lambda p: {**p, "hint": 1}, "more or less than the payload allows"),
        (_main, "payload", _swap_first, "has a query among its references"),
        (_main, "payload", lambda p: {**p, "options": ["left", "right"]}, "names could tell the answer"),
        (_main, "payload", lambda p: {**p, "queries": p["queries"][::-1]}, "does not expect the picture that activates"),
        (_main, "payload", lambda p: {**p, "queries": [p["queries"][0]] * 2}, "offers one picture twice"),
        (_main, "payload", lambda p: {**p, "question": "Which?"}, "differ in question"),
        (_main, "payload", lambda p: {**p, "references": p["references"][:1]}, "shows other min references"),
        (_main, "answer", lambda a: {**a, "expected": "0" * 16}, "does not expect one of its two pictures"),
        (_main, "factors", lambda f: {**f, "basis": "other"}, "factors"),
        (_main, "factors", lambda f: {**f, "atom": 99}, "that are not those of its item"),
        (lambda r: r["is_catch"], "payload", lambda p: {**p, "feedback": True}, "tells the answer to a catch trial"),
        (lambda r: r["is_catch"], "payload", lambda p: {**p, "queries": ["0" * 64, "1" * 64]}, "is not among the strong references"),
        (lambda r: r["phase"] == "practice", "payload", lambda p: {**p, "feedback": False}, "does not tell the answer"),
    ],
)  # fmt: skip
def test_the_audit_finds_a_broken_trial(
    made: Artifact, pick: Callable[..., bool], column: str, change: Callable[[Any], Any], fault: str
) -> None:
    assert _audit(made) == []
    assert any(fault in one for one in _audit(made, trials=_edit(made, pick, column, change)))


def _spoil(facts: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    node: Any = facts
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return facts


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (
            ["questions", "neuron", "free", "queries", 0, "high", "percentile"],
            50.0,
            "the high query stands at percentile",
        ),
        (["questions", "neuron", "free", "queries", 0, "low", "activation"], 99.0, "does not activate it more"),
        (["questions", "neuron", "free", "max", 0, "activation"], -1.0, "a strong reference activates it less"),
        (["questions", "dictionary", "free", "min", 0, "activation"], 99.0, "a weak reference activates it more"),
        (["questions", "neuron", "free", "max"], [], "has 0 strong and 2 weak references"),
        (["questions", "neuron", "matched", "label"], "", "does not name what its kind"),
    ],
)
def test_the_audit_finds_a_broken_item(made: Artifact, path: list[Any], value: Any, fault: str) -> None:
    table = made.rows("items.parquet")
    place = table.index[table["role"] == "main"][0]
    table.loc[place, "facts"] = json.dumps(_spoil(json.loads(table.loc[place, "facts"]), path, value))
    assert any(fault in one for one in _audit(made, items=table))


def test_the_audit_finds_a_missing_pair_of_queries(made: Artifact) -> None:
    table = made.rows("items.parquet")
    place = table.index[table["role"] == "main"][0]
    facts = json.loads(table.loc[place, "facts"])
    del facts["questions"]["neuron"]["free"]["queries"][1]
    table.loc[place, "facts"] = json.dumps(facts)
    found = _audit(made, items=table)
    assert any("has 1 pairs of queries, planned are 2" in one for one in found)
    assert any("a pair of queries that its item does not have" in one for one in found)


def test_the_audit_finds_sides_that_tell_the_answer(made: Artifact) -> None:
    table = made.rows("trials.parquet")
    for place, row in zip(table.index, _read(made), strict=True):
        if row["payload"]["options"][0] != row["answer"]["expected"]:
            flipped = {
                **row["payload"],
                "options": row["payload"]["options"][::-1],
                "queries": row["payload"]["queries"][::-1],
            }
            table.loc[place, "payload"] = json.dumps(flipped)
    assert any("expected pictures first" in fault for fault in _audit(made, trials=table))


def test_the_audit_finds_a_dropped_trial_and_a_list_out_of_turn(made: Artifact) -> None:
    table = made.rows("trials.parquet")
    assert any("once in each basis" in fault for fault in _audit(made, trials=table.drop(index=table.index[-3])))
    one = table[table["cell"] == "all-1"].assign(cell="all-2", list=2)
    assert any("its turn" in fault for fault in _audit(made, trials=pd.concat([table[table["cell"] != "all-2"], one])))


def test_the_audit_finds_a_feature_in_two_items(made: Artifact) -> None:
    table = made.rows("items.parquet")
    main, spare = table.index[table["role"] == "main"][0], table.index[table["role"] == "catch"][0]
    atoms = json.loads(table.loc[main, "facts"])["atoms"]
    table.loc[spare, "facts"] = json.dumps({**json.loads(table.loc[spare, "facts"]), "atoms": atoms})
    found = _audit(made, items=table)
    assert any("stands in two items" in fault for fault in found)
    assert any("in main trials and in practice or catch trials" in fault for fault in found)


def test_building_imports_neither_torch_nor_flask() -> None:
    code = "import sys; import stimuli.designs.basis, stimuli.designs.visualization, stimuli.build; print({'torch','flask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
