"""The questions about the instructions: shown without answers, judged by the server, and what failing them means."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import select

from psychophysics_server.monitoring.verify import verify
from psychophysics_server.sessions.assign import counts
from psychophysics_server.sessions.quiz import quiz_state
from psychophysics_server.storage.database import one
from psychophysics_server.storage.tables import events, schedules, sessions

PAGE = {"title": "Title", "body": "One paragraph."}
QUIZ = [
    {"question": "What do you predict?", "options": ["what I see", "what the machine says", "neither"], "answer": "what the machine says"},
    {"question": "May you look back?", "options": ["yes", "no"], "answer": "yes"},
]  # fmt: skip
TEXTS = {"consent": PAGE, "instructions": [PAGE], "quiz": QUIZ, "debrief": PAGE, "contact": "lab@example.org"}
RIGHT, WRONG = ["what the machine says", "yes"], ["neither", "no"]


@pytest.fixture
def asking(build, launch):
    """Serve a study that asks about its instructions."""
    return launch(build(texts=TEXTS))


def trying(person, attempt, answers):
    return person.say("quiz", {"attempt": attempt, "answers": answers, "viewed_ms": 900.0})


def row_of(running, person):
    with running.database.read() as connection:
        return one(connection, sessions, session=person.session)


def test_the_questions_are_shown_without_their_answers_after_the_instructions(asking):
    held = asking.person().get()
    assert [step["step"] for step in held.json["timeline"]][:4] == ["consent", "instructions", "quiz", "practice"]
    (step,) = [step for step in held.json["timeline"] if step["step"] == "quiz"]
    assert step["attempts"] == 2
    assert [set(question) for question in step["questions"]] == [{"question", "options"}] * 2
    assert [sorted(q["options"]) for q in step["questions"]] == [sorted(q["options"]) for q in QUIZ]
    assert "quiz" not in held.json["texts"]
    assert "what the machine says" in held.text
    assert "answer" not in str(step["questions"])


def test_the_order_of_the_options_follows_from_the_stored_seed_and_differs_between_people(asking):
    orders = set()
    for number in range(8):
        person = asking.person(f"person-{number}")
        shown = [step for step in person.get().json["timeline"] if step["step"] == "quiz"]
        assert shown == [step for step in person.get().json["timeline"] if step["step"] == "quiz"]
        orders.add(tuple(shown[0]["questions"][0]["options"]))
        with asking.database.read() as connection:
            assert one(connection, schedules, session=person.session) is not None
    assert len(orders) > 2


def test_a_right_try_passes_and_says_so_in_the_acknowledgement(asking):
    person = asking.person()
    person.consent()
    assert trying(person, 1, RIGHT).json["quiz"] == {"attempt": 1, "wrong": 0, "passed": True, "over": True}
    assert person.get().json["quiz"]["passed"] is True


def test_a_wrong_try_tells_how_many_were_wrong_and_not_which(asking):
    person = asking.person()
    person.consent()
    answer = trying(person, 1, ["what the machine says", "no"])
    assert answer.json["quiz"] == {"attempt": 2, "wrong": 1, "passed": False, "over": False}
    assert answer.json["state"] == "ACTIVE"
    assert trying(person, 2, RIGHT).json["quiz"] == {"attempt": 2, "wrong": 0, "passed": True, "over": True}


def test_the_last_wrong_try_screens_out_with_a_code_and_opens_the_place_again(asking):
    person = asking.person()
    person.consent()
    trying(person, 1, WRONG)
    answer = trying(person, 2, WRONG)
    assert answer.json["quiz"] == {"attempt": 2, "wrong": 2, "passed": False, "over": True}
    assert answer.json["state"] == "SCREENED_OUT"
    row = row_of(asking, person)
    assert (row.state, row.reason) == ("SCREENED_OUT", "quiz")
    outcome = person.call("POST", "/api/outcome", json={}).json
    assert (outcome["state"], outcome["reason"]) == ("SCREENED_OUT", "quiz")
    assert outcome["code"].startswith("LIMEN-S-")
    assert outcome["deletion_token"].startswith("ERASE-")
    assert person.call("POST", "/api/outcome", json={}).json == outcome
    assert person.get().json["code"] == outcome["code"]
    with asking.database.read() as connection:
        assert sum(counts(connection, asking.study, "live", now=row.last_seen, stale_s=1e6).values()) == 0


def test_a_try_that_is_sent_again_counts_once_and_is_told_again(asking):
    person = asking.person()
    person.consent()
    event = person.event("quiz", {"attempt": 1, "answers": WRONG})
    first, again = person.post(event), person.post(event)
    assert first.json["quiz"] == again.json["quiz"] == {"attempt": 2, "wrong": 2, "passed": False, "over": False}


@pytest.mark.parametrize(
    ("attempt", "answers", "fault"),
    [
        (2, RIGHT, "the next try at the questions is number 1"),
        (1, RIGHT[:1], "a try answers all 2 questions"),
        (1, "yes", "a try answers all 2 questions"),
        (1, ["what the machine says", "maybe"], "an answer is not among the options of its question"),
        (1, [["a"], {}], "an answer is not among the options of its question"),
    ],
)
def test_a_try_that_cannot_count_is_kept_with_a_fault(asking, attempt, answers, fault):
    person = asking.person()
    person.consent()
    answer = trying(person, attempt, answers)
    assert list(answer.json["faults"].values()) == [fault]
    assert answer.json["quiz"] == {"attempt": 1, "wrong": 0, "passed": False, "over": False}


def test_tries_after_the_end_change_nothing(asking):
    person = asking.person()
    person.consent()
    trying(person, 1, RIGHT)
    assert list(trying(person, 2, WRONG).json["faults"].values()) == ["the questions about the instructions are over"]
    assert row_of(asking, person).state == "ACTIVE"


def test_trials_before_the_questions_are_passed_do_not_count(asking):
    person = asking.person()
    person.consent()
    first, *_ = person.trials()
    early = person.answer(first, first["payload"]["options"][0])
    assert list(early.json["faults"].values()) == ["the questions about the instructions come first"]
    assert person.get().json["practice"]["answered"] == []
    trying(person, 1, RIGHT)
    assert person.take().complete().status_code == 200
    with asking.database.read() as connection:
        held = connection.execute(select(events).filter_by(session=person.session, trial_id=first["trial_id"])).all()
    assert [bool(row.fault) for row in held] == [True, False]


def test_no_code_comes_to_a_person_who_leaves_the_questions_out(asking):
    person = asking.person().take()
    assert person.complete().status_code == 409


def test_a_study_without_questions_lets_everyone_pass(running):
    person = running.person()
    assert person.get().json["quiz"] == {"attempt": 0, "wrong": 0, "passed": True, "over": True}
    assert list(trying(person, 1, ["yes"]).json["faults"].values()) == [
        "this study asks no questions about its instructions"
    ]


def test_the_state_is_what_a_slow_reading_of_the_rules_says(build):
    """Every sequence of up to three tries, against the rules written out once more."""
    study = build(texts=TEXTS, checks={"quiz_attempts": 3})
    for length in range(4):
        for tries in itertools.product([RIGHT, ["neither", "yes"], WRONG], repeat=length):
            wrongs = [sum(given != asked["answer"] for given, asked in zip(one, QUIZ, strict=True)) for one in tries]
            first = wrongs.index(0) if 0 in wrongs else None
            taken = length if first is None else first + 1
            state = quiz_state(study, tries)
            assert state.passed == (first is not None)
            assert state.over == (state.passed or length == 3)
            assert state.attempt == (taken if state.over else length + 1)
            assert state.wrong == (0 if state.passed else (wrongs[-1] if wrongs else 0))
            assert state.tries == taken + (not state.passed)


def test_a_data_base_with_screened_out_people_is_sound(asking):
    person = asking.person()
    person.consent()
    trying(person, 1, WRONG)
    trying(person, 2, WRONG)
    person.call("POST", "/api/outcome", json={})
    assert verify(asking.database, asking.app.extensions["limen"].library).faults == []
