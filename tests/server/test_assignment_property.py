"""Assignment over whole histories: a machine of people who come, leave, finish, are excluded and return; threads at once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update

from psychophysics_server.people.decisions import Decision, decide
from psychophysics_server.people.finish import withdraw
from psychophysics_server.recruitment.recruiter import Told
from psychophysics_server.recruitment.submissions import hear
from psychophysics_server.sessions.assign import counts, valid_counts
from psychophysics_server.sessions.pause import SERVER, pause, paused_by, resume
from psychophysics_server.sessions.session import Entry, open_session
from psychophysics_server.storage.database import Database
from psychophysics_server.storage.tables import participants, sessions

STALE_S = 3600.0
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(fresh, tmp_path_factory):
    """Return one data base for all histories of this file; each has a study of its own."""
    database = Database(fresh(tmp_path_factory.mktemp("histories")))
    yield database
    database.close()


def renamed(study, quota=None):
    """Return a copy of a study that no data base has seen, with another quota a cell."""
    manifest = {**study.artifact.manifest, "key": f"{next(NUMBERS):024d}"}
    cells = study.cells if quota is None else tuple(replace(cell, quota=quota) for cell in study.cells)
    return replace(study, artifact=replace(study.artifact, manifest=manifest), cells=cells)


def arrive(database, study, name, source="live", submission=""):
    entry = Entry(source=source, recruiter="mock", recruiter_id=name, submission=submission)
    return open_session(database, study, entry, admit=True, stale_s=STALE_S)


def change(database, session, **values):
    database.write(
        lambda connection: (
            connection.execute(update(sessions).where(sessions.c.session == session).values(**values)).rowcount
        )
    )


def held(database, study, source="live"):
    with database.read() as connection:
        return counts(connection, study, source, now=time.time(), stale_s=STALE_S)


def by_condition(study, filled):
    table = {}
    for cell in study.cells:
        table[cell.condition] = table.get(cell.condition, 0) + filled[cell.cell]
    return table


def spread(study, filled):
    """Return the largest difference between conditions, and between the lists of one condition."""
    conditions = by_condition(study, filled)
    lists = [[filled[c.cell] for c in study.cells if c.condition == name] for name in conditions]
    return max(conditions.values()) - min(conditions.values()), max(max(one) - min(one) for one in lists)


@dataclass
class Someone:
    """What the machine knows of one person."""

    session: str
    cell: str
    source: str
    state: str = "PRE"
    excluded: bool = False
    silent: bool = False
    remote: str = ""

    @property
    def counts(self):
        given_up = self.excluded or self.remote in {"RETURNED", "REJECTED", "TIMED-OUT"}
        return not given_up and (self.state == "COMPLETE" or (self.state in {"PRE", "ACTIVE"} and not self.silent))


def histories(database, template):
    """Build the machine on a data base."""

    class Histories(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.people, self.paused, self.events = {}, False, itertools.count()

        @initialize(quota=st.integers(1, 3), early=st.integers(0, 9))
        def begin(self, quota, early):
            self.study = renamed(template, quota)
            for _ in range(early):
                self.someone_new_comes()

        def model(self, source="live"):
            return {
                cell.cell: sum(p.counts for p in self.people.values() if (p.cell, p.source) == (cell.cell, source))
                for cell in self.study.cells
            }

        def some(self, data, *states):
            names = sorted(name for name, p in self.people.items() if p.state in states and p.source == "live")
            return data.draw(st.sampled_from(names)) if names else None

        @rule()
        def a_newcomer(self):
            self.someone_new_comes()

        def someone_new_comes(self):
            name = f"person-{len(self.people)}"
            before, full = self.model(), all(self.model()[c.cell] >= c.quota for c in self.study.cells)
            opened = arrive(database, self.study, name, submission=f"{self.study.key}/{name}")
            if self.paused or full:
                assert opened.refused == ("paused" if self.paused else "full")
                return
            assert not opened.refused
            with database.read() as connection:
                row = connection.execute(select(sessions).filter_by(session=opened.session)).one()
            self.check_choice(row.cell, before)
            self.people[name] = Someone(opened.session, row.cell, "live")
            after = self.model()
            if all(after[c.cell] < c.quota for c in self.study.cells):
                assert spread(self.study, after)[0] <= max(1, spread(self.study, before)[0])

        def check_choice(self, chosen, before):
            """The place was open, in the least filled open condition, on its least filled open list."""
            cells = {cell.cell: cell for cell in self.study.cells}
            open_cells = [cell for cell in self.study.cells if before[cell.cell] < cell.quota]
            conditions = by_condition(self.study, before)
            fewest = min(conditions[cell.condition] for cell in open_cells)
            assert conditions[cells[chosen].condition] == fewest
            lists = [before[c.cell] for c in open_cells if c.condition == cells[chosen].condition]
            assert before[chosen] == min(lists)
            assert before[chosen] < cells[chosen].quota

        @rule(source=st.sampled_from(["bot", "preview", "pilot"]))
        def someone_who_fills_no_place_comes(self, source):
            if source == "pilot" and self.paused:
                return
            name = f"{source}-{len(self.people)}"
            opened = arrive(database, self.study, name, source=source)
            assert not opened.refused
            with database.read() as connection:
                cell = connection.execute(select(sessions.c.cell).filter_by(session=opened.session)).scalar_one()
            self.people[name] = Someone(opened.session, cell, source)

        @rule(data=st.data())
        def someone_returns(self, data):
            name = self.some(data, "PRE", "ACTIVE", "COMPLETE")
            if name is None:
                return
            opened = arrive(database, self.study, name, submission=f"{self.study.key}/{name}")
            assert (opened.session, opened.resumed) == (self.people[name].session, True)

        @rule(data=st.data())
        def someone_falls_silent(self, data):
            if name := self.some(data, "PRE", "ACTIVE"):
                change(database, self.people[name].session, last_seen=time.time() - STALE_S - 1)
                self.people[name].silent = True

        @rule(data=st.data())
        def someone_is_heard_of(self, data):
            if name := self.some(data, "PRE", "ACTIVE"):
                change(database, self.people[name].session, last_seen=time.time(), state="ACTIVE")
                self.people[name].silent, self.people[name].state = False, "ACTIVE"

        @rule(data=st.data(), careless=st.booleans())
        def someone_finishes(self, data, careless):
            if name := self.some(data, "PRE", "ACTIVE"):
                person = self.people[name]
                person.state, person.excluded = "COMPLETE", person.excluded or careless
                change(database, person.session, state="COMPLETE", excluded=person.excluded)

        @rule(data=st.data())
        def someone_withdraws(self, data):
            if name := self.some(data, "PRE", "ACTIVE", "COMPLETE"):
                withdraw(database, self.people[name].session, reason="")
                self.people[name].state = "WITHDRAWN"

        @rule(data=st.data(), state=st.sampled_from(["SCREENED_OUT", "EXPIRED", "FAILED"]))
        def someone_ends_before_the_end(self, data, state):
            if name := self.some(data, "PRE", "ACTIVE"):
                change(database, self.people[name].session, state=state)
                self.people[name].state = state

        @rule(data=st.data(), kind=st.sampled_from(["exclude", "include"]))
        def a_researcher_decides(self, data, kind):
            if name := self.some(data, "PRE", "ACTIVE", "COMPLETE"):
                person = self.people[name]
                decide(database, self.study, Decision(session=person.session, kind=kind, reason="x", author="ada"))
                person.excluded = kind == "exclude"

        @rule(
            data=st.data(), status=st.sampled_from(["ACTIVE", "RETURNED", "TIMED-OUT", "AWAITING REVIEW", "REJECTED"])
        )
        def the_recruiter_tells(self, data, status):
            if name := self.some(data, "PRE", "ACTIVE", "COMPLETE"):
                number = next(self.events)
                told = Told(
                    event_id=f"{self.study.key}-{number}",
                    submission=f"{self.study.key}/{name}",
                    recruiter_id=name,
                    status=status,
                    event_time=float(number),
                )
                assert database.write(lambda connection: hear(connection, "mock", told, now=0.0))
                self.people[name].remote = status

        @precondition(lambda self: not self.paused)
        @rule()
        def a_researcher_pauses(self):
            database.write(lambda connection: pause(connection, self.study, account="ada"))
            self.paused = True

        @precondition(lambda self: self.paused)
        @rule()
        def a_researcher_resumes(self):
            database.write(lambda connection: resume(connection, self.study, account="ada"))
            self.paused = False

        @invariant()
        def the_counts_are_those_of_the_history(self):
            if not hasattr(self, "study"):
                return
            for source in ("live", "pilot", "bot", "preview"):
                assert held(database, self.study, source) == self.model(source)
            with database.read() as connection:
                done = {
                    cell.cell: sum(
                        p.counts and p.state == "COMPLETE"
                        for p in self.people.values()
                        if (p.cell, p.source) == (cell.cell, "live")
                    )
                    for cell in self.study.cells
                }
                assert valid_counts(connection, self.study, "live") == done

        @invariant()
        def everyone_has_one_session(self):
            if not hasattr(self, "study"):
                return
            with database.read() as connection:
                query = select(participants.c.recruiter_id).where(participants.c.stimuli == self.study.key)
                claims = list(connection.execute(query).scalars())
            assert len(claims) == len(set(claims)) == len(self.people)

    return Histories


def run(database, template, examples, steps):
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(histories(database, template), settings=wanted)


@pytest.mark.long
def test_every_history_counts_those_who_hold_a_place_and_no_one_else(shared, tiny):
    run(shared, tiny, examples=16, steps=20)


@pytest.mark.long
def test_long_histories_count_those_who_hold_a_place_and_no_one_else(shared, tiny):
    run(shared, tiny, examples=60, steps=60)


def test_conditions_never_differ_by_more_than_one_while_people_come_and_finish_at_once(shared, tiny):
    study = renamed(tiny, quota=1000)
    stop, seen = threading.Event(), []

    def watch():
        while not stop.is_set():
            seen.append(spread(study, held(shared, study)))

    def person(number):
        opened = arrive(shared, study, f"p{number}")
        assert not opened.refused
        if random.Random(number).random() < 0.6:
            change(shared, opened.session, state="COMPLETE")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(person, range(97)))
    finally:
        stop.set()
        watcher.join(60)
    assert sum(held(shared, study).values()) == 97
    assert seen
    assert max(conditions for conditions, _ in seen) <= 1
    assert max(lists for _, lists in seen) <= 1


def test_gaps_that_people_leave_at_once_are_closed_by_those_who_come(shared, tiny):
    study = renamed(tiny, quota=1000)

    def visit(number):
        opened = arrive(shared, study, f"p{number}")
        leaves = random.Random(number).random()
        if leaves < 0.2:
            withdraw(shared, opened.session, reason="")
        elif leaves < 0.4:
            change(shared, opened.session, last_seen=1.0)
        elif leaves < 0.6:
            decide(shared, study, Decision(session=opened.session, kind="exclude", reason="x", author="ada"))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(visit, range(60)))
    for number in range(60):
        if max(spread(study, held(shared, study))) <= 1:
            break
        arrive(shared, study, f"late{number}")
    assert max(spread(study, held(shared, study))) <= 1


def test_the_quota_is_not_passed_by_those_who_come_at_once_and_places_that_open_are_taken_once(shared, tiny):
    study = renamed(tiny, quota=5)
    with ThreadPoolExecutor(12) as pool:
        opened = list(pool.map(lambda number: arrive(shared, study, f"p{number}"), range(40)))
    inside = [one for one in opened if not one.refused]
    assert (len(inside), {one.refused for one in opened if one.refused}) == (20, {"full"})
    for one in inside[:3]:
        decide(shared, study, Decision(session=one.session, kind="exclude", reason="x", author="ada"))
    with ThreadPoolExecutor(12) as pool:
        late = list(pool.map(lambda number: arrive(shared, study, f"late{number}"), range(20)))
    assert sum(not one.refused for one in late) == 3
    assert set(held(shared, study).values()) == {5}


def test_the_study_pauses_itself_when_every_place_is_filled_for_good_and_goes_on_when_one_opens(shared, tiny):
    study = renamed(tiny, quota=1)
    people = [arrive(shared, study, f"p{number}") for number in range(4)]

    def by():
        with shared.read() as connection:
            return paused_by(connection, study)

    assert arrive(shared, study, "early").refused == "full"
    assert by() is None
    for one in people:
        change(shared, one.session, state="COMPLETE")
    assert arrive(shared, study, "late").refused == "full"
    assert by() == SERVER
    decide(shared, study, Decision(session=people[0].session, kind="exclude", reason="x", author="ada"))
    assert not arrive(shared, study, "later").refused
    assert by() is None


def test_a_pause_by_a_person_is_not_lifted_by_the_server(shared, tiny):
    study = renamed(tiny, quota=1)
    shared.write(lambda connection: pause(connection, study, account="ada"))
    assert arrive(shared, study, "p").refused == "paused"
    assert not arrive(shared, study, "bot", source="bot").refused
    shared.write(lambda connection: resume(connection, study, account="ada"))
    assert not arrive(shared, study, "p").refused
    shared.write(lambda connection: pause(connection, study, account="ada"))
    assert arrive(shared, study, "p").resumed


@pytest.mark.parametrize("source", ["pilot", "preview", "bot"])
def test_those_who_fill_no_place_are_never_too_many_and_are_balanced_among_themselves(shared, tiny, source):
    study = renamed(tiny, quota=1)
    assert {arrive(shared, study, f"{source}{number}", source=source).refused for number in range(10)} == {""}
    assert max(spread(study, held(shared, study, source))) <= 1
    assert set(held(shared, study).values()) == {0}


def person_of(running, name, **more):
    person = running.person(name, **more)
    if person.opened.status_code == 201:
        person.consent()
    return person.opened


def test_whoever_took_part_in_an_earlier_study_is_kept_out_by_the_recruiters_id(launch, build):
    first = launch(build(study="first-study"))
    second = launch(build(study="second-study", recruitment={"source": "mock", "exclude": ["first-study"]}))
    assert person_of(first, "anna").status_code == 201
    first.person("only looked")
    refused = person_of(second, "anna")
    assert (refused.status_code, refused.json["error"]) == (403, "took_part")
    assert refused.json["code"].startswith("LIMEN-F-")
    assert person_of(second, "only looked").status_code == 201
    assert person_of(second, "ben").status_code == 201


def test_whoever_withdrew_from_the_earlier_study_took_part_in_it(launch, build):
    first = launch(build(study="first-study"))
    second = launch(build(study="second-study", recruitment={"source": "mock", "exclude": ["first-study"]}))
    anna = first.person("anna")
    anna.consent()
    anna.call("POST", "/api/withdraw", json={})
    assert person_of(second, "anna").status_code == 403


def test_an_earlier_version_of_the_study_itself_can_be_excluded_and_returning_is_no_offence(launch, build):
    terms = {"source": "mock", "exclude": ["tiny-study"]}
    first = launch(build(version=1))
    second = launch(build(version=2, recruitment=terms))
    person_of(first, "anna")
    assert person_of(second, "anna").status_code == 403
    assert person_of(second, "ben").status_code == 201
    assert person_of(second, "ben").status_code == 200


def test_bots_and_previews_of_an_earlier_study_keep_nobody_out(launch, build):
    first = launch(build(study="first-study"), preview_key="a-long-random-key")
    second = launch(build(study="second-study", recruitment={"source": "mock", "exclude": ["first-study"]}))
    person_of(first, "anna", source="bot")
    person_of(first, "anna", preview="a-long-random-key")
    assert person_of(second, "anna").status_code == 201
