"""The odd-one-out protocol's promises, read from frozen tables; each planted violation is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.audit import audit as common
from stimuli.build import build, verify
from stimuli.designs._oddone_audit import audit
from stimuli.designs._oddone_script import choose_rules, rule_order
from stimuli.protocol import Tables
from stimuli.records import StudyFile
from stimuli.rules.catalogue import RULES
from stimuli.study import load_study, resolve
from stimuli.template import init_study

ROOT = Path(__file__).resolve().parents[2]
DESIGN: dict[str, Any] = {
    "rules": ["colour", "size", "position", "flip", "shape-colour", "size-rotation", "colour-count"],
    "sessions": 4,
    "problems": 8,
    "size": 64,
}


def study(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "odd",
        "version": 1,
        "protocol": "oddone",
        "title": "Odd",
        "seed": 2,
        "conditions": ("everyone",),
        "contact": "study@example.org",
        "design": DESIGN,
        "quota": 14,
    }
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return build(study(), Store(tmp_path_factory.mktemp("odd")))


@pytest.fixture
def tables(artifact: Artifact) -> Tables:
    whole = resolve(study())
    parts = {name: artifact.rows(f"{name}.parquet") for name in ("trials", "cells", "items")}
    return Tables(study=whole.study, options=whole.options, **parts)


@pytest.fixture(scope="module")
def trials(artifact: Artifact) -> pd.DataFrame:
    table = artifact.rows("trials.parquet")
    return table.assign(**{name: table[name].map(json.loads) for name in ("payload", "answer", "factors")})


def test_the_set_verifies(artifact: Artifact) -> None:
    assert verify(artifact) == []


def test_no_run_is_needed(artifact: Artifact) -> None:
    assert artifact.manifest["parents"] == {}


def test_each_list_has_practice_and_blocks_that_end_with_a_description(trials: pd.DataFrame) -> None:
    for _, rows in trials.groupby("cell"):
        blocks = Counter(rows.sort_values("position")["block"])
        assert blocks == {"practice": 4, "rule 1": 9, "rule 2": 9, "rule 3": 9, "rule 4": 9}
        last = rows.sort_values("position").groupby("block").tail(1)
        assert all(payload.get("entry") for payload in last[last["phase"] == "test"]["payload"])


def test_every_screen_says_how_long_it_is_locked(trials: pd.DataFrame) -> None:
    assert {payload.get("lockout_ms") for payload in trials["payload"]} == {300}


def test_people_are_told_when_the_rule_changes(trials: pd.DataFrame) -> None:
    told = trials[trials["payload"].map(lambda payload: bool(payload.get("panels")))]
    assert Counter(told["block"]) == {f"rule {n}": 7 for n in range(1, 5)}
    assert all(payload["index"] == 1 for payload in told["payload"])


def test_over_the_lists_each_rule_stands_once_in_each_block(trials: pd.DataFrame) -> None:
    asked = trials[trials["phase"] == "test"]
    stands = Counter(
        (factors["rule"], session) for factors, session in zip(asked["factors"], asked["session"], strict=True)
    )
    assert set(stands.values()) == {9}
    assert len(stands) == 7 * 4


def test_with_an_even_number_of_rules_no_rule_follows_another_twice() -> None:
    ring = choose_rules(None, 9, 0)
    follows = Counter(
        pair for number in range(18) for order in [rule_order(ring, number, 6)] for pair in pairwise(order)
    )
    assert set(follows.values()) == {1}


def test_each_list_of_the_default_has_three_elementary_and_three_composed_rules() -> None:
    ring = choose_rules(None, 9, 0)
    assert {sum(RULES[rule].is_composed for rule in rule_order(ring, number, 6)) for number in range(18)} == {3}


def test_the_odd_one_stands_in_each_place_equally_often_in_each_block(trials: pd.DataFrame) -> None:
    asked = trials[trials["answer"].map(bool) & (trials["phase"] == "test")]
    for _, rows in asked.groupby(["cell", "block"]):
        places = [p["options"].index(a["expected"]) for p, a in zip(rows["payload"], rows["answer"], strict=True)]
        assert Counter(places) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_a_problem_moves_through_the_block_and_the_places(trials: pd.DataFrame) -> None:
    asked = trials[trials["answer"].map(bool) & (trials["phase"] == "test")]
    for _, rows in asked.groupby("item_id"):
        assert len({factors["problem"] for factors in rows["factors"]}) == 4
        assert (
            len({p["options"].index(a["expected"]) for p, a in zip(rows["payload"], rows["answer"], strict=True)}) == 4
        )


def test_nothing_that_the_browser_gets_names_a_rule_or_the_answer(trials: pd.DataFrame) -> None:
    words = {"colour", "size", "position", "flip", "elementary", "composed", "expected", "broken"}
    for payload in trials["payload"]:
        said = json.dumps(payload)
        assert not any(word in said for word in words)


def test_feedback_and_confidence_go_with_every_problem(trials: pd.DataFrame) -> None:
    asked = trials[trials["answer"].map(bool)]
    assert all(payload["feedback"] and payload["confidence"]["slider"] for payload in asked["payload"])


def test_practice_shows_no_picture_of_the_study(trials: pd.DataFrame) -> None:
    shown = {
        kind: {face["pictures"][0] for p in rows["payload"] for face in p.get("faces", [])}
        for kind, rows in trials.groupby("phase")
    }
    assert len(shown["practice"]) == 16
    assert not shown["practice"] & shown["test"]


def test_two_stores_give_the_same_bytes(artifact: Artifact, tmp_path: Path) -> None:
    again = build(study(), Store(tmp_path))
    assert again.key == artifact.key
    assert again.manifest["files"] == artifact.manifest["files"]


def test_another_seed_gives_other_pictures(artifact: Artifact, tmp_path: Path) -> None:
    other = build(study(seed=3, design={**DESIGN, "problems": 4}), Store(tmp_path))
    pictures = [{name for name in one.manifest["files"] if name.startswith("pictures/")} for one in (artifact, other)]
    assert not pictures[0] & pictures[1]


def edited(tables: Tables, row: int, column: str, change: Any) -> Tables:
    """Return the tables with one trial's JSON changed by `change(data)`."""
    table = tables.trials.copy()
    data = json.loads(table.loc[row, column])
    change(data)
    table.loc[row, column] = json.dumps(data)
    return Tables(tables.study, tables.options, table, tables.cells, tables.items)


