"""The promise under fire: the real server is killed again and again while people on a bad network answer."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time

import pytest
import yaml
from sqlalchemy import create_engine, delete, func, select

from psychophysics_server.bots.fleet import run_bots
from psychophysics_server.bots.journey import Habits
from psychophysics_server.bots.ordeal import Outcome, Plan, Process, ordeal, recount
from psychophysics_server.bots.proxy import BadNetwork
from psychophysics_server.storage.database import existing_database
from psychophysics_server.storage.tables import events, sessions


@pytest.fixture
def process(build, tmp_path, target):
    study = build(tests=6)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    server = Process(path, study.artifact.path.parent.parent, target, tmp_path / "log.txt")
    server.study = study
    yield server
    server.close()


def check(outcome):
    assert outcome.faults == []
    assert {promise: count for promise, count in outcome.broken.items() if count} == {}
    assert outcome.happened["events acknowledged"] > 0
    assert outcome.happened["people who finished"] > 0


def wait_for_events(process, count):
    """Look at the data base itself until it holds `count` events."""
    database, end = existing_database(process.database), time.monotonic() + 120
    try:
        while True:
            with database.read() as connection:
                held = connection.execute(select(func.count()).select_from(events)).scalar_one()
            if held >= count:
                return
            assert time.monotonic() < end, f"{held} of {count} events were held after 120 s"
    finally:
        database.close()


@pytest.mark.long
def test_everything_goes_wrong_and_every_acknowledged_event_is_held_once(process, engine_name):
    process.start()
    plan = Plan(bots=20, kills=5, disk=engine_name == "sqlite", seed=5)
    outcome = ordeal(process.study, process, plan)
    check(outcome)
    happened = outcome.happened
    assert happened["kills"] == 5
    assert happened["times the disk was full"] == int(engine_name == "sqlite")
    for harm in ("lost requests", "lost responses", "retries", "raced", "reloads"):
        assert happened[harm] > 0, harm


@pytest.mark.long
def test_a_server_killed_ten_times_under_load_keeps_its_promise(process, engine_name):
    process.start()
    outcome = ordeal(process.study, process, Plan(bots=100, kills=10, disk=engine_name == "sqlite", seed=6))
    check(outcome)
    assert outcome.happened["kills"] == 10


def test_a_promise_that_was_broken_is_found(process):
    process.start()
    outcome = Outcome(journeys=run_bots(process.study, url=process.url, n=3, seed=2), happened={"sessions": 3})
    process.end(signal.SIGTERM)
    recount(process.study, process, outcome)
    check(outcome)
    engine = create_engine(existing_url(process))
    with engine.begin() as connection:
        finished = next(journey for journey in outcome.journeys if journey.outcome == "complete")
        last = max(finished.acknowledged)
        connection.execute(delete(events).where(events.c.session == finished.session, events.c.seq == last - 3))
    engine.dispose()
    recount(process.study, process, outcome)
    assert outcome.broken["acknowledged events that are not held as they were sent"] == 1
    assert outcome.broken["codes without every trial"] == 1
    assert outcome.broken["faults that verify finds"] > 0


def existing_url(process):
    database = existing_database(process.database)
    database.close()
    return database.url


def test_a_stopped_server_answers_what_is_in_flight_and_ends_in_peace(process):
    process.start()
    outcome = Outcome(happened={"sessions": 6})

    def run():
        outcome.journeys = run_bots(process.study, url=process.url, n=6, seed=1, threads=6, patience_s=60)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for_events(process, 20)
    assert process.end(signal.SIGTERM) == 0
    process.start()
    thread.join(300)
    assert not thread.is_alive(), "the bots did not end within 300 s of the server's return"
    recount(process.study, process, outcome)
    check(outcome)
    process.end(signal.SIGTERM)
    assert "Traceback" not in process.log.read_text()


def test_a_bad_network_loses_what_it_says_and_bots_get_through(served, tiny):
    running, url = served()
    with BadNetwork(url, lost_requests=0.3, lost_responses=0.2, seed=1) as network:
        journeys = run_bots(tiny, url=network.url, n=8, seed=3, habits=Habits(twice=0.3, shuffled=0.3, tabs=0.2))
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}
    counts = network.counts
    assert counts["lost requests"] / counts["requests"] == pytest.approx(0.3, abs=0.1)
    assert counts["lost responses"] / (counts["requests"] - counts["lost requests"]) == pytest.approx(0.2, abs=0.1)
    assert sum(journey.retries for journey in journeys) == counts["lost requests"] + counts["lost responses"]
    with running.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(sessions)).scalar_one() == 8


def test_a_torn_connection_after_the_commit_is_healed_by_sending_again(served, tiny):
    """The answer is lost, not the event: the browser sends the same bytes and is acknowledged."""
    running, url = served()
    address = url.removeprefix("http://").split(":")
    person = running.person("bot-torn-1", source="bot")
    event = person.event("consent", {"accepted": True})
    body = json.dumps({"events": [event]}).encode()
    with socket.create_connection((address[0], int(address[1])), timeout=30) as line:
        head = f"POST /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n"
        line.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        line.recv(1)
    assert person.post(event).json["acknowledged"] == [1]
    with running.database.read() as connection:
        assert len(connection.execute(select(events)).all()) == 1
