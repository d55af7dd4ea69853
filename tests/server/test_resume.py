"""Coming back: what each policy does with an unfinished block, and how long a session lasts."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from sqlalchemy import select, update

from psychophysics_server.export.folder import export
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.sessions.schedule import Blocks, counting
from psychophysics_server.sessions.session import answers_of, schedule_of
from psychophysics_server.storage.database import one
from psychophysics_server.storage.tables import events, sessions


@pytest.fixture
def policy(build, launch):
    return lambda name, **more: launch(build(resume={"policy": name, **more}))


def blocks(person):
    return [step for step in person.get().json["timeline"] if step["step"] == "block"]


def come_back(person):
    return person.say("resume", {"reason": "reload", "gap_s": 3.0})


def right(person, trial, **more):
    return person.answer(trial, person.key()[trial["trial_id"]], **more)


def after_first_of_third_block(running):
    """Take everything up to the first trial of the third block, that one included."""
    person = running.person()
    third = blocks(person)[2]["trials"]
    person.take(stop_before=third[1]["trial_id"])
    return person, third


def grow_old(running, hours):
    def job(connection):
        connection.execute(update(sessions).values(opened_at=sessions.c.opened_at - 3600 * hours))

    running.database.write(job)


def test_who_comes_back_goes_on_where_they_stopped(policy):
    person, third = after_first_of_third_block(policy("continue"))
    answer = come_back(person)
    assert (answer.json["state"], answer.json["faults"]) == ("ACTIVE", {})
    assert third[0]["trial_id"] in person.get().json["answered"]
    assert [block["attempt"] for block in blocks(person)] == [1, 1, 1, 1]


def test_an_unfinished_block_begins_again_and_finished_ones_stay(policy):
    running = policy("restart_block")
    person, third = after_first_of_third_block(running)
    come_back(person)
    held = person.get().json
    assert third[0]["trial_id"] not in held["answered"]
    assert [block["attempt"] for block in blocks(person)] == [1, 1, 2, 1]
    assert {t["trial_id"] for block in blocks(person)[:2] for t in block["trials"]} == set(held["answered"])


def test_answers_of_the_attempt_given_up_are_kept_and_do_not_count(policy):
    running = policy("restart_block")
    person, third = after_first_of_third_block(running)
    come_back(person)
    stale = right(person, third[1])
    assert list(stale.json["faults"].values()) == ["this block was begun again: its attempt is number 2"]
    for trial in third:
        assert right(person, trial, attempt=2).json["faults"] == {}
    person.take()
    assert person.complete().status_code == 200
    with running.database.read() as connection:
        trials = schedule_of(connection, running.study, person.session)
        answers = answers_of(connection, person.session)
        rows = connection.execute(select(events).filter_by(session=person.session, trial_id=third[0]["trial_id"])).all()
    assert [row.attempt for row in rows] == [1, 2]
    counted = counting(trials, answers)
    assert [a.attempt for a in counted if a.trial_id == third[0]["trial_id"]] == [2]
    assert len({a.trial_id for a in counted}) == len(trials)
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


def test_an_export_holds_the_last_attempt_and_tells_of_the_one_given_up(policy, tmp_path):
    running = policy("restart_block")
    person, third = after_first_of_third_block(running)
    come_back(person)
    person.take(attempt=2, stop_before=blocks(person)[3]["trials"][0]["trial_id"])
    assert person.take().complete().status_code == 200
    done = export(running.database, running.study, tmp_path / "out", stale_s=3600.0)
    rows = pd.concat(
        [
            pd.read_csv(path)
            for path in done.folder.glob("data/study-tinystudy*_data.csv")
            if "description-excluded" in path.name or "description" not in path.name
        ]
    )
    assert list(rows.loc[rows["trial_id"] == third[0]["trial_id"], "attempt"]) == [2]
    assert not rows["trial_id"].duplicated().any()
    told = pd.read_csv(next(done.folder.glob("data/*description-events_data.csv")))
    assert told.loc[told["fault"].fillna("").str.contains("begun again"), "trial_id"].tolist() == [third[0]["trial_id"]]


def test_a_block_can_be_begun_again_more_than_once(policy):
    person, third = after_first_of_third_block(policy("restart_block"))
    come_back(person)
    right(person, third[0], attempt=2)
    come_back(person)
    assert blocks(person)[2]["attempt"] == 3
    come_back(person)
    assert blocks(person)[2]["attempt"] == 3


def test_between_blocks_nothing_is_begun_again(policy):
    running = policy("restart_block")
    person = running.person()
    person.take(stop_before=blocks(person)[2]["trials"][0]["trial_id"])
    come_back(person)
    assert [block["attempt"] for block in blocks(person)] == [1, 1, 1, 1]


def test_the_same_events_in_one_batch_come_to_the_same(policy):
    person, third = after_first_of_third_block(policy("restart_block"))
    first, second = (
        {"trial_id": t["trial_id"], "response": person.key()[t["trial_id"]], "attempt": 2} for t in third[:2]
    )
    batch = [
        person.event("resume", {"reason": "reload"}),
        person.event("trial", first),
        person.event("resume", {"reason": "reload"}),
        person.event("trial", second),
        person.event("trial", {**second, "attempt": 3}),
    ]
    faults = person.post(*batch).json["faults"]
    assert list(faults) == [str(batch[3]["seq"])]
    assert blocks(person)[2]["attempt"] == 3


def test_a_study_in_one_go_ends_for_who_comes_back(policy):
    running = policy("refuse")
    person, third = after_first_of_third_block(running)
    assert come_back(person).json["state"] == "FAILED"
    held = person.get().json
    assert (held["state"], held["reason"]) == ("FAILED", "reload")
    late = right(person, third[1])
    assert list(late.json["faults"].values()) == ["the session is over"]
    answer = person.complete()
    assert (answer.status_code, answer.json["error"], answer.json["state"]) == (409, "over", "FAILED")
    outcome = person.call("POST", "/api/outcome", json={}).json
    assert outcome["code"].startswith("LIMEN-R-")
    assert verify(running.database, running.app.extensions["limen"].library).faults == []


@pytest.mark.parametrize("when", ["before the first trial", "after the last trial"])
def test_a_study_in_one_go_can_be_reloaded_where_no_trial_is_at_stake(policy, when):
    person = policy("refuse").person()
    if when == "after the last trial":
        person.take()
    else:
        person.take(stop_before=blocks(person)[0]["trials"][0]["trial_id"])
    assert come_back(person).json["state"] == "ACTIVE"
    assert person.take().complete().status_code == 200


def test_a_session_that_is_too_old_has_expired_in_views_before_anyone_comes(policy):
    running = policy("continue", max_age_hours=2)
    person = running.person()
    person.consent()
    grow_old(running, 1.9)
    assert person.get().json["state"] == "ACTIVE"
    grow_old(running, 0.2)
    held = person.get().json
    assert (held["state"], held["reason"]) == ("EXPIRED", "age")


@pytest.mark.parametrize("contact", ["events", "complete", "outcome"])
def test_a_session_that_is_too_old_expires_at_the_next_contact(policy, contact):
    running = policy("continue", max_age_hours=2)
    person = running.person().take()
    grow_old(running, 3)
    if contact == "events":
        assert come_back(person).json["state"] == "EXPIRED"
    elif contact == "complete":
        assert person.complete().json["state"] == "EXPIRED"
    else:
        assert person.call("POST", "/api/outcome", json={}).json["code"].startswith("LIMEN-R-")
    with running.database.read() as connection:
        row = one(connection, sessions, session=person.session)
    assert (row.state, row.reason) == ("EXPIRED", "age")


def test_events_of_an_expired_session_are_kept_and_acknowledged(policy):
    running = policy("continue", max_age_hours=1)
    person = running.person()
    person.consent()
    grow_old(running, 2)
    event = person.event("trial", {"trial_id": person.trials()[0]["trial_id"], "response": "cat"})
    answer = person.post(event)
    assert answer.json["acknowledged"] == [event["seq"]]
    with running.database.read() as connection:
        held = connection.execute(select(events.c.body).filter_by(session=person.session, seq=event["seq"])).scalar()
    assert json.loads(held)["response"] == "cat"


def test_a_finished_session_never_expires(policy):
    running = policy("continue", max_age_hours=1)
    person = running.person().take()
    code = person.complete().json["code"]
    grow_old(running, 100)
    assert person.get().json["state"] == "COMPLETE"
    assert person.complete().json["code"] == code


def test_blocks_know_an_interruption_from_a_finished_block(tiny):
    trials = tiny.trials["baseline-0"]
    inner = [trial.trial_id for trial in trials if trial.phase != "practice"]
    state = Blocks(trials)
    state.interrupt()
    assert state.attempts == [1, 1, 1, 1]
    state.answer(inner[0], 1)
    state.interrupt()
    assert (state.attempts, state.answered, state.begun) == ([2, 1, 1, 1], set(), False)
    state.answer(inner[0], 1)
    assert state.answered == set()
    for name in inner[:2]:
        state.answer(name, 2)
    state.interrupt()
    assert (state.attempts, state.begun) == ([2, 1, 1, 1], True)