def problem_rows(tables: Tables, block: str = "rule 2") -> list[int]:
    first = tables.trials["cell"].iloc[0]
    mine = tables.trials[(tables.trials["cell"] == first) & (tables.trials["block"] == block)].sort_values("position")
    return list(mine.index)


def swap_expected(tables: Tables) -> Tables:
    row = problem_rows(tables)[1]
    options = json.loads(tables.trials.loc[row, "payload"])["options"]
    now = json.loads(tables.trials.loc[row, "answer"])["expected"]
    other = next(option for option in options if option != now)
    return edited(tables, row, "answer", lambda answer: answer.update(expected=other))


def other_rule(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "factors", lambda factors: factors.update(rule="contact"))


def other_part(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "factors", lambda factors: factors.update(broken="contact"))


def other_number(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "factors", lambda factors: factors.update(problem=1))


def readable_option(tables: Tables) -> Tables:
    row = problem_rows(tables)[1]
    return edited(tables, row, "payload", lambda payload: payload["options"].__setitem__(0, "left"))


def repeated_problem(tables: Tables) -> Tables:
    one, two = problem_rows(tables)[1:3]
    table = tables.trials.copy()
    for column in ("item_id",):
        table.loc[two, column] = table.loc[one, column]
    return Tables(tables.study, tables.options, table, tables.cells, tables.items)


def turned_pictures(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "payload", lambda payload: payload["faces"].reverse())


def no_announcement(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[0], "payload", lambda payload: payload.update(panels=[]))


def no_confidence(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "payload", lambda payload: payload.update(confidence=None))


def no_feedback(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[1], "payload", lambda payload: payload.update(feedback=False))


def without_description(tables: Tables) -> Tables:
    kept = tables.trials.drop(index=problem_rows(tables)[-1])
    return Tables(tables.study, tables.options, kept, tables.cells, tables.items)


def description_first(tables: Tables) -> Tables:
    rows, table = problem_rows(tables), tables.trials.copy()
    first, last = table.loc[rows[0], "position"], table.loc[rows[-1], "position"]
    table.loc[rows[0], "position"], table.loc[rows[-1], "position"] = last, first
    return Tables(tables.study, tables.options, table, tables.cells, tables.items)


def scored_description(tables: Tables) -> Tables:
    return edited(tables, problem_rows(tables)[-1], "answer", lambda answer: answer.update(expected="colour"))


def study_in_practice(tables: Tables) -> Tables:
    table = tables.trials.copy()
    table.loc[problem_rows(tables, "practice")[0], "item_id"] = table.loc[problem_rows(tables)[0], "item_id"]
    return Tables(tables.study, tables.options, table, tables.cells, tables.items)


