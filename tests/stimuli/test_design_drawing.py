"""The drawing protocol's promises, read from frozen tables; and that each broken one is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.registry import LimenError
from bench.store import Artifact, Store, sha256_bytes
from stimuli.balance import spread
from stimuli.build import build, verify
from stimuli.designs.drawing import category_names, drawing, exemplar_picture, people_of
from stimuli.protocol import Tables
from stimuli.records import StudyFile
from stimuli.render import Album
from stimuli.sketches import DOODLES, category_of

DESIGN = {"categories": 8, "drawings": 4, "lists": 4, "people": 2, "size": 64}


def study_file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "sketch", "version": 1, "protocol": "drawing", "title": "Draw another one", "quota": 8,
        "conditions": ("view", "memory"), "contact": "study@example.org",
    }  # fmt: skip
    return StudyFile(**{**facts, **changes, "design": {**DESIGN, **changes.get("design", {})}})


def uncovering(**changes: Any) -> StudyFile:
    return study_file(study="reveal", conditions=("uncover",), **changes, design={"task": "uncover"})


def read(artifact: Artifact) -> Tables:
    study = StudyFile.model_validate_json(artifact.file("study.json").read_text(encoding="utf-8"))
    names = ("trials.parquet", "cells.parquet", "items.parquet")
    return Tables(study, study.design, *(artifact.rows(name) for name in names))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("sketch"))


@pytest.fixture(scope="module")
def artifact(store: Store) -> Artifact:
    return build(study_file(), store)


@pytest.fixture(scope="module")
def tables(artifact: Artifact) -> Tables:
    return read(artifact)


@pytest.fixture(scope="module")
def uncovered(store: Store) -> Tables:
    return read(build(uncovering(), store))


def test_built_sets_verify(artifact: Artifact, store: Store) -> None:
    assert verify(artifact) == []
    assert verify(build(uncovering(), store)) == []


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_signs(store: Store, artifact: Artifact) -> None:
    assert build(study_file(), store).manifest["files"] == artifact.manifest["files"]
    other = build(study_file(study="other", seed=1), store)
    first, second = (set(a.rows("items.parquet")["item_id"]) for a in (artifact, other))
    assert not first & second


def test_an_exemplar_can_be_made_again_from_its_id(tables: Tables) -> None:
    for row in tables.items.itertuples():
        assert Album().add(exemplar_picture(str(row.item_id), 64)) == row.picture


def test_each_category_is_in_equally_many_lists_at_places_that_spread(tables: Tables) -> None:
    main = tables.trials[(tables.trials["phase"] == "test") & (tables.trials["condition"] == "view")]
    assert main.groupby("item_id")["list"].nunique().tolist() == [2] * 8
    place = main.sort_values(["cell", "position"]).groupby("cell").cumcount()
    for _, places in place.groupby(main["item_id"]):
        early, late = sorted(places)
        assert late - early == 2


def test_conditions_differ_by_how_long_the_exemplar_stays_alone(tables: Tables) -> None:
    payloads = tables.trials["payload"].map(json.loads)
    for condition, payload in zip(tables.trials["condition"], payloads, strict=True):
        assert payload["exemplar_ms"] == (0 if condition == "view" else 2000)
    for _, rows in tables.trials.groupby("list"):
        shown = [(payloads[c.index].map(lambda p: {**p, "exemplar_ms": 0})).tolist() for _, c in rows.groupby("cell")]
        assert shown[0] == shown[1]


def test_nothing_sent_names_the_category(tables: Tables) -> None:
    for text in tables.trials["payload"]:
        assert "glyph" not in text
        assert "word" not in json.loads(text)


def test_what_is_uncovered_has_its_name_above_it(uncovered: Tables) -> None:
    items = uncovered.items.set_index("item_id")
    for row in uncovered.trials.itertuples():
        word = json.loads(str(row.payload))["word"]
        assert word in DOODLES
        assert category_of(str(row.item_id)) == f"doodle-{word}"
        assert items.loc[row.item_id, "label"] == word
    assert set(uncovered.trials["trial_type"]) == {"reveal"}


def test_texts_tell_what_differs_at_the_end_only(tables: Tables, uncovered: Tables) -> None:
    texts = tables.study.texts
    assert texts is not None
    assert "from memory" in texts.debrief.body
    assert "memory" not in texts.consent.body + "".join(page.body for page in texts.instructions)
    assert "60 seconds" in texts.instructions[1].body
    other = uncovered.study.texts
    assert other is not None
    assert "7 seconds" in other.instructions[0].body


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(1, 60))
def test_each_category_is_met_by_as_many_people_as_any_other_where_the_quota_divides(
    lists: int, step: int, turns: int, each: int
) -> None:
    categories = lists * step
    drawings = min(turns * step, categories)
    met = people_of(categories, drawings, spread(lists * each, lists))
    assert met == [each * drawings // step] * categories


def _first(trials: pd.DataFrame, **where: Any) -> Any:
    rows = trials
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows.index[0]


def _payload(tables: Tables, place: Any, **changes: Any) -> Tables:
    trials = tables.trials.copy()
    payload = {**json.loads(trials.at[place, "payload"]), **changes}
    trials.at[place, "payload"] = json.dumps({k: v for k, v in payload.items() if v is not None})
    return replace(tables, trials=trials)


def _set(tables: Tables, table: str, place: Any, column: str, value: Any) -> Tables:
    frame = getattr(tables, table).copy()
    frame.at[place, column] = value
    return replace(tables, **{table: frame})


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "another picture": (
        lambda t: _payload(t, 3, image=json.loads(t.trials.at[4, "payload"])["image"]), "another picture than"),
    "a name is sent": (lambda t: _payload(t, 2, word="house"), "more or less than the payload allows"),
    "seen too long": (lambda t: _payload(t, _first(t.trials, condition="memory"), exemplar_ms=9000), "exemplar_ms 9000"),
    "seen in view": (lambda t: _payload(t, _first(t.trials, condition="view"), exemplar_ms=500), "exemplar_ms 500"),
    "more time": (lambda t: _payload(t, 3, limit_ms=90_000), "limit_ms 90000"),
    "another canvas": (lambda t: _payload(t, 3, size=[64, 128]), "size"),
    "a right answer": (lambda t: _set(t, "trials", 3, "answer", '{"expected": "done"}'), "nothing is right or wrong"),
    "another type": (lambda t: _set(t, "trials", 3, "trial_type", "reveal"), "is of the type 'reveal'"),
    "twice": (lambda t: _set(t, "trials", 3, "item_id", t.trials.at[4, "item_id"]), "more than once"),
    "practice is tested": (
        lambda t: _set(t, "trials", 3, "item_id", t.items[t.items["role"] == "practice"]["item_id"].iloc[0]),
        "role 'practice' in test"),
    "a role": (lambda t: _set(t, "items", 0, "role", "practice"), "of the role 'main', planned are 8"),
    "two exemplars": (
        lambda t: replace(t, items=pd.concat([t.items, t.items.iloc[[0]].assign(item_id="glyph-0-001/0000")])),
        "more than one exemplar"),
    "a variant": (lambda t: _set(t, "items", 0, "item_id", "glyph-0-000/0001"), "not the first variant"),
    "a label": (lambda t: _set(t, "items", 0, "label", "boat"), "has the name 'boat'"),
    "one picture": (lambda t: _set(t, "items", 0, "picture", t.items.at[1, "picture"]), "stands behind two exemplars"),
    "few people": (lambda t: replace(t, cells=t.cells.assign(quota=0)), "is met by 0 people"),
    "a block": (lambda t: _set(t, "trials", 3, "block", "practice"), "has blocks"),
    "another order": (
        lambda t: replace(t, trials=t.trials.assign(position=t.trials["position"].where(t.trials["cell"] != "view-1",
                                                                                         -t.trials["position"]))),
        "another order than cell"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(VIOLATIONS))
def test_the_audit_finds(tables: Tables, name: str) -> None:
    assert drawing.audit(tables) == []  # type: ignore[attr-defined]
    breaks, says = VIOLATIONS[name]
    faults = drawing.audit(breaks(tables))  # type: ignore[attr-defined]
    assert any(says in fault for fault in faults), faults


def test_the_audit_finds_a_wrong_name_above_a_sketch(uncovered: Tables) -> None:
    assert drawing.audit(uncovered) == []  # type: ignore[attr-defined]
    faults = drawing.audit(_payload(uncovered, 3, word="ufo"))  # type: ignore[attr-defined]
    assert any("has word ufo" in fault for fault in faults)


@pytest.mark.parametrize(("changes", "says"), [
    ({"conditions": ("view", "uncover")}, "conditions"),
    ({"design": {"task": "uncover"}}, "uncover"),
    ({"design": {"categories": 10}}, "multiple of lists"),
    ({"design": {"drawings": 3}}, "multiple of categories"),
    ({"design": {"family": "doodles", "categories": 28, "drawings": 7}}, "the things there are"),
    ({"quota": 3}, "met by"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(store: Store, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(LimenError, match=says):
        build(study_file(study="wrong", **changes), store)


def test_a_study_draws_things_in_an_order_of_its_seed() -> None:
    first, second = (category_names("doodles", 10, seed) for seed in (0, 1))
    assert first != second
    assert len(set(first)) == 10


def test_building_needs_neither_torch_nor_a_server(tmp_path: Path) -> None:
    script = (
        "import sys; from stimuli.build import build; from stimuli.records import StudyFile; from bench.store import Store;"
        f"build(StudyFile.model_validate_json({study_file().model_dump_json()!r}), Store({str(tmp_path)!r}));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'flask', 'psychophysics_server')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_pictures_are_named_by_their_bytes(artifact: Artifact) -> None:
    for path in artifact.path.glob("pictures/*.png"):
        assert sha256_bytes(path.read_bytes()) == path.stem
