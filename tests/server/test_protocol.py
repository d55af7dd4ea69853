"""The wire protocol: an acknowledged event is held once, a code means that everything is held."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import func, select, update

from psychophysics_server.storage.tables import alarms, events, sessions
from psychophysics_server.wire.chain import body_hash, chain_over


def held(running, person):
    with running.database.read() as connection:
        query = select(events).filter_by(session=person.session).order_by(events.c.seq)
        return list(connection.execute(query))


def count(running, table):
    with running.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_whole_run_ends_with_a_code(running):
    answer = running.person().take().complete()
    assert answer.status_code == 200, answer.json
    assert answer.json["code"].startswith("LIMEN-")
    assert answer.json["state"] == "COMPLETE"


def test_the_same_event_sent_twice_is_acknowledged_twice_and_stored_once(running):
    person = running.person()
    event = person.event("consent", {"accepted": True})
    first, second = person.post(event), person.post(event)
    assert first.json == second.json == {**first.json, "acknowledged": [1], "high_water": 1}
    assert [row.body for row in held(running, person)] == [event["body"]]


def test_another_body_under_a_held_seq_is_a_conflict_and_an_alarm_and_changes_nothing(running):
    person = running.person()
    person.consent()
    forged = {"seq": 1, "kind": "consent", "time": 1.0, "body": '{"accepted": false}'}
    fresh = person.event("instructions", {"viewed_ms": 10.0})
    answer = person.post(forged, fresh)
    assert answer.status_code == 409
    assert answer.json["error"] == "conflict"
    assert (answer.json["conflicts"], answer.json["acknowledged"], answer.json["high_water"]) == ([1], [2], 2)
    assert [row.body for row in held(running, person)] == [event["body"] for event in person.sent]
    person.post(forged)
    with running.database.read() as connection:
        assert [row.body for row in connection.execute(select(alarms))] == [forged["body"]]


def test_the_high_water_mark_stops_at_a_gap_and_moves_on_when_it_is_filled(running):
    person = running.person()
    first, second, third = (person.event(kind, {}) for kind in ("consent", "instructions", "focus"))
    assert person.post(first, third).json["high_water"] == 1
    assert person.get().json["next_seq"] == 4
    assert person.post(second).json["high_water"] == 3
    assert person.get().json["chain"] == person.chain == chain_over(body_hash(e["body"]) for e in person.sent)


def test_no_code_while_an_event_is_missing(running):
    person = running.person().take()
    lost = person.event("focus", {"what": "blur"})
    person.post(person.event("focus", {"what": "focus"}))
    answer = person.complete()
    assert answer.status_code == 409
    assert answer.json["error"] == "incomplete"
    assert answer.json["missing"] == [lost["seq"]]
    person.post(lost)
    assert person.complete().status_code == 200


def test_no_code_while_a_trial_is_missing_though_every_event_is_held(running):
    person = running.person()
    last = person.trials()[-1]["trial_id"]
    person.take(stop_before=last)
    answer = person.complete()
    assert answer.status_code == 409
    assert answer.json["missing_trials"] == [last]
    assert answer.json["missing"] == []
    assert answer.json["chain_matches"] is True
    assert person.get().json["code"] is None


def test_no_code_for_another_chain(running):
    person = running.person().take()
    person.chain = body_hash("something else")
    answer = person.complete()
    assert answer.status_code == 409
    assert answer.json["chain_matches"] is False


def test_no_code_without_consent(running):
    person = running.person()
    person.say("consent", {"accepted": False})
    person.take()
    for event in person.sent:
        if event["kind"] == "consent":
            assert person.get().json["done"]["consent"] is True
    other = running.person("other")
    for trial in other.trials():
        other.answer(trial, other.key()[trial["trial_id"]])
    assert other.complete().status_code == 409


def test_the_code_is_the_same_whenever_it_is_asked_for(running):
    person = running.person().take()
    first = person.complete().json
    assert person.complete().json == first
    assert person.get().json["code"] == first["code"]
    again = running.person()
    assert again.session == person.session
    assert again.complete().json["code"] == first["code"]


def test_the_code_for_review_is_another_one_and_stays_the_same(running):
    person = running.person()
    person.consent()
    first = person.call("POST", "/api/manual", json={"reason": "no network"}).json["code"]
    assert person.call("POST", "/api/manual", json={}).json["code"] == first
    assert first.startswith("LIMEN-R-")
    assert person.take().complete().json["code"] != first


def test_opening_again_resumes_the_same_session_with_another_token(running):
    person = running.person()
    person.consent()
    again = running.person()
    assert (person.opened.status_code, again.opened.status_code) == (201, 200)
    assert again.opened.json["resumed"] is True
    assert (again.session, again.next_seq) == (person.session, 2)
    assert again.token != person.token
    assert person.get().json["timeline"] == again.get().json["timeline"]
    assert count(running, sessions) == 1


def test_the_time_away_is_told_though_the_study_was_opened_again(running):
    person = running.person()
    person.consent()
    running.database.write(
        lambda connection: connection.execute(update(sessions).values(last_seen=time.time() - 7200)).rowcount
    )
    assert running.person().get().json["idle_s"] > 7000


def test_a_reload_in_the_middle_goes_on_where_it_was(running):
    person = running.person()
    stop = person.trials()[7]["trial_id"]
    person.take(stop_before=stop)
    answered = person.get().json["answered"]
    again = running.person()
    assert again.get().json["answered"] == answered
    again.say("resume", {"reason": "reload"})
    assert again.take().complete().status_code == 200
    given = [row.trial_id for row in held(running, again) if row.trial_id]
    assert sorted(given) == sorted({trial["trial_id"] for trial in again.trials()})


def test_of_two_tabs_the_first_acknowledged_answer_to_a_trial_counts(running):
    person = running.person().take(stop_before="")
    other = running.person("second").take(stop_before=running.person("second").trials()[-1]["trial_id"])
    tab = running.person("second")
    trial = tab.trials()[-1]
    first, second = trial["payload"]["options"]
    assert other.answer(trial, first).json["faults"] == {}
    tab.next_seq += 1
    late = tab.answer(trial, second)
    assert late.status_code == 200
    assert "answered already" in late.json["faults"][str(tab.sent[-1]["seq"])]
    counted = [
        json.loads(row.body)["response"]
        for row in held(running, tab)
        if row.trial_id == trial["trial_id"] and not row.fault
    ]
    assert counted == [first]
    assert person.complete().status_code == 200


def test_the_older_of_many_tokens_ends_and_the_newest_work(running):
    first = running.person()
    later = [running.person() for _ in range(20)]
    assert first.get().status_code == 401
    assert {person.get().status_code for person in later} == {200}


def test_what_a_browser_is_told_holds_no_answer_condition_or_item(running):
    person = running.person()
    person.consent()
    shown = json.dumps(person.get().json)
    assert person.opened.json.keys() == {"session", "token", "resumed", "state", "next_seq"}
    for secret in ("expected", "model_correct", "item_id", "image-", "is_catch", "condition", "baseline", "grad_cam"):
        assert secret not in shown
    key = person.key()
    test = next(trial for trial in person.trials() if trial["phase"] == "test")
    assert person.answer(test, key[test["trial_id"]]).json["feedback"] == {}


def test_practice_tells_the_answer_after_the_response_and_repeats_until_right(running):
    person, key = running.person(), running.person().key()
    person.consent()
    practice = next(step for step in person.get().json["timeline"] if step["step"] == "practice")
    assert practice["attempts"] == 2
    first, second = practice["trials"]
    right = key[first["trial_id"]]
    wrong = next(option for option in first["payload"]["options"] if option != right)
    answer = person.answer(first, wrong).json
    assert answer["feedback"] == {"2": {"correct": False, "expected": right}}
    assert answer["practice"] == {
        "attempt": 1,
        "answered": [first["trial_id"]],
        "wrong": 1,
        "passed": False,
        "over": False,
    }
    assert person.post(person.sent[-1]).json["feedback"] == answer["feedback"]
    answer = person.answer(second, key[second["trial_id"]]).json
    assert answer["practice"] == {"attempt": 2, "answered": [], "wrong": 0, "passed": False, "over": False}
    person.answer(first, right, attempt=2)
    answer = person.answer(second, key[second["trial_id"]], attempt=2).json
    assert answer["practice"]["passed"] is True
    assert answer["practice"]["over"] is True


def test_practice_ends_unpassed_after_its_last_attempt(running):
    person, key = running.person(), running.person().key()
    person.consent()
    practice = next(step for step in person.get().json["timeline"] if step["step"] == "practice")
    for attempt in (1, 2):
        for trial in practice["trials"]:
            wrong = next(option for option in trial["payload"]["options"] if option != key[trial["trial_id"]])
            state = person.answer(trial, wrong, attempt=attempt).json["practice"]
    assert (state["attempt"], state["passed"], state["over"]) == (2, False, True)


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("trial", {"trial_id": "t0", "response": ""}, "not on the schedule"),
        ("trial", {"response": "cat"}, "trial_id"),
        ("trial", "not json", "not JSON"),
        ("trial", [1, 2], "not a JSON object"),
        ("focus", "{", "not JSON"),
        ("trial", {"trial_id": "TEST", "response": "horse"}, "not among the options"),
        ("trial", {"trial_id": "TEST", "response": "cat", "rt_ms": -1}, "rt_ms"),
        ("trial", '{"trial_id": "TEST", "response": "cat", "rt_ms": NaN}', "rt_ms"),
    ],
)
def test_an_event_that_cannot_count_is_kept_told_of_and_not_counted(running, kind, body, says):
    person = running.person()
    person.consent()
    test = next(trial["trial_id"] for trial in person.trials() if trial["phase"] == "test")
    text = (body if isinstance(body, str) else json.dumps(body)).replace("TEST", test)
    answer = person.say(kind, text)
    assert answer.json["acknowledged"] == [2]
    assert says in answer.json["faults"]["2"]
    assert held(running, person)[-1].body == text
    assert person.get().json["answered"] == []
    assert person.take().complete().status_code == 200


@pytest.mark.parametrize(
    "event",
    [
        {"seq": 0},
        {"seq": "1"},
        {"seq": 1.5},
        {"seq": 10**9},
        {"kind": "payment"},
        {"body": {"accepted": True}},
        {"body": "\0"},
        {"body": "\ud800"},
        {"time": "now"},
        {"extra": 1},
    ],
)
def test_a_request_of_the_wrong_shape_is_refused_in_one_sentence_and_stores_nothing(running, event):
    person = running.person()
    answer = person.post({"seq": 1, "kind": "consent", "time": 1.0, "body": "{}"} | event)
    assert answer.status_code == 400
    assert answer.json["error"] == "bad_request"
    assert "\n" not in answer.json["message"]
    assert held(running, person) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 5000])
def test_a_request_that_is_not_json_is_refused(running, data):
    person = running.person()
    for path in ("/api/events", "/api/complete", "/api/withdraw", "/api/sessions"):
        assert person.call("POST", path, data=data).status_code == 400


def test_a_body_or_batch_that_is_too_large_is_refused_and_stores_nothing(running):
    person = running.person()
    event = {"seq": 1, "kind": "quiz", "time": 1.0, "body": json.dumps({"text": "x" * 70_000})}
    assert person.post(event).status_code == 413
    many = [{"seq": n, "kind": "quiz", "time": 1.0, "body": "{}"} for n in range(1, 66)]
    assert person.post(*many).status_code == 413
    assert held(running, person) == []


def test_checks_are_applied_at_the_end_and_stored_with_their_values(running):
    from psychophysics_server.storage.tables import check_values

    person = running.person()
    catch = [t.trial_id for cell in running.study.trials.values() for t in cell if t.is_catch]
    person.take(wrong=tuple(catch))
    assert person.complete().status_code == 200
    with running.database.read() as connection:
        rows = {row.name: row for row in connection.execute(select(check_values))}
        assert connection.execute(select(sessions.c.excluded)).scalar_one() is True
    assert (rows["catch_accuracy"].value, rows["catch_accuracy"].threshold) == (0.0, 1.0)
    assert rows["catch_accuracy"].passed is False
    assert (rows["practice_attempts"].value, rows["practice_attempts"].passed) == (1.0, True)
