"""The life of a session: the table of acts, and a walk of many steps that never leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select, update

from psychophysics_server.monitoring.verify import verify
from psychophysics_server.sessions.lifecycle import ENDING, OPEN, TRANSITIONS, NoSuchMove, State, after, move
from psychophysics_server.storage.database import one
from psychophysics_server.storage.tables import codes, events, sessions
from psychophysics_server.study.consent import consent_version
from psychophysics_server.wire.chain import body_hash, link

STATES = get_args(State)
REACHED = {
    "PRE": {"ACTIVE", "SCREENED_OUT", "EXPIRED", "WITHDRAWN"},
    "ACTIVE": {"COMPLETE", "SCREENED_OUT", "FAILED", "EXPIRED", "WITHDRAWN"},
    "COMPLETE": {"WITHDRAWN"},
    "SCREENED_OUT": {"WITHDRAWN"},
    "EXPIRED": {"WITHDRAWN"},
    "FAILED": {"WITHDRAWN"},
    "WITHDRAWN": set(),
}
"""Written out once more, from docs/wire.md."""
PAGE = {"title": "Title", "body": "One paragraph."}
QUIZ = [{"question": "Which?", "options": ["this", "that"], "answer": "this"}]
TEXTS = {"consent": PAGE, "instructions": [PAGE], "quiz": QUIZ, "debrief": PAGE, "contact": "lab@example.org"}


def state_of(running: Any, session: str) -> str:
    with running.database.read() as connection:
        row = one(connection, sessions, session=session)
        assert row is not None
        return str(row.state)


@pytest.mark.parametrize("state", STATES)
def test_from_each_state_the_acts_lead_where_the_document_says(state):
    assert {after(state, act) for act in TRANSITIONS} - {None} == REACHED[state]


def test_every_state_but_withdrawn_is_left_by_withdrawing_and_nothing_leaves_that_one():
    assert set(TRANSITIONS["withdraw"]) == set(STATES) - {"WITHDRAWN"}
    assert all("WITHDRAWN" not in steps for steps in TRANSITIONS.values())


def test_an_act_that_is_not_possible_is_refused_and_changes_nothing(running):
    person = running.person()
    person.consent()

    def job(connection: Any) -> None:
        row = one(connection, sessions, session=person.session)
        move(connection, row, "consent")

    with pytest.raises(NoSuchMove, match="'consent' is not possible in the state ACTIVE"):
        running.database.write(job)
    assert state_of(running, person.session) == "ACTIVE"


def test_consent_is_stored_with_its_version_and_time(running):
    person = running.person()
    version = person.get().json["consent_version"]
    person.say("consent", {"accepted": True, "version": version, "honeypot": False})
    with running.database.read() as connection:
        row = one(connection, sessions, session=person.session)
    assert row.consent_version == version == consent_version(running.study)
    assert row.opened_at <= row.consented_at <= row.last_seen


def test_the_version_of_the_consent_is_that_of_its_words(build):
    texts = {"consent": PAGE, "instructions": [PAGE], "debrief": PAGE, "contact": "lab@example.org"}
    same = [consent_version(build(texts=texts)), consent_version(build(texts=texts, title="Another title"))]
    assert len(set(same)) == 1
    changed = [{**texts, "consent": {**PAGE, "body": "Two."}}, {**texts, "contact": "other@example.org"}]
    assert len({*same, *(consent_version(build(texts=other)) for other in changed)}) == 3


def test_a_consent_to_another_text_is_no_consent(running):
    person = running.person()
    answer = person.say("consent", {"accepted": True, "version": "0" * 64})
    assert list(answer.json["faults"].values()) == ["consent was given to another text"]
    assert answer.json["state"] == "PRE"


def test_a_filled_in_honeypot_is_kept_and_refuses_nobody(running):
    person = running.person()
    assert person.say("consent", {"accepted": True, "honeypot": True}).json["state"] == "ACTIVE"
    assert person.take().complete().status_code == 200


def test_who_declines_leaves_nothing_and_gets_no_code_of_a_recruiter_that_has_none(running):
    person = running.person()
    answer = person.call("POST", "/api/withdraw", json={"reason": "no consent"}).json
    assert (answer["state"], answer["code"]) == ("WITHDRAWN", None)
    with running.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 0
        row = one(connection, sessions, session=person.session)
    assert (row.reason, row.consented_at, row.consent_version) == ("no consent", None, "")


def test_who_declines_gets_the_code_that_the_recruiter_has_for_it(build, launch):
    environment = {"LIMEN_PROLIFIC_CODE": "FINISHED", "LIMEN_PROLIFIC_NO_CONSENT": "NOCONSENT"}
    running = launch(build(recruitment={"source": "prolific"}), environment=environment)
    person = running.person()
    answer = person.call("POST", "/api/withdraw", json={"reason": "no consent"}).json
    assert answer["code"] == "NOCONSENT"
    assert "NOCONSENT" in answer["url"]
    other = running.person("5f0000000000000000000002")
    other.consent()
    assert other.call("POST", "/api/withdraw", json={"reason": "bored"}).json["code"] is None


@pytest.mark.parametrize("display", [{"mobile": False}, {"min_width": 900}, {"min_height": 600}])
def test_a_person_without_such_a_screen_is_screened_out_with_a_code(build, launch, display):
    running = launch(build(display=display))
    person = running.person()
    answer = person.call("POST", "/api/unsuitable", json={}).json
    assert (answer["state"], answer["reason"]) == ("SCREENED_OUT", "device")
    assert answer["code"].startswith("LIMEN-S-")
    assert person.call("POST", "/api/unsuitable", json={}).json == answer


def test_nobody_is_screened_out_for_a_screen_where_the_study_asks_nothing_of_it(running):
    person = running.person()
    assert person.call("POST", "/api/unsuitable", json={}).status_code == 400
    assert state_of(running, person.session) == "PRE"


def test_an_open_session_has_no_outcome(running):
    person = running.person()
    outcome = person.call("POST", "/api/outcome", json={}).json
    assert (outcome["state"], outcome["code"], outcome["deletion_token"]) == ("PRE", None, "")


class Life(RuleBasedStateMachine):
    """A person does anything in any order; the state only ever moves along the table."""

    running: Any
    number = 0
    seen: set[str]
    """States that any walk has come by."""

    def __init__(self) -> None:
        super().__init__()
        Life.number += 1
        self.person = self.running.person(f"person-{Life.number}", source="bot")
        self.before = "PRE"
        self.code: dict[str, str] = {}
        self.token = ""

    @rule()
    def consent(self) -> None:
        self.person.consent()

    @rule(right=st.booleans(), attempt=st.integers(1, 2))
    def quiz(self, right: bool, attempt: int) -> None:
        self.person.say("quiz", {"attempt": attempt, "answers": ["this" if right else "that"]})

    @rule(count=st.integers(1, 20))
    @precondition(lambda self: self.before in OPEN)
    def answer(self, count: int) -> None:
        held = self.person.get().json
        done = {*held["answered"], *held["practice"]["answered"]}
        steps = [(t, s.get("attempt", 1)) for s in held["timeline"] for t in s.get("trials", [])]
        for trial, attempt in [(t, a) for t, a in steps if t["trial_id"] not in done][:count]:
            self.person.answer(trial, self.person.key()[trial["trial_id"]], attempt=attempt)

    @rule(finishes=st.booleans())
    @precondition(lambda self: self.before == "PRE")
    def go_far(self, finishes: bool) -> None:
        self.consent()
        self.quiz(True, self.person.get().json["quiz"]["attempt"])
        if finishes:
            self.answer(20)
            self.complete()
        else:
            self.answer(4)
            self.come_back()

    @rule()
    def come_back(self) -> None:
        self.person.say("resume", {"reason": "reload"})

    @rule()
    def complete(self) -> None:
        answer = self.person.complete() if self.person.next_seq > 1 else None
        if answer is not None and answer.status_code == 200:
            assert self.code.setdefault("complete", answer.json["code"]) == answer.json["code"]
            self.token = answer.json["deletion_token"]

    @rule()
    def outcome(self) -> None:
        answer = self.person.call("POST", "/api/outcome", json={}).json
        assert (answer["code"] is not None) == (answer["state"] in ENDING)
        if answer["code"]:
            assert self.code.setdefault(answer["state"], answer["code"]) == answer["code"]
            self.token = answer["deletion_token"]

    @rule()
    def unsuitable(self) -> None:
        self.person.call("POST", "/api/unsuitable", json={})

    @rule(hours=st.sampled_from([1, 6]))
    def time_goes_by(self, hours: int) -> None:
        def job(connection: Any) -> None:
            older = update(sessions).where(sessions.c.session == self.person.session)
            connection.execute(older.values(opened_at=sessions.c.opened_at - 3600 * hours))

        self.running.database.write(job)

    @rule(wanted=st.integers(0, 5))
    def leave(self, wanted: int) -> None:
        if wanted == 0:
            self.person.call("POST", "/api/withdraw", json={"reason": "enough"})
        elif wanted == 1 and self.token:
            self.running.app.test_client().post("/erase", data={"token": self.token})

    @invariant()
    def the_state_moves_along_the_table(self) -> None:
        now = state_of(self.running, self.person.session)
        # One request can do two things at most: expire, and withdraw what has expired.
        near = REACHED[self.before] | {self.before}
        assert now in near | {far for step in near for far in REACHED[step]}
        if self.before not in OPEN:
            assert now in {self.before, "WITHDRAWN"}
        self.before = now
        self.seen.add(now)
        if now == "WITHDRAWN":
            # What a withdrawn person goes on sending is refused, so that the numbers stay free.
            self.person.next_seq, self.person.chain = 1, ""

    @invariant()
    def what_is_held_agrees_with_the_state(self) -> None:
        with self.running.database.read() as connection:
            kinds = set(connection.execute(select(codes.c.kind).filter_by(session=self.person.session)).scalars())
            held = connection.execute(
                select(func.count()).select_from(events).filter_by(session=self.person.session)
            ).scalar_one()
        if self.before == "WITHDRAWN":
            assert held == 0
            return
        assert ("complete" in kinds) == (self.before == "COMPLETE")
        assert kinds <= {"complete", ENDING.get(self.before, "complete")}
        assert self.person.chain == _chain(self.person)

    def teardown(self) -> None:
        found = verify(self.running.database, self.running.app.extensions["limen"].library).faults
        assert [fault for fault in found if self.person.session in fault] == []


def _chain(person: Any) -> str:
    chain = ""
    for event in person.sent:
        chain = link(chain, body_hash(event["body"]))
    return chain


@contextmanager
def _serving(launch: Any, build: Any, policy: str) -> Iterator[None]:
    resume = {"policy": policy, "max_age_hours": 5}
    Life.running = launch(build(texts=TEXTS, resume=resume, display={"mobile": False}))
    Life.number, Life.seen = 0, set()
    yield
    # How far a dozen random walks get is chance; the ends have tests of their own.
    assert {"PRE", "ACTIVE"} <= Life.seen


@pytest.mark.parametrize("policy", ["continue", "restart_block", "refuse"])
def test_a_life_of_any_acts_stays_on_the_table(launch, build, policy):
    machine = type(f"Life_{policy}", (Life,), {})
    with _serving(launch, build, policy):
        run = settings(
            max_examples=12,
            stateful_step_count=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        case = machine.TestCase
        case.settings = run
        case("runTest").runTest()
