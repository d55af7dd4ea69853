"""Several processes on one data base: one claim a person, one balance, one row an event, and no deadlock is lost."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text, update

from bench.registry import LimenError
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.database import Database, WriteFailed, insert_row
from psychophysics_server.storage.tables import alarms, events, meta, participants, schedules, sessions


@pytest.fixture
def both(launch, tiny):
    """Start two applications with a writer each, on one data base."""
    return launch(tiny), launch(tiny)


def everyone(applications, number, task):
    with ThreadPoolExecutor(number) as pool:
        return [future.result() for future in [pool.submit(task, n, applications[n % 2]) for n in range(number)]]


def test_one_person_who_comes_to_two_processes_at_once_holds_one_place(both):
    opened = everyone(both, 12, lambda n, running: running.person(f"person {n // 4}"))
    assert all(person.opened.status_code in {200, 201} for person in opened)
    assert sum(person.opened.status_code == 201 for person in opened) == 3
    assert len({person.session for person in opened}) == 3
    with both[0].database.read() as connection:
        assert connection.execute(select(func.count()).select_from(participants)).scalar_one() == 3


def test_the_balance_holds_over_processes(both):
    everyone(both, 24, lambda n, running: running.person(f"bot-{n:03d}-x", source="bot"))
    with both[0].database.read() as connection:
        cells = Counter(connection.execute(select(sessions.c.cell)).scalars())
        seeds = list(connection.execute(select(schedules.c.seed)).scalars())
    assert sorted(cells.values()) == [6, 6, 6, 6]
    assert len(set(seeds)) == 24


def test_places_are_never_given_twice_over_processes(both):
    opened = everyone(both, 30, lambda n, running: running.person(f"person {n}"))
    statuses = Counter(person.opened.status_code for person in opened)
    assert statuses == {201: 8, 403: 22}, "2 conditions x quota 4"


def test_an_event_sent_to_two_processes_is_held_once_and_acknowledged_by_both(both):
    person = both[0].person("anyone")
    sent = [person.event("focus", {"what": "blur", "at_ms": float(n)}) for n in range(20)]
    twins = [person, type(person)(both[1], token=person.token, session=person.session)]

    def send(number, _):
        return twins[number % 2].post(*sent[(number // 2) * 2 : (number // 2) * 2 + 2]).json

    answers = everyone(both, 20, send)
    assert sorted(seq for answer in answers for seq in answer["acknowledged"]) == sorted([*range(1, 21)] * 2)
    with both[0].database.read() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 20
        assert connection.execute(select(func.count()).select_from(alarms)).scalar_one() == 0
        row = connection.execute(select(sessions)).one()
    assert (row.high_water, row.chain) == (20, person.chain)


def test_two_bodies_for_one_number_at_two_processes_are_one_event_and_one_alarm(both):
    person = both[0].person("anyone")
    event = person.event("focus", {"what": "blur", "at_ms": 1.0})
    other = dict(event, body='{"what": "focus", "at_ms": 2.0}')
    twins = [person, type(person)(both[1], token=person.token, session=person.session)]
    answers = everyone(both, 2, lambda n, _: twins[n].post((event, other)[n]))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    with both[0].database.read() as connection:
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 1
        assert connection.execute(select(func.count()).select_from(alarms)).scalar_one() == 1


def test_the_code_is_one_whichever_process_is_asked(both):
    person = both[0].person("anyone").take()
    twin = type(person)(both[1], token=person.token, session=person.session)
    twin.next_seq, twin.chain = person.next_seq, person.chain
    answers = everyone(both, 6, lambda n, _: (person, twin)[n % 2].complete().json["code"])
    assert len(set(answers)) == 1
    assert verify(both[0].database, both[0].app.extensions["limen"].library).faults == []


@pytest.fixture
def on_postgresql(postgresql):
    """Open two writers on one PostgreSQL data base."""
    target = postgresql()
    opened = Database(target), Database(target)
    yield opened
    for database in opened:
        database.close()


def add(name):
    return update(meta).where(meta.c.name == name).values(value=meta.c.value + "x")


def test_a_deadlock_of_two_processes_is_run_again_and_both_are_stored(on_postgresql):
    first, second = on_postgresql
    for name in ("a", "b"):
        first.write(lambda connection, name=name: insert_row(connection, meta, {"name": name, "value": ""}))
    met = threading.Barrier(2, timeout=20)
    runs = Counter()

    def crossing(one, other):
        def job(connection):
            connection.execute(add(one))
            runs[one] += 1
            if runs[one] == 1:
                met.wait()
            connection.execute(add(other))

        return job

    futures = [first.writer.submit(crossing("a", "b")), second.writer.submit(crossing("b", "a"))]
    assert [future.result(60) for future in futures] == [None, None]
    assert sum(runs.values()) >= 3, (
        "PostgreSQL ends one of the two; that one is run again, and may meet the other again"
    )
    with first.read() as connection:
        values = connection.execute(select(meta.c.value).where(meta.c.name.in_(["a", "b"]))).scalars().all()
    assert values == ["xx", "xx"]


def test_a_lost_connection_fails_one_write_and_the_next_goes_through(on_postgresql):
    first, second = on_postgresql

    def cut(connection):
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with second.read() as other:
            other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
        insert_row(connection, meta, {"name": "lost", "value": ""})

    with pytest.raises(WriteFailed):
        first.write(cut)
    first.write(lambda connection: insert_row(connection, meta, {"name": "kept", "value": ""}))
    with second.read() as connection:
        names = set(connection.execute(select(meta.c.name)).scalars())
    assert names == {"schema", "kept"}


def test_a_reader_sees_one_moment(on_postgresql):
    first, second = on_postgresql
    with second.read() as connection:
        before = connection.execute(select(func.count()).select_from(meta)).scalar_one()
        first.write(lambda writer: insert_row(writer, meta, {"name": "new", "value": ""}))
        assert connection.execute(select(func.count()).select_from(meta)).scalar_one() == before
    with second.read() as connection:
        assert connection.execute(select(func.count()).select_from(meta)).scalar_one() == before + 1


def test_a_reader_cannot_write(target):
    database = Database(target)
    with database.read() as connection, pytest.raises(Exception, match="read-?only|readonly"):
        insert_row(connection, meta, {"name": "by a reader", "value": ""})
    database.close()


def test_a_server_that_may_lose_what_it_acknowledged_is_refused(postgresql):
    with pytest.raises(LimenError, match="synchronous_commit = off, so an acknowledged answer could be lost"):
        Database(f"{postgresql()}%20-csynchronous_commit%3Doff")


def test_many_processes_may_start_on_an_empty_data_base_at_once(target):
    with ThreadPoolExecutor(6) as pool:
        opened = [future.result() for future in [pool.submit(Database, target) for _ in range(6)]]
    for database in opened:
        database.close()
