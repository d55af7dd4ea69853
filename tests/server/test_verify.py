"""`verify` counts again, and finds every way in which the promise could have been broken."""

from __future__ import annotations

import json
import shutil

import pytest
from sqlalchemy import delete, select, update

from psychophysics_server.monitoring.links import OF_A_SESSION
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.backup import backup
from psychophysics_server.storage.database import existing_database, insert_row
from psychophysics_server.storage.engines import open_engine
from psychophysics_server.storage.tables import (
    check_values,
    codes,
    events,
    participants,
    payments,
    schedules,
    sessions,
    studies,
    tombstones,
)


@pytest.fixture(scope="module")
def done(launch_once):
    """Return an application with someone who finished, someone in the middle, and someone who withdrew; only read."""
    running = launch_once()
    running.person("whole").take().complete()
    half = running.person("half")
    half.take(stop_before=half.trials()[5]["trial_id"])
    running.person("gone").call("POST", "/api/withdraw", json={})
    return running


@pytest.fixture(scope="module")
def sound(done, tmp_path_factory):
    """Return a backup of it, from which each test takes its own copy to damage."""
    file = tmp_path_factory.mktemp("sound") / "sound.backup"
    backup(done.app.extensions["limen"].config.database, file)
    return file


@pytest.fixture
def copy(sound, tmp_path):
    path = tmp_path / "copy.sqlite"
    shutil.copy(sound, path)
    database = existing_database(path)
    yield database
    database.close()


@pytest.fixture
def faults(copy, done):
    return lambda: verify(copy, done.app.extensions["limen"].library).faults


def test_a_sound_data_base_has_no_faults(done):
    result = verify(done.database, done.app.extensions["limen"].library)
    assert result.faults == []
    assert (result.sessions, result.complete, result.withdrawn) == (3, 1, 1)
    assert result.events > 12


def test_a_copy_of_a_sound_data_base_has_no_faults(faults):
    assert faults() == []


DAMAGE = {
    "was changed": update(events).where(events.c.seq == 3).values(body='{"trial_id": "t", "response": "x"}'),
    "high-water mark": delete(events).where(events.c.seq == 3),
    "the chain over its events": update(sessions).where(sessions.c.state == "ACTIVE").values(chain="0" * 64),
    "trials are not held": update(events).where(events.c.seq == 9).values(fault="lost"),
    "not every event up to": update(sessions).where(sessions.c.state == "COMPLETE").values(last_seq=99),
    "has no completion code": delete(codes),
    "has a completion code": update(sessions).where(sessions.c.state == "COMPLETE").values(state="ACTIVE"),
    "schedule differs": update(schedules).values(trial_ids='["t1"]'),
    "without a tombstone": delete(tombstones),
    "stored checks differ": update(check_values).where(check_values.c.name == "catch_accuracy").values(passed=False),
    "exclusion differs": update(sessions).where(sessions.c.state == "COMPLETE").values(excluded=True),
}


@pytest.mark.parametrize("says", DAMAGE)
def test_damage_is_found(copy, faults, says):
    copy.write(lambda connection: connection.execute(DAMAGE[says]).rowcount)
    assert any(says in fault for fault in faults()), faults()


def complete_one(connection):
    return connection.execute(select(sessions.c.session).filter_by(state="COMPLETE")).scalar_one()


def put(table, **values):
    """Return a job that adds a row to the finished session's."""
    return lambda connection: insert_row(connection, table, {"session": complete_one(connection), **values})


def move_answer(connection):
    """Let an answer of the unfinished session count for its last trial, which was not answered."""
    name = connection.execute(select(sessions.c.session).filter_by(state="ACTIVE")).scalar_one()
    planned = json.loads(connection.execute(select(schedules.c.trial_ids).filter_by(session=name)).scalar_one())
    mine = (events.c.session == name) & (events.c.seq == 2)
    connection.execute(update(events).where(mine).values(trial_id=planned[-1]))


TRIAL = (events.c.kind == "trial") & (events.c.attempt == 1)
CONTRADICTIONS = {
    "not on its schedule": update(events).where(TRIAL, events.c.seq == 4).values(trial_id="another"),
    "another trial than it names": move_answer,
    "which there is not": update(events).where(TRIAL, events.c.seq == 7).values(attempt=2),
    "time of consent": update(sessions).where(sessions.c.state == "ACTIVE").values(consented_at=None),
    "has no claim": delete(participants),
    "its claim is on another study version": update(participants).values(stimuli="another"),
    "its claim is still held": update(studies).values(unlinked_at=9e12),
    "has a tombstone, but": put(tombstones, reason="", events_deleted=0, server_time=1.0),
    "check_values are still held": lambda connection: insert_row(
        connection,
        check_values,
        {
            "session": connection.execute(select(sessions.c.session).filter_by(state="WITHDRAWN")).scalar_one(),
            "name": "catch_accuracy",
            "value": 1.0,
            "threshold": 1.0,
            "passed": True,
        },
    ),
    "for the outcome screened_out, but is COMPLETE": put(codes, kind="screened_out", code="X-1", released_at=1.0),
    "a code of an unknown kind": put(codes, kind="gift", code="X-2", released_at=1.0),
    "'bonus 7' is not what was decided": put(
        payments, item="bonus 7", batch="b", amount=3.0, author="ada", listed_at=1.0
    ),
}


@pytest.mark.parametrize("says", CONTRADICTIONS)
def test_tables_that_contradict_each_other_are_found(copy, faults, says):
    act = CONTRADICTIONS[says]
    copy.write(act if callable(act) else lambda connection: connection.execute(act).rowcount)
    assert any(says in fault for fault in faults()), faults()


def test_rows_of_nobody_are_found_in_every_table(copy, faults):
    """Foreign keys forbid most of them; so they are switched off, as another program may have."""
    engine = open_engine(copy.url, "migrate")
    with engine.begin() as connection:
        for table in OF_A_SESSION:
            columns = [column for column in table.columns if column.name not in {"id", "session"}]
            row = {column.name: ANYTHING.get(str(column.type), "{}") for column in columns}
            insert_row(connection, table, row | {"session": "nobody"})
    engine.dispose()
    told = faults()
    assert [f"session nobody: has {table.name} but is not there." for table in OF_A_SESSION] == [
        fault for fault in told if "but is not there" in fault
    ]


ANYTHING = {"INTEGER": 1, "BIGINT": 1, "FLOAT": 1.0, "BOOLEAN": True}
"""Some value of a column's type; text is '{}'."""
