"""The agreement protocol: as many right as wrong predictions, nothing told, and an audit that sees each broken rule."""

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.registry import LimenError
from bench.store import Artifact, Store
from stimuli.audit import audit
from stimuli.build import _tables, build, draw, plan, verify
from stimuli.designs.agreement import agreement
from stimuli.own_score import EXAMPLE_NOTE
from stimuli.preview import write_preview
from stimuli.protocol import Tables
from stimuli.records import Page, StudyFile, Texts
from stimuli.study import load_study

DESIGN = {"size": 32, "lists": 3, "examples": 3, "tradeoff": True}


def _file(**changes: Any) -> StudyFile:
    facts: dict[str, Any] = {
        "study": "agree", "version": 1, "protocol": "agreement", "title": "Right?", "run": "demo", "quota": 9,
        "conditions": ("baseline", "grad_cam"), "contact": "study@example.org", "design": DESIGN,
    }  # fmt: skip
    return StudyFile(**{**facts, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fake_run: Callable[..., Artifact]) -> Store:
    root = tmp_path_factory.mktemp("agreement")
    fake_run(root)
    return Store(root)


@pytest.fixture(scope="module")
def tables(store: Store) -> Tables:
    made = plan(_file(), store)
    return _tables(made, draw(made))


def _asked(tables: Tables) -> pd.DataFrame:
    return tables.trials[tables.trials["block"] == "agreement"]


def test_half_of_the_predictions_of_each_person_are_right(tables: Tables) -> None:
    items = tables.items.set_index("item_id")
    right = _asked(tables)["item_id"].map(items["model_correct"]).astype(bool)
    assert right.groupby(_asked(tables)["cell"]).agg(["sum", "size"]).to_numpy().tolist() == [[5, 10]] * 6


def test_conditions_differ_in_the_explanation_alone(tables: Tables) -> None:
    for number in (1, 2, 3):
        bare, full = (
            [json.loads(p) for p in _asked(tables).query("cell == @cell").sort_values("position")["payload"]]
            for cell in (f"baseline-{number}", f"grad_cam-{number}")
        )
        for one, other in zip(bare, full, strict=True):
            other["panels"] = [panel for panel in other["panels"] if panel["label"] != "Explanation"]
            assert one == other


def test_no_question_tells_the_truth(tables: Tables) -> None:
    items = tables.items.set_index("item_id")
    for row in _asked(tables).to_dict("records"):
        item, payload = items.loc[row["item_id"]], row["payload"]
        assert not {"label", "model_correct", "expected"} & set(json.loads(payload))
        assert item["model_correct"] or item["label"] not in payload


def test_each_rating_and_trade_off_is_asked_and_has_no_right_answer(tables: Tables) -> None:
    for _, cell in tables.trials.groupby("cell"):
        rest = cell[(cell["phase"] == "test") & (cell["block"] != "agreement")]
        assert list(rest["item_id"]) == [
            "rating before",
            "rating after",
            "rating told",
            *(f"trade-off {r}" for r in ("low", "medium", "high")),
        ]
        assert set(rest["answer"]) == {"{}"}


def test_the_last_rating_tells_the_score_of_the_task_and_no_other_trial_tells_one(tables: Tables) -> None:
    for row in tables.trials.to_dict("records"):
        score = json.loads(row["payload"]).get("score")
        assert (score is not None) == (row["item_id"] == "rating told")
        assert score in (None, {"phase": "test", "block": "agreement", "catch": False})


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"own_score": False}, ["rating before", "rating after"]),
        ({"ratings": False}, []),
        ({"ratings": False, "own_score": False}, []),
    ],
)
def test_ratings_and_the_score_can_be_left_out(store: Store, options: dict[str, Any], asked: list[str]) -> None:
    made = plan(_file(design={"size": 32, "lists": 3, **options}), store)
    drawn = draw(made)
    assert [t.item_id for t in drawn.trials if t.cell == "baseline-1" and t.block.startswith("rating")] == asked
    assert agreement.audit(_tables(made, drawn)) == []  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(store: Store) -> None:
    first, again, other = (draw(plan(_file(seed=seed), store)) for seed in (0, 0, 1))
    assert (first.pictures, first.trials, first.cells) == (again.pictures, again.trials, again.cells)
    assert first.trials != other.trials


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(half=st.integers(1, 6), lists=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_any_size_keeps_the_rules(store: Store, half: int, lists: int, seed: int) -> None:
    options = {"size": 32, "trials": 2 * half, "lists": lists, "examples": 1}
    made = plan(_file(design=options, seed=seed), store)
    drawn = draw(made)
    items = {item.item_id: item for item in drawn.items}
    for cell in drawn.cells:
        of = [items[t.item_id] for t in drawn.trials if t.cell == cell.cell and t.block == "agreement"]
        for right in (True, False):
            classes = [item.predicted for item in of if item.model_correct == right]
            assert abs(classes.count("boat") - classes.count("kite")) <= 1 + (half % 2)


def test_a_built_set_verifies(store: Store) -> None:
    assert verify(build(_file(study="agree-built"), store)) == []


def _change(tables: Tables, row: int, part: str, change: Callable[[dict[str, Any]], None]) -> Tables:
    trials = tables.trials.copy()
    place = _asked(tables).index[row]
    value = json.loads(str(trials.loc[place, part]))
    change(value)
    trials.loc[place, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _other_item(tables: Tables) -> Tables:
    trials = tables.trials.copy()
    rows = _asked(tables).index
    trials.loc[rows[1], "item_id"] = trials.loc[rows[0], "item_id"]
    return replace(tables, trials=trials)


def _rating(tables: Tables, moment: str, part: str, change: Callable[[dict[str, Any]], Any]) -> Tables:
    trials = tables.trials.copy()
    place = trials.index[trials["item_id"] == moment][0]
    value = json.loads(str(trials.loc[place, part]))
    change(value)
    trials.loc[place, part] = json.dumps(value)
    return replace(tables, trials=trials)


def _truth(tables: Tables, column: str, value: Any) -> Tables:
    items = tables.items.copy()
    items.loc[items["item_id"] == _asked(tables)["item_id"].iloc[0], column] = value
    return replace(tables, items=items)


VIOLATIONS: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "a point less": (lambda t: _change(t, 0, "payload", lambda p: p["options"].pop()), "four points"),
    "reversed scale": (lambda t: _change(t, 0, "payload", lambda p: p["options"].reverse()), "four points"),
    "the wrong side": (lambda t: _change(t, 0, "answer", lambda a: a.update(expected="2")), "true side"),
    "another factor": (lambda t: _change(t, 0, "factors", lambda f: f.update(machine="none")), "factor 'machine'"),
    "twice": (_other_item, "twice"),
    "an explanation in the baseline": (
        lambda t: _change(t, 0, "payload", lambda p: p["panels"].append({**p["panels"][0], "label": "Explanation"})),
        "in the baseline",
    ),
    "the truth": (
        lambda t: _change(t, 0, "payload", lambda p: p["panels"].append({"label": "Truth", "pictures": [], "text": "x"})),
        "tells the truth",
    ),
    "an example less": (lambda t: _change(t, 0, "payload", lambda p: p["panels"][-1]["pictures"].pop()), "3 examples"),
    "another picture": (
        lambda t: _change(t, 0, "payload", lambda p: p["panels"][0].update(pictures=["0" * 64])), "item's picture",
    ),
    "another truth": (lambda t: _truth(t, "label", "plane"), "its classes say otherwise"),
    "a score too early": (
        lambda t: _rating(t, "rating after", "payload", lambda p: p.update(score={"block": "agreement"})), "before the last",
    ),
    "no score": (lambda t: _rating(t, "rating told", "payload", lambda p: p.pop("score")), "or none there"),
    "another score": (
        lambda t: _rating(t, "rating told", "payload", lambda p: p["score"].update(catch=True)), "another score",
    ),
    "a rating that is right": (lambda t: _rating(t, "rating told", "answer", lambda a: a.update(expected="5")), "from 1 to 5"),
    "a rating with a level": (lambda t: _rating(t, "rating after", "factors", lambda f: f.update(machine="right")), "'machine'"),
    "a trial less": (lambda t: replace(t, trials=t.trials.drop(index=_asked(t).index[0])), "planned are"),
    "a list less": (
        lambda t: replace(t, cells=t.cells[t.cells["list"] < 3], trials=t.trials[t.trials["list"] < 3]), "2 lists",
    ),
    "a set shared": (
        lambda t: replace(t, trials=t.trials.assign(item_id=t.trials["item_id"].where(
            t.trials["list"] != 2, t.trials["cell"].str[:-1].add("1").add(t.trials["position"].astype(str)).map(dict(zip(
                t.trials["cell"] + t.trials["position"].astype(str), t.trials["item_id"], strict=True)))))), "stands in 2 lists",
    ),
    "two previews right": (
        lambda t: replace(t, items=t.items.assign(model_correct=True)), "one right and one wrong",
    ),
    "a copy": (lambda t: replace(t, items=t.items.assign(picture=t.items["picture"].iloc[0])), "the same picture"),
}  # fmt: skip


def test_the_drawn_tables_break_no_rule(tables: Tables) -> None:
    assert agreement.audit(tables) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_audit_finds(tables: Tables, name: str) -> None:
    plant, told = VIOLATIONS[name]
    faults = agreement.audit(plant(tables))  # type: ignore[attr-defined]
    assert any(told in fault for fault in faults), faults


def _tells(payload: dict[str, Any], **score: Any) -> None:
    payload.update(score=score, panels=[{"label": "", "pictures": [], "text": "{right} of {asked}"}])


def _paged(tables: Tables) -> Tables:
    page = Page(title="The end", body="You had {right} right answers.")
    texts = Texts(consent=page, instructions=(page,), debrief=page, contact="study@example.org")
    return replace(tables, study=tables.study.model_copy(update={"texts": texts}))


def _in_block(tables: Tables, block: str) -> Tables:
    trials = tables.trials
    return replace(tables, trials=trials.assign(block=trials["block"].where(trials["item_id"] != "rating told", block)))


MISPLACED: dict[str, tuple[Callable[[Tables], Tables], str]] = {
    "in a heading": (lambda t: _change(t, 0, "payload", lambda p: p.update(question="{right}?")), "nowhere else"),
    "in a face": (lambda t: _change(t, 0, "payload", lambda p: p["faces"][0].update(text="{asked}")), "nowhere else"),
    "undeclared": (lambda t: _rating(t, "rating told", "payload", lambda p: p.pop("score")), "nowhere else"),
    "untold": (lambda t: _rating(t, "rating after", "payload", lambda p: p.update(score={})), "is told by {right} and {asked}"),
    "half told": (
        lambda t: _rating(t, "rating told", "payload", lambda p: p["panels"][0].update(text="{right}")), "is told by",
    ),
    "too early": (lambda t: _rating(t, "rating before", "payload", _tells), "not answered by then"),
    "in practice": (
        lambda t: _rating(t, t.trials["item_id"].iloc[0], "payload", _tells), "in the phase 'practice', where it is not allowed",
    ),
    "of nothing": (
        lambda t: _rating(t, "rating told", "payload", lambda p: p["score"].update(block="?")), "no trial that has a right answer",
    ),
    "of its own block": (lambda t: _in_block(t, "agreement"), "of its own block"),
    "of another phase": (
        lambda t: _rating(t, "rating told", "payload", lambda p: p["score"].update(phase="train")), "key",
    ),
    "on a page": (_paged, "a page holds"),
}  # fmt: skip


def test_the_drawn_tables_tell_a_score_where_it_is_allowed(tables: Tables) -> None:
    assert audit(tables) == []


@pytest.mark.parametrize("name", MISPLACED)
def test_the_audit_of_all_protocols_finds_a_score(tables: Tables, name: str) -> None:
    plant, told = MISPLACED[name]
    faults = audit(plant(tables))
    assert any(told in fault for fault in faults), faults


def test_a_preview_shows_an_example_of_the_score_and_says_that_it_is_one(store: Store, tmp_path: Path) -> None:
    made = plan(_file(), store)
    page = write_preview(made.study, made.options, draw(made), tmp_path / "preview").read_text(encoding="utf-8")
    assert page.count("<b>7</b> of your <b>10</b> answers were right.") == 6
    assert page.count(EXAMPLE_NOTE) == 6
    assert "{right}" not in page


def test_too_few_wrong_predictions_are_refused(store: Store) -> None:
    with pytest.raises(LimenError, match="gets right and the run has 48"):
        build(_file(design={**DESIGN, "trials": 34}), store)


def test_an_odd_number_of_trials_is_refused(store: Store) -> None:
    with pytest.raises(LimenError, match="even numbers"):
        build(_file(design={**DESIGN, "trials": 9}), store)


def test_an_unknown_explanation_is_refused_with_the_nearest(store: Store) -> None:
    with pytest.raises(LimenError, match="grad_cam"):
        build(_file(conditions=("baseline", "gradcam")), store)


def test_the_example_study_file_is_valid() -> None:
    assert load_study("configs/studies/agreement.yaml").protocol == "agreement"


def test_drawing_imports_neither_torch_nor_flask() -> None:
    code = "import sys, stimuli.designs.agreement; print([n for n in ('torch', 'flask') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
