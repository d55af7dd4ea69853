"""The reveal game's promises, read from frozen tables; and that each broken one is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.images import picture_hash
from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.balance import spread
from stimuli.build import build, verify
from stimuli.designs.clickme import _people, clickme
from stimuli.protocol import Tables
from stimuli.records import StudyFile

DESIGN = {"images": 24, "rounds": 12, "lists": 4, "people": 4, "size": 64, "practice": 1, "catch": 3}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "game", "version": 1, "protocol": "clickme", "title": "Uncover it", "run": "demo", "quota": 8,
        "conditions": ("oracle", "alone"), "contact": "study@example.org",
    }  # fmt: skip
    return StudyFile(**{**facts, **changes, "design": {**DESIGN, **changes.get("design", {})}})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("game")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def artifact(store: Store) -> Artifact:
    return build(_file(), store)


@pytest.fixture(scope="module")
def tables(artifact: Artifact) -> Tables:
    study = StudyFile.model_validate_json(artifact.file("study.json").read_text(encoding="utf-8"))
    names = ("trials.parquet", "cells.parquet", "items.parquet")
    return Tables(study, study.design, *(artifact.rows(name) for name in names))


@pytest.fixture(scope="module")
def trials(tables: Tables) -> pd.DataFrame:
    return tables.trials.assign(
        payload=tables.trials["payload"].map(json.loads), answer=tables.trials["answer"].map(json.loads)
    )


def test_a_built_game_verifies(artifact: Artifact) -> None:
    assert verify(artifact) == []


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_pictures(store: Store, artifact: Artifact) -> None:
    files = build(_file(), store).manifest["files"]
    assert files == artifact.manifest["files"]
    other = build(_file(study="other", seed=1), store)
    first, second = (set(a.rows("items.parquet")["item_id"]) for a in (artifact, other))
    assert first != second


def test_each_picture_is_in_equally_many_lists_at_places_that_spread(trials: pd.DataFrame) -> None:
    main = trials[(trials["block"] == "rounds") & ~trials["is_catch"] & (trials["condition"] == "oracle")]
    assert main.groupby("item_id")["list"].nunique().tolist() == [2] * 24
    place = main.groupby("cell").cumcount()
    for _, places in place.groupby(main["item_id"]):
        early, late = sorted(places)
        assert late - early == 6


def test_each_stretch_of_two_rounds_shows_both_classes(trials: pd.DataFrame) -> None:
    main = trials[(trials["block"] == "rounds") & ~trials["is_catch"]]
    for _, cell in main.groupby("cell"):
        words = [payload["word"] for payload in cell.sort_values("position")["payload"]]
        assert all({words[i], words[i + 1]} == {"boat", "kite"} for i in range(0, 12, 2))


def test_the_conditions_show_the_same_rounds_and_differ_by_the_oracle(trials: pd.DataFrame) -> None:
    for _, rows in trials.groupby("list"):
        scripts = [list(zip(c["item_id"], c["is_catch"], strict=True)) for _, c in rows.groupby("cell")]
        assert scripts[0] == scripts[1]
    asked = trials[(trials["phase"] == "test") & ~trials["is_catch"]]
    for condition, payload in zip(asked["condition"], asked["payload"], strict=True):
        assert payload["oracle"] is (condition == "oracle")


def test_catch_rounds_ask_the_oracle_and_are_right_when_won(trials: pd.DataFrame, tables: Tables) -> None:
    caught = trials[trials["is_catch"]]
    assert caught.groupby("cell").size().tolist() == [3] * 8
    assert all(payload["oracle"] for payload in caught["payload"])
    assert {answer["expected"] for answer in caught["answer"]} == {"won"}
    items = tables.items.set_index("item_id").loc[caught["item_id"].unique()]
    assert (items["probability"] >= 0.9).all()
    assert set(items["role"]) == {"catch"}


def test_a_round_without_an_oracle_has_no_right_answer(trials: pd.DataFrame) -> None:
    alone = trials[(trials["condition"] == "alone") & (trials["phase"] == "test") & ~trials["is_catch"]]
    assert not any("expected" in answer for answer in alone["answer"])


def test_an_item_says_which_picture_of_the_run_it_is(store: Store, tables: Tables) -> None:
    pictures = next(
        a for a in store.all("images") if "rows.parquet" in a.manifest["files"] and a.config["split"] == "study"
    )
    pixels = pictures.tensors("pictures.safetensors")["pictures"]
    for facts in tables.items["facts"].map(json.loads):
        assert facts["pixels"] == picture_hash(pixels[facts["index"]])


def test_only_pictures_that_the_network_gets_right_unless_all_are_wanted(store: Store, tables: Tables) -> None:
    assert tables.items["model_correct"].all()
    every = build(_file(study="every", design={"only_correct": False}), store).rows("items.parquet")
    assert not every["model_correct"].all()


@given(lists=st.integers(1, 8), step=st.integers(1, 6), windows=st.integers(1, 8), quota=st.integers(8, 60))
@settings(max_examples=60, deadline=None)
def test_people_are_spread_over_pictures_within_the_lists_a_picture_is_in(
    lists: int, step: int, windows: int, quota: int
) -> None:
    images, rounds = lists * step, min(windows, lists) * step
    seen = _people(images, rounds, spread(quota, lists))
    times = lists * rounds // images
    assert sum(seen) == rounds * quota
    assert max(seen) - min(seen) <= times


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditions": ("oracle", "lone")}, "alone"),
        ({"design": {"rounds": 7}}, "multiple of lists"),
        ({"design": {"images": 22, "rounds": 11}}, "multiple of lists"),
        ({"quota": 6}, "see each image"),
        ({"design": {"images": 48, "rounds": 24}}, "lower it"),
        ({"design": {"catch": 10, "catch_probability": 0.99}}, "recognised with a probability of 0.99"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(store: Store, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(LimenError, match=words):
        build(_file(study="refused", **changes), store)


def _edit(tables: Tables, where: pd.Series, *, payload: dict[str, Any] | None = None, **columns: Any) -> Tables:
    """Change one trial: the first where a mask holds."""
    changed = tables.trials.copy()
    at = changed.index[where][0]
    if payload is not None:
        changed.loc[at, "payload"] = json.dumps(json.loads(changed.loc[at, "payload"]) | payload)
    for name, value in columns.items():
        changed.loc[at, name] = value
    return replace(tables, trials=changed)


def _swap(tables: Tables, first: Any, second: Any) -> Tables:
    """Let two trials change places, of one cell or of two."""
    changed = tables.trials.copy()
    names = [name for name in changed.columns if name not in ("cell", "condition", "list", "position", "trial_id")]
    changed.loc[[first, second], names] = changed.loc[[second, first], names].to_numpy()
    return replace(tables, trials=changed)


def _item_edit(tables: Tables, role: str, **columns: Any) -> Tables:
    changed = tables.items.copy()
    at = changed.index[changed["role"] == role][0]
    for name, value in columns.items():
        changed.loc[at, name] = value
    return replace(tables, items=changed)


def _mostly(items: pd.DataFrame, shown: pd.Series) -> pd.Series:
    """Give all pictures of one list the same class."""
    return items["label"].mask(items["item_id"].isin(shown), "kite")


def _violations(tables: Tables) -> dict[str, Tables]:
    trials, items = tables.trials, tables.items
    main = (trials["block"] == "rounds") & ~trials["is_catch"]
    mine = main & (trials["cell"] == "oracle-1")
    here, next_to_it = trials.index[mine][:2]
    elsewhere = sorted(set(trials.loc[main, "item_id"]) - set(trials.loc[mine, "item_id"]))[0]
    caught = trials.index[trials["is_catch"] & (trials["cell"] == "oracle-1")]
    practice = items.loc[items["role"] == "practice", "item_id"].iloc[0]
    return {
        "shows another picture than its item's": _edit(tables, mine, payload={"image": "0" * 64}),
        "the picture is of": _edit(tables, mine, payload={"word": "anchor"}),
        "has box_px 15, planned is 14": _edit(tables, mine, payload={"box_px": 15}),
        "more or less than the payload allows": _edit(tables, mine, payload={"lockout_ms": 5}),
        "asks no network": _edit(tables, mine, payload={"oracle": False}),
        "expects 'None'": _edit(tables, mine, answer="{}"),
        "more than once": _edit(tables, mine, item_id=trials.loc[mine, "item_id"].iloc[1]),
        "is a main round on a picture of the role 'practice'": _edit(tables, mine, item_id=practice),
        "has blocks": replace(tables, trials=trials.drop(index=here)),
        "catch round 3 comes after": _swap(tables, caught[-1], here),
        "lists, planned is 2": _edit(tables, mine, item_id=elsewhere),
        "places that are not": _swap(tables, here, next_to_it),
        "times in one list": replace(tables, items=items.assign(label=_mostly(items, trials.loc[mine, "item_id"]))),
        "another order than cell": _swap(tables, here, next_to_it),
        "people, fewest are": replace(tables, cells=tables.cells.assign(quota=1)),
        "pictures of the study, planned are 24": replace(
            tables, items=items.drop(index=items.index[items["role"] == "main"][0])
        ),
        "equally often within one": _item_edit(tables, "main", label="kite"),
        "stands behind two items": _item_edit(tables, "practice", picture=items["picture"].iloc[0]),
        "gets wrong": _item_edit(tables, "main", model_correct=False),
        "is not recognised with 0.9": _item_edit(tables, "catch", probability=0.5),
    }


def test_the_audit_finds_nothing_in_a_sound_set(tables: Tables) -> None:
    assert clickme.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "words",
    [
        "shows another picture than its item's", "the picture is of", "has box_px 15, planned is 14",
        "more or less than the payload allows", "asks no network", "expects 'None'", "more than once",
        "is a main round on a picture of the role 'practice'", "has blocks", "catch round 3 comes after",
        "lists, planned is 2", "places that are not", "times in one list", "another order than cell", "people, fewest are", "pictures of the study, planned are 24",
        "equally often within one", "stands behind two items", "gets wrong", "is not recognised with 0.9",
    ],
)  # fmt: skip
def test_the_audit_finds_each_broken_rule(tables: Tables, words: str) -> None:
    planted = _violations(tables)
    assert len(planted) == 20
    if words.startswith("pictures of"):
        # The rest of the set still names the picture; only the items are looked at here.
        kept = planted[words].trials["item_id"].isin(planted[words].items["item_id"])
        planted[words] = replace(planted[words], trials=planted[words].trials[kept])
    found = clickme.audit(planted[words])  # type: ignore[attr-defined]
    assert any(words in fault for fault in found), found


def test_the_texts_hold_the_numbers_and_tell_what_differs_at_the_end_only(artifact: Artifact) -> None:
    texts = json.loads(artifact.file("study.json").read_text(encoding="utf-8"))["texts"]
    before = json.dumps([texts["consent"], texts["instructions"], texts["quiz"]])
    assert "16 short rounds" in before
    assert "7 seconds" in before
    assert "differed" not in before
    assert "What differed between people" in texts["debrief"]["body"]
    assert "{" not in before.replace('{"', "")


def test_building_imports_neither_torch_nor_flask(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom stimuli.build import plan, draw\nfrom stimuli.records import StudyFile\nfrom bench.store import Store\n"
        f"study = StudyFile.model_validate_json({_file(study='bare').model_dump_json()!r})\n"
        f"assert draw(plan(study, Store({str(store.root)!r}))).trials\n"
        "assert not {'torch', 'flask'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])


def test_counts_of_rounds_are_as_planned(trials: pd.DataFrame) -> None:
    for _, cell in trials.groupby("cell"):
        assert Counter(cell["block"]) == {"practice": 1, "rounds": 15}


def test_what_the_player_sees_of_picture_and_network_is_told_and_sent(store: Store) -> None:
    made = build(_file(study="seen", design={"visible": True, "told": True}), store)
    payloads = [json.loads(row) for row in made.rows("trials.parquet")["payload"]]
    assert {(payload["visible"], payload["told"]) for payload in payloads} == {(True, True)}
    pages = json.loads(made.file("study.json").read_text(encoding="utf-8"))["texts"]["instructions"]
    assert "Light up" in pages[0]["body"]
    assert "what it takes the picture for" in pages[1]["body"]


def test_a_picture_that_is_marked_is_seen_anyway(store: Store) -> None:
    with pytest.raises(LimenError, match=r"design\.visible.*mode 'click'"):
        build(_file(study="seen-twice", design={"visible": True, "mode": "click"}), store)