def one_list_twice(tables: Tables) -> Tables:
    """The second cell shows the first cell's rules: no Latin rectangle any more."""
    table = tables.trials.copy()
    cells = list(tables.cells["cell"])
    first, second = (table[table["cell"] == cell].sort_values("position") for cell in cells[:2])
    for column in ("item_id", "payload", "answer", "factors"):
        table.loc[second.index, column] = list(first[column])
    return Tables(tables.study, tables.options, table, tables.cells, tables.items)


def changed_items(tables: Tables, change: Any) -> Tables:
    items = tables.items.copy()
    row = items.index[items["role"] == "main"][0]
    facts = json.loads(items.loc[row, "facts"])
    change(items, row, facts)
    items.loc[row, "facts"] = json.dumps(facts)
    return Tables(tables.study, tables.options, tables.trials, tables.cells, items)


def odd_is_elsewhere(tables: Tables) -> Tables:
    return changed_items(tables, lambda items, row, facts: facts.update(odd="0" * 64))


def strange_part(tables: Tables) -> Tables:
    return changed_items(tables, lambda items, row, facts: facts.update(broken="contact"))


def shared_picture(tables: Tables) -> Tables:
    other = json.loads(tables.items[tables.items["role"] == "main"]["facts"].iloc[1])["pictures"][0]
    return changed_items(tables, lambda items, row, facts: facts["pictures"].append(other))


def unbalanced_parts(tables: Tables) -> Tables:
    items = tables.items.copy()
    mine = items[(items["label"] == "shape-colour") & (items["role"] == "main")]
    for row, text in mine["facts"].items():
        items.loc[row, "facts"] = json.dumps({**json.loads(text), "broken": "shape"})
    return Tables(tables.study, tables.options, tables.trials, tables.cells, items)


def wrong_kind(tables: Tables) -> Tables:
    items = tables.items.copy()
    row = items.index[items["role"] == "main"][0]
    items.loc[row, "group"] = "composed" if items.loc[row, "group"] == "elementary" else "elementary"
    return Tables(tables.study, tables.options, tables.trials, tables.cells, items)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (swap_expected, "does not expect the odd one"),
        (swap_expected, "times in the four places"),
        (other_rule, "another rule or kind"),
        (other_rule, "mixes the rules"),
        (other_part, "breaks another part"),
        (other_number, "number its problems from 1"),
        (readable_option, "not opaque"),
        (repeated_problem, "shows a problem twice"),
        (repeated_problem, "other pictures than its item's"),
        (turned_pictures, "does not expect the odd one"),
        (no_announcement, "does not tell of a new rule"),
        (no_confidence, "confidence from 0 to 100"),
        (no_feedback, "against the plan"),
        (without_description, "planned are"),
        (description_first, "at the end of each block"),
        (scored_description, "description and has a right answer"),
        (study_in_practice, "in practice"),
        (one_list_twice, "not once in each"),
        (one_list_twice, "the same number in two lists"),
        (one_list_twice, "does not move from list to list"),
        (odd_is_elsewhere, "odd one is not among"),
        (strange_part, "no part of it"),
        (shared_picture, "places of the items"),
        (unbalanced_parts, "not balanced"),
        (wrong_kind, "not of the rule and kind"),
    ],
)
def test_the_audit_finds_a_planted_violation(tables: Tables, plant: Any, said: str) -> None:
    assert audit(tables) == []
    assert common(tables) == []
    found = audit(plant(tables))
    assert any(said in fault for fault in found), found[:5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"design": {"rules": ["color"]}}, "colour"),
        ({"design": {"rules": ["colour", "colour"], "sessions": 1}}, "given twice"),
        ({"design": {"composed": 0, "sessions": 10}}, "at most 9"),
        ({"design": {}, "quota": 10}, "at least 18"),
        ({"conditions": ("a", "b")}, "one name"),
    ],
)
def test_a_study_that_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LimenError) as refused:
        resolve(study(**changes))
    assert said in str(refused.value)


def test_the_example_and_the_written_template_are_whole(tmp_path: Path) -> None:
    assert load_study(ROOT / "configs/studies/oddone.yaml").protocol == "oddone"
    (tmp_path / "study.yaml").write_text(init_study("oddone"), encoding="utf-8")
    assert load_study(tmp_path / "study.yaml").run is None


def test_the_texts_ask_three_questions_and_tell_the_rest_in_the_debrief(artifact: Artifact) -> None:
    texts = json.loads(artifact.file("study.json").read_text(encoding="utf-8"))["texts"]
    assert len(texts["quiz"]) == 3
    assert "4 of 7 rules" in texts["debrief"]["body"]
    assert "differed" not in " ".join(page["body"] for page in texts["instructions"])


def test_building_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.oddone, stimuli.rules.problems; print({'torch', 'flask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
