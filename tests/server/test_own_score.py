"""A person's own score on a frozen screen: filled from the answers that are held, never early, the same each time, exported."""

from __future__ import annotations

import json
from contextlib import closing

import pandas as pd
import pytest

from bench.records import columns
from bench.store import Store
from psychophysics_server.bots.fleet import run_inside
from psychophysics_server.export.folder import export
from psychophysics_server.storage.database import Database
from psychophysics_server.study.frozen import Library
from psychophysics_server.web.saves import Saves
from stimuli.records import TrialRow

TELLS = "You gave **{right}** right answers to **{asked}** questions."
FIRST = "session 1 test"


def screen(cell, position, **score):
    """Return the row of a rating at the end of a cell that first tells a score."""
    scale = [str(level) for level in range(1, 6)]
    payload = {
        "phase": "test",
        "session": 2,
        "question": "How well do you understand?",
        "panels": [{"label": "Your answers", "pictures": [], "text": TELLS}],
        "options": scale,
        "faces": [{"label": level} for level in scale],
        "layout": "scale",
        "score": score,
    }
    return {
        "cell": cell.cell, "condition": cell.condition, "list": cell.list, "position": position, "block": "rating told",
        "session": 2, "phase": "test", "trial_type": "choice", "trial_id": f"told-{cell.cell}-{position}",
        "item_id": "rating told", "is_catch": False, "k_seen": 0, "payload": json.dumps(payload), "answer": "{}",
        "factors": "{}",
    }  # fmt: skip


@pytest.fixture
def telling(tiny, tmp_path):
    """Write the tiny study with screens that tell scores at the end of each cell."""

    def write(*rules, **changes):
        facts = {**json.loads(tiny.artifact.file("study.json").read_text(encoding="utf-8")), **changes}
        held = tiny.artifact.rows("trials.parquet")
        end = int(held["position"].max()) + 1
        more = [screen(cell, end + i, **rule) for cell in tiny.cells for i, rule in enumerate(rules or ({},))]
        library = Library(Store(tmp_path / "store"))
        with library.store.write("stimuli", facts) as draft:
            added = pd.DataFrame(more, columns=columns(TrialRow))
            draft.write_rows(pd.concat([held, added], ignore_index=True), "trials.parquet")
            draft.write_rows(tiny.artifact.rows("cells.parquet"), "cells.parquet")
            for name, path in tiny.pictures.items():
                draft.write_bytes(path.read_bytes(), f"pictures/{name}.png")
            draft.write_json(facts, "study.json")
            draft.write_json({"protocol": "utility"}, "protocol.json")
        return library.newest(facts["study"])

    return write


def told(person, trial):
    return person.call("POST", "/api/score", json={"trial_id": trial["trial_id"]})


def screens(person):
    return [trial for trial in person.trials() if trial["trial_type"] == "choice"]


def questions(person, name=""):
    """List the trials that have a right answer, of one block or of all tests, attention checks left out."""
    trials = person.running.study.trial_index
    index = {trial_id: trial for cell in trials.values() for trial_id, trial in cell.items()}
    mine = [index[trial["trial_id"]] for trial in person.trials()]
    return [t.trial_id for t in mine if t.asks and t.phase == "test" and not t.is_catch and name in ("", t.block)]


def arrive(running, wrong=0, name="5f0000000000000000000001"):
    """Take everything up to the first screen that tells a score, with some wrong answers."""
    person = running.person(name)
    return person.take(wrong=tuple(questions(person)[:wrong]), stop_before=screens(person)[0]["trial_id"])


def rate(person, trial, response="3", **score):
    return person.answer(trial, response, told_score=score)


@pytest.mark.parametrize("wrong", [0, 1, 4])
def test_each_person_is_told_what_they_answered(telling, launch, wrong):
    person = arrive(launch(telling()), wrong)
    answer = told(person, screens(person)[0])
    assert (answer.status_code, answer.json["right"], answer.json["asked"]) == (200, 4 - wrong, 4)
    assert answer.json["payload"]["panels"][0]["text"] == f"You gave **{4 - wrong}** right answers to **4** questions."
    assert "score" not in answer.json["payload"]


@pytest.mark.parametrize(
    ("rule", "score"),
    [
        ({"catch": True}, (5, 6)),
        ({"block": FIRST}, (1, 2)),
        ({"block": FIRST, "catch": True}, (2, 3)),
        ({"phase": "practice"}, (2, 2)),
    ],
)
def test_only_the_trials_that_the_screen_names_are_counted(telling, launch, rule, score):
    person = arrive(launch(telling(rule)), wrong=1)
    answer = told(person, screens(person)[0]).json
    assert (answer["right"], answer["asked"]) == score


def test_of_practice_the_attempt_that_ended_it_is_counted(telling, launch):
    person = launch(telling({"phase": "practice"})).person()
    person.consent()
    key, first = person.key(), [trial for trial in person.trials() if trial["phase"] == "practice"]
    for attempt, wrong in ((1, 2), (2, 1)):
        for i, trial in enumerate(first):
            right = key[trial["trial_id"]]
            other = next(option for option in trial["payload"]["options"] if option != right)
            person.answer(trial, other if i < wrong else right, attempt=attempt)
    person.take(stop_before=screens(person)[0]["trial_id"])
    assert told(person, screens(person)[0]).json["right"] == 1


