"""The overview is asked for every few seconds while people answer: no query of it reads all events."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from psychophysics_server.admin import figures

PEOPLE = 12


@pytest.fixture
def running(launch, build):
    return launch(build(quota=100))


@pytest.fixture
def asked(running):
    """Look at the overview and return its statements with their parameters, as the data base got them."""
    for number in range(PEOPLE):
        person = running.person(f"5f00000000000000000000{number:02d}").take()
        if number % 2:
            person.complete()
    heard = []

    def note(connection, cursor, statement, parameters, context, many):
        heard.append((statement, parameters))

    engine = running.database._readers
    event.listen(engine, "before_cursor_execute", note)
    overview = figures.Shared().overview(running.app.extensions["limen"], "live")
    event.remove(engine, "before_cursor_execute", note)
    assert sum(cell.complete for cell in overview.cells) == PEOPLE // 2
    return heard


def test_no_query_of_the_overview_reads_every_event(running, asked, engine_name):
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL reads a small table whole, whatever its indices")
    reading = [(statement, parameters) for statement, parameters in asked if re.search(r"\bevents\b", statement)]
    assert len(reading) >= 3
    with running.database.read() as connection:
        for statement, parameters in reading:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [row[-1] for row in plan]
            whole = [step for step in steps if re.match(r"SCAN (events|at)\b", step)]
            assert whole == [], (statement, steps)
