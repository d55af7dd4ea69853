"""The writer: an answer leaves after the commit, a bad job fails alone, a full queue says so."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from bench.registry import LimenError
from psychophysics_server.storage.database import (
    Busy,
    Database,
    WriteFailed,
    database_name,
    database_url,
    existing_database,
    insert_row,
)
from psychophysics_server.storage.tables import meta


@pytest.fixture
def database(target):
    opened = Database(target, capacity=8)
    yield opened
    opened.close()


@pytest.fixture
def on_file(tmp_path):
    opened = Database(tmp_path / "held.sqlite", capacity=8)
    yield opened
    opened.close()


def put(name):
    return lambda connection: insert_row(connection, meta, {"name": name, "value": "1"})


def names(database):
    with database.read() as connection:
        return set(connection.execute(select(meta.c.name)).scalars()) - {"schema"}


class Gate:
    """A job that holds the writer until it is let go."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, connection):
        self.entered.set()
        assert self.open.wait(30)


def test_a_result_comes_after_the_commit(database):
    for number in range(20):
        database.write(put(f"row {number}"))
        assert f"row {number}" in names(database)


def test_another_program_sees_a_result_that_was_told(on_file):
    on_file.write(put("told"))
    with contextlib.closing(sqlite3.connect(on_file.url.database)) as other:
        assert other.execute("select count(*) from meta where name = 'told'").fetchone() == (1,)


def test_jobs_that_wait_share_one_commit(database):
    gate = Gate()
    begun = database.writer.submit(gate)
    assert gate.entered.wait(30)
    seen = []

    def job(connection):
        seen.append(connection.execute(select(func.count()).select_from(meta)).scalar_one())
        insert_row(connection, meta, {"name": f"n{len(seen)}", "value": ""})
        with database.read() as reader:
            return reader.execute(select(func.count()).select_from(meta)).scalar_one()

    waiting = [database.writer.submit(job) for _ in range(5)]
    gate.open.set()
    begun.result(30)
    assert [future.result(30) for future in waiting] == [1] * 5
    assert seen == [1, 2, 3, 4, 5]


def test_a_bad_job_fails_alone(database):
    gate = Gate()
    database.writer.submit(gate)
    assert gate.entered.wait(30)
    good = [database.writer.submit(put(f"good {number}")) for number in range(3)]
    twice = database.writer.submit(put("good 0"))
    broken = database.writer.submit(lambda connection: 1 / 0)
    last = database.writer.submit(put("last"))
    gate.open.set()
    for future in (*good, last):
        assert future.result(30) is None
    with pytest.raises(WriteFailed):
        twice.result(30)
    with pytest.raises(ZeroDivisionError):
        broken.result(30)
    assert names(database) == {"good 0", "good 1", "good 2", "last"}


def test_a_full_queue_refuses_at_once_and_loses_nothing(database):
    gate = Gate()
    database.writer.submit(gate)
    assert gate.entered.wait(30)
    held = [database.writer.submit(put(f"row {number}")) for number in range(8)]
    with pytest.raises(Busy):
        database.writer.submit(put("too many"))
    gate.open.set()
    for future in held:
        future.result(30)
    assert names(database) == {f"row {number}" for number in range(8)}


def test_closing_commits_all_that_waits_and_refuses_the_rest(database):
    gate = Gate()
    database.writer.submit(gate)
    assert gate.entered.wait(30)
    held = [database.writer.submit(put(f"row {number}")) for number in range(6)]
    closing = threading.Thread(target=database.writer.close)
    closing.start()
    gate.open.set()
    closing.join(30)
    assert all(future.done() for future in held)
    assert names(database) == {f"row {number}" for number in range(6)}
    with pytest.raises(Busy):
        database.write(put("late"))