def test_no_score_goes_out_before_every_answer_before_it_is_held(telling, launch):
    running = launch(telling({"block": FIRST}, {}))
    person = running.person()
    one, two = screens(person)
    last = person.trials()[-3]
    person.take(stop_before=last["trial_id"])
    assert told(person, one).status_code == 409
    assert told(person, one).json["error"] == "early"
    person.answer(last, person.key()[last["trial_id"]])
    assert told(person, one).status_code == 200
    assert told(person, two).json["error"] == "early"
    view = json.dumps(person.get().json["timeline"])
    assert view.count("{right}") == 2


def test_a_score_is_the_same_each_time_it_is_asked_for(telling, launch):
    person = arrive(launch(telling()), wrong=2)
    trial, key = screens(person)[0], person.key()
    first = told(person, trial)
    for name in questions(person):  # too late: the first answer counts
        person.answer({"trial_id": name}, key[name])
    again = person.open("5f0000000000000000000001")
    assert told(again, trial).data == first.data
    rate(again, trial, right=2, asked=4)
    assert again.complete().status_code == 200
    assert told(again, trial).data == first.data


def test_what_a_browser_says_of_the_score_changes_nothing(telling, launch):
    person = arrive(launch(telling()), wrong=2)
    trial = screens(person)[0]
    for said in ({"right": 4, "asked": 4}, {"right": 2}, {}, {"right": "2", "asked": "4"}):
        assert list(rate(person, trial, **said).json["faults"].values()) == [
            "the score on the screen is not the one that was told"
        ]
    assert list(person.answer(trial, "3").json["faults"].values()) != []
    assert told(person, trial).json["right"] == 2
    assert person.complete().json["missing_trials"] == [trial["trial_id"]]
    assert rate(person, trial, right=2, asked=4).json["faults"] == {}
    assert person.complete().status_code == 200


def test_an_answer_that_comes_before_the_score_cannot_count(telling, launch):
    person = launch(telling()).person()
    person.consent()
    faults = rate(person, screens(person)[0], right=4, asked=4).json["faults"]
    assert list(faults.values()) == ["this trial tells a score over answers that are not held yet"]


def test_there_is_no_score_for_strangers_other_trials_and_ended_sessions(telling, launch):
    running = launch(telling())
    person, other = arrive(running), running.person("5f0000000000000000000002")
    trial = screens(person)[0]
    assert told(person, person.trials()[0]).status_code == 404
    assert told(person, {"trial_id": "t0"}).status_code == 404
    assert told(other, trial).status_code in (404, 409)
    assert person.call("POST", "/api/score", json={"trial_id": trial["trial_id"], "right": 4}).status_code == 400
    person.call("POST", "/api/withdraw", json={"reason": ""})
    assert told(person, trial).status_code in (401, 410)


def test_the_export_holds_what_each_person_was_told_and_the_codebook_says_what_it_is(telling, launch, tmp_path):
    running = launch(telling())
    for wrong in (0, 3):
        person = arrive(running, wrong, name=f"5f000000000000000000000{wrong}")
        assert rate(person, screens(person)[0], right=4 - wrong, asked=4).json["faults"] == {}
        assert person.complete().status_code == 200
    export(running.database, running.study, tmp_path / "export", stale_s=60.0)
    rows = pd.read_csv(next((tmp_path / "export" / "data").glob("study-*study_data.csv")))
    asked = (rows["phase"] == "test") & ~rows["is_catch"]
    scored = rows[asked].groupby("participant_id")["correct"].agg(["sum", "count"])
    screen = rows[rows["item_id"] == "rating told"].set_index("participant_id")[["told_right", "told_asked"]]
    assert sorted(screen["told_right"]) == [1, 4]
    assert (screen.to_numpy() == scored.loc[screen.index].to_numpy()).all()
    assert rows.loc[rows["item_id"] != "rating told", ["told_right", "told_asked"]].isna().all().all()
    assert "`told_right`" in (tmp_path / "export" / "codebook.md").read_text(encoding="utf-8")


def test_the_answer_is_saved_before_flask_is_asked(telling, launch, monkeypatch):
    person = arrive(launch(telling()), wrong=1)
    plain, whole = [], Saves._plain_save

    def noted(self, environ, start_response):
        body = whole(self, environ, start_response)
        plain.append(body is not None)
        return body

    monkeypatch.setattr(Saves, "_plain_save", noted)
    assert rate(person, screens(person)[0], right=3, asked=4).json["faults"] == {}
    assert plain == [True]


def test_simulated_people_are_told_what_they_answered(telling, tmp_path):
    study = telling()
    with closing(Database(tmp_path / "bots.db")) as database:
        journeys = run_inside(study, database, n=8, seed=2)
        export(database, study, tmp_path / "export", sources=["bot"], stale_s=60.0)
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}
    rows = pd.read_csv(next((tmp_path / "export" / "data").glob("study-*study_data.csv")))
    asked = rows[(rows["phase"] == "test") & ~rows["is_catch"]]
    screen = rows[rows["item_id"] == "rating told"].set_index("participant_id")
    assert len(screen) > 3
    assert screen["told_right"].equals(
        asked.groupby("participant_id")["correct"].sum().loc[screen.index].rename("told_right")
    )
