"""`verify` counts again, and finds every way in which the promise could have been broken."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, update

from psychophysics_server.tables import check_values, codes, events, schedules, sessions, tombstones
from psychophysics_server.verify import verify


@pytest.fixture
def done(running):
    running.person("whole").take().complete()
    running.person("half").take(stop_before=running.person("half").trials()[5]["trial_id"])
    running.person("gone").call("POST", "/api/withdraw", json={})
    return running


def faults(running):
    return verify(running.database, running.app.extensions["limen"].library).faults


def test_a_sound_data_base_has_no_faults(done):
    result = verify(done.database, done.app.extensions["limen"].library)
    assert result.faults == []
    assert (result.sessions, result.complete, result.withdrawn) == (3, 1, 1)
    assert result.events > 12


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
def test_damage_is_found(done, says):
    done.database.write(lambda connection: connection.execute(DAMAGE[says]).rowcount)
    assert any(says in fault for fault in faults(done)), faults(done)
