"""The wire protocol: an acknowledged event is held once, a code means that everything is held."""

from __future__ import annotations

from sqlalchemy import select

from psychophysics_server.tables import events


def held(running, person):
    with running.database.read() as connection:
        query = select(events).filter_by(session=person.session).order_by(events.c.seq)
        return list(connection.execute(query))


def test_a_whole_run_ends_with_a_code(running):
    answer = running.person().take().complete()
    assert answer.status_code == 200, answer.json
    assert answer.json["code"].startswith("LIMEN-")
    assert answer.json["state"] == "COMPLETE"