def test_many_threads_lose_no_update(target):
    database = Database(target)
    database.write(lambda connection: insert_row(connection, meta, {"name": "n", "value": "0"}))

    def add(connection):
        value = int(connection.execute(select(meta.c.value).where(meta.c.name == "n")).scalar_one())
        connection.execute(update(meta).where(meta.c.name == "n").values(value=str(value + 1)))

    threads = [threading.Thread(target=lambda: [database.write(add) for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as connection:
        assert connection.execute(select(meta.c.value).where(meta.c.name == "n")).scalar_one() == "200"
    database.close()


def test_every_commit_is_synced_in_full(on_file):
    def pragmas(connection):
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert on_file.write(pragmas) == ["wal", 2, 1]


def test_a_full_disk_is_a_failed_write_and_nothing_is_half_stored(on_file):
    def limit(connection):
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")

    on_file.write(limit)
    with pytest.raises(WriteFailed):
        for number in range(200):
            on_file.write(lambda c, n=number: insert_row(c, meta, {"name": f"big {n}", "value": "x" * 5000}))
    held = names(on_file)
    with on_file.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert all(
            len(value) == 5000
            for value in connection.execute(select(meta.c.value).where(meta.c.name != "schema")).scalars()
        )
    assert held == {f"big {number}" for number in range(len(held))}


def test_a_file_that_is_no_data_base_is_one_sentence(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a data base, but long enough to look at " * 40)
    with pytest.raises(LimenError, match="cannot be opened"):
        Database(path)


def test_reading_commands_make_no_data_base(tmp_path):
    with pytest.raises(LimenError, match="no such file"):
        existing_database(tmp_path / "nothing.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["mysql://somewhere/x", "sqlite://", "://", "postgresql"])
def test_a_data_base_of_no_known_kind_is_refused_or_is_a_path(target):
    if "://" not in target:
        assert database_url(target).get_backend_name() == "sqlite"
        return
    with pytest.raises(LimenError):
        database_url(target)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LimenError, match="folder .*file: cannot be made"):
        Database(tmp_path / "file" / "answers.sqlite")


def test_a_password_is_never_printed():
    assert "secret" not in database_name("postgresql+psycopg://limen:secret@host/answers")


def test_a_job_that_ends_its_thread_ends_only_itself(database):
    def leave(connection):
        raise SystemExit("a job must not stop the writer")

    with pytest.raises(WriteFailed, match="must not stop"):
        database.write(leave)
    database.write(put("after"))
    assert names(database) == {"after"}


class Held:
    """An engine's data base, locked by another program from the moment the writer's next commit is done."""

    def __init__(self, database, monkeypatch):
        self.other = sqlite3.connect(database.url.database, isolation_level=None, timeout=30, check_same_thread=False)
        monkeypatch.setattr(database.writer, "on_commit", self.lock)
        self.said, self.armed = [], False
        database.write(lambda connection: None)
        with database._engine.connect() as connection:
            raw = connection.connection.driver_connection
            raw.execute("PRAGMA busy_timeout = 20")
            raw.set_trace_callback(self.said.append)
        self.armed = True

    def lock(self, jobs, took):
        if self.armed:
            self.other.execute("BEGIN IMMEDIATE")


def test_a_locked_data_base_fails_all_that_wait_at_once_and_then_goes_on(on_file, monkeypatch):
    """No job is to blame, so none is tried on its own: sixty would wait for the lock one after the other."""
    held = Held(on_file, monkeypatch)
    gate = Gate()
    first = on_file.writer.submit(gate)
    assert gate.entered.wait(30)
    waiting = [on_file.writer.submit(put(f"row {number}")) for number in range(7)]
    gate.open.set()
    first.result(30)
    for future in waiting:
        with pytest.raises(WriteFailed, match="locked"):
            future.result(30)
    assert held.said.count("BEGIN IMMEDIATE") == 2, "one for the job before, one for all that were refused"
    held.other.execute("ROLLBACK")
    monkeypatch.setattr(on_file.writer, "on_commit", None)
    held.other.close()
    on_file.write(put("after"))
    assert names(on_file) == {"after"}


def test_a_commit_stands_though_it_cannot_be_counted(database):
    database.writer.on_commit = lambda jobs, took: 1 / 0
    assert database.write(put("counted by nobody")) is None
    assert names(database) == {"counted by nobody"}


def test_who_waits_too_long_is_told_so_and_their_job_is_not_run(database):
    gate = Gate()
    held = database.writer.submit(gate)
    assert gate.entered.wait(30)
    with pytest.raises(Busy, match="too long"):
        database.writer.run(put("impatient"), timeout=0.01)
    patient = database.writer.submit(put("patient"))
    gate.open.set()
    held.result(30)
    patient.result(30)
    assert names(database) == {"patient"}


def test_a_hanging_commit_is_seen_from_outside(database):
    assert database.writer.stuck_s == 0
    gate = Gate()
    held = database.writer.submit(gate)
    assert gate.entered.wait(30)
    assert database.writer.stuck_s > 0
    gate.open.set()
    held.result(30)


def test_closing_gives_a_hanging_data_base_up_and_tells_all_that_wait(target):
    database = Database(target)
    gate = Gate()
    held = database.writer.submit(gate)
    assert gate.entered.wait(30)
    waiting = [database.writer.submit(put(f"row {number}")) for number in range(5)]
    assert database.writer.close(patience_s=0.01) is False
    for future in waiting:
        with pytest.raises(Busy, match="stopping"):
            future.result(30)
    gate.open.set()
    held.result(30)
    assert database.writer.close() is True
    assert names(database) == set()
    database.close()


def test_a_full_queue_does_not_keep_a_server_from_closing(target):
    database = Database(target, capacity=2)
    gate = Gate()
    database.writer.submit(gate)
    assert gate.entered.wait(30)
    held = [database.writer.submit(put(f"row {number}")) for number in range(2)]
    closing = threading.Thread(target=database.close)
    closing.start()
    gate.open.set()
    closing.join(60)
    assert not closing.is_alive()
    assert [future.result(30) for future in held] == [None, None]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["put", "raise", "twice"])), max_size=12))
def test_whatever_is_in_a_batch_each_job_succeeds_or_fails_as_it_would_alone(database, jobs):
    """Against a model: a set of names, and jobs in the order in which they came."""
    database.write(lambda connection: connection.execute(delete(meta).where(meta.c.name != "schema")).rowcount)
    gate = Gate()
    database.writer.submit(gate)
    assert gate.entered.wait(30)

    def run(name, what, connection):
        insert_row(connection, meta, {"name": name, "value": what})
        if what == "raise":
            raise ValueError(name)
        if what == "twice":
            insert_row(connection, meta, {"name": name, "value": what})

    futures, held, expected = [], set(), []
    for name, what in jobs[:8]:
        futures.append(database.writer.submit(partial(run, name, what)))
        fails = name in held or what != "put"
        expected.append(fails)
        held |= set() if fails else {name}
    gate.open.set()
    assert [future.exception(30) is not None for future in futures] == expected
    assert names(database) == held
