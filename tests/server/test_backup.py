"""Backup, restore, upgrade: one file that is whole or not there, and never anything in the place of something."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select

from bench.registry import LimenError
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage import migrations
from psychophysics_server.storage.backup import backup, restore, upgrade
from psychophysics_server.storage.database import existing_database
from psychophysics_server.storage.engines import database_url, open_engine
from psychophysics_server.storage.tables import alarms, events

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "schema_1.sql"


@pytest.fixture
def lived_in(running):
    """Return an application whose data base holds a bit of everything."""
    running.person("whole").take().complete()
    half = running.person("half")
    half.take(stop_before=half.trials()[5]["trial_id"])
    half.call("POST", "/api/manual", json={"reason": "le réseau — 网络"})
    event = half.event("focus", {"what": "blur", "at_ms": 1.5})
    half.post(event)
    assert half.post(dict(event, body="{}")).status_code == 409
    running.person("gone").call("POST", "/api/withdraw", json={})
    return running


def digests(target):
    engine = open_engine(database_url(target), "read")
    with engine.connect() as connection:
        found = migrations.digests(connection)
    engine.dispose()
    return found


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_backup_of_a_served_data_base_holds_every_value(lived_in, target, tmp_path):
    file = tmp_path / "copies" / "monday.backup"
    copied = backup(target, file)
    assert digests(file) == digests(target)
    assert (copied.schema, copied.sessions) == (migrations.head(), 3)
    assert file.stat().st_mode & 0o077 == 0
    assert left_in(file.parent) == ["monday.backup"]
    assert file.read_bytes()[18:20] == b"\x01\x01", "a file in write-ahead mode would need others beside it"


@pytest.mark.parametrize("goal", ["sqlite", "postgresql"])
def test_a_backup_comes_back_into_either_data_base_and_is_sound(lived_in, target, tmp_path, goal, request):
    file = tmp_path / "b.backup"
    backup(target, file)
    new = str(tmp_path / "new.sqlite") if goal == "sqlite" else request.getfixturevalue("postgresql")()
    restore(file, new)
    assert digests(new) == digests(target)
    opened = existing_database(new)
    assert verify(opened, lived_in.app.extensions["limen"].library).faults == []
    opened.close()


def test_people_go_on_where_they_were_in_a_restored_data_base(lived_in, target, tmp_path, fresh, launch, tiny):
    half = lived_in.person("half")
    backup(target, tmp_path / "b.backup")
    (tmp_path / "second").mkdir()
    new = fresh(tmp_path / "second")
    restore(tmp_path / "b.backup", new)
    again = launch(tiny, database=new).person("half")
    assert again.session == half.session
    assert again.take().complete().status_code == 200
    event = again.event("focus", {"what": "blur", "at_ms": 9.5})
    again.post(event)
    assert again.post(dict(event, body="{}")).status_code == 409
    with again.running.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(alarms)).scalar_one() == 2


@pytest.mark.long
def test_a_backup_while_people_answer_is_a_moment_in_between(running, target, tmp_path):
    person, stop = running.person("talker"), threading.Event()

    def talk():
        while not stop.is_set():
            assert person.say("focus", {"what": "blur", "at_ms": 1.0}).status_code == 200

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        for number in range(5):
            backup(target, tmp_path / f"{number}.backup")
    finally:
        stop.set()
        thread.join(60)
    for number in range(5):
        copy = existing_database(tmp_path / f"{number}.backup")
        assert verify(copy, running.app.extensions["limen"].library).faults == []
        with copy.read() as connection:
            seqs = list(connection.execute(select(events.c.seq).order_by(events.c.seq)).scalars())
        assert seqs == list(range(1, len(seqs) + 1))
        copy.close()


def test_nothing_is_overwritten_by_a_backup(lived_in, target, tmp_path):
    file = tmp_path / "b.backup"
    file.write_text("precious")
    with pytest.raises(LimenError, match="exists already"):
        backup(target, file)
    assert file.read_text() == "precious"


def test_nothing_is_overwritten_by_a_restore(lived_in, target, tmp_path):
    backup(target, tmp_path / "b.backup")
    before = digests(target)
    with pytest.raises(LimenError, match="exists already|holds the table"):
        restore(tmp_path / "b.backup", target)
    assert digests(target) == before


def test_a_log_left_beside_the_new_place_is_not_mixed_in(lived_in, target, tmp_path):
    backup(target, tmp_path / "b.backup")
    (tmp_path / "new.sqlite-wal").write_bytes(b"another's")
    with pytest.raises(LimenError, match="new.sqlite-wal: exists already"):
        restore(tmp_path / "b.backup", tmp_path / "new.sqlite")


def test_a_damaged_backup_is_refused_and_nothing_is_made(lived_in, target, tmp_path):
    file = tmp_path / "b.backup"
    backup(target, file)
    content = bytearray(file.read_bytes())
    for at in range(4096 * 2, len(content), 4096):
        content[at : at + 64] = b"\xff" * 64
    file.write_bytes(content)
    with pytest.raises(LimenError, match="damaged|no data base|cannot be"):
        restore(file, tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_a_file_that_is_no_backup_is_refused(tmp_path):
    (tmp_path / "notes").write_text("no data base " * 100)
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE visitors (id INTEGER)")
    with pytest.raises(LimenError, match="is no data base"):
        restore(tmp_path / "notes", tmp_path / "new.sqlite")
    with pytest.raises(LimenError, match="no table of ours"):
        restore(tmp_path / "other", tmp_path / "new.sqlite")
    with pytest.raises(LimenError, match="no such file"):
        restore(tmp_path / "nothing", tmp_path / "new.sqlite")
    assert left_in(tmp_path) == ["notes", "other"]


def test_a_data_base_that_is_not_there_has_no_backup(tmp_path):
    with pytest.raises(LimenError, match="no such file"):
        backup(tmp_path / "nothing.sqlite", tmp_path / "b.backup")
    assert left_in(tmp_path) == []


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    return path


def test_an_upgrade_leaves_a_copy_of_what_was(old):
    before = digests(old)
    done = upgrade(old)
    assert (done.before, done.after) == ("0001", migrations.head())
    assert digests(done.copy) == before
    existing_database(old).close()


def test_an_upgrade_that_fails_leaves_the_data_base_as_it_was(old, monkeypatch):
    monkeypatch.setattr(migrations, "differences", lambda connection: ["a difference"])
    before = digests(old)
    with pytest.raises(LimenError, match="would differ"):
        upgrade(old)
    assert digests(old) == before
    with pytest.raises(LimenError, match="has schema 0001"):
        existing_database(old)


def test_there_is_nothing_to_upgrade_twice(old):
    upgrade(old)
    with pytest.raises(LimenError, match="already, the newest"):
        upgrade(old)
    assert len([name for name in left_in(old.parent) if name.endswith(".backup")]) == 1


def test_a_backup_of_an_older_schema_comes_back_into_a_file_only(old, tmp_path, postgresql):
    backup(old, tmp_path / "b.backup")
    restore(tmp_path / "b.backup", tmp_path / "new.sqlite")
    assert digests(tmp_path / "new.sqlite") == digests(old)
    with pytest.raises(LimenError, match="restore it into a file, run `limen study upgrade`"):
        restore(tmp_path / "b.backup", postgresql())
