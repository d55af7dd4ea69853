"""The promise under fire: the real server is killed again and again while people answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from psychophysics_server.bots.fleet import run_bots, wait_until_ready
from psychophysics_server.db import existing_database
from psychophysics_server.frozen import Library
from psychophysics_server.tables import alarms, events
from psychophysics_server.verify import verify

COMMAND = "from psychophysics_server.cli import study; study()"
ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """`limen study serve` as a process of its own, which can be killed as a power cut would."""

    def __init__(self, study_path, store, database, log):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [
            *(sys.executable, "-c", COMMAND, "serve", str(study_path), "--store", str(store)),
            *("--db", str(database), "--port", str(self.port)),
        ]
        self.log = log
        self.process = None

    def start(self):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                self.arguments, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
        wait_until_ready(self.url, patience_s=60)

    def end(self, how):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        self.process.wait(30)


@pytest.fixture
def process(build, tmp_path):
    study = build(tests=6)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    server = Process(
        path, study.artifact.path.parent.parent, tmp_path / "held" / "answers.sqlite", tmp_path / "log.txt"
    )
    server.study = study
    server.database = tmp_path / "held" / "answers.sqlite"
    yield server
    if server.process is not None and server.process.poll() is None:
        server.end(signal.SIGKILL)


def kill_while_bots_run(process, *, bots, kills):
    """Kill the server every so many finished or acknowledged steps of the bots, start it again, return their journeys."""
    done = threading.Event()
    journeys = []

    def run():
        try:
            journeys.extend(run_bots(process.study, url=process.url, n=bots, seed=5, threads=6, patience_s=120))
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    happened = 0
    for target in range(1, kills + 1):
        if not wait_for_events(process, target * bots * 10 // (kills + 1), done):
            break
        process.end(signal.SIGKILL)
        happened += 1
        process.start()
    thread.join()
    return journeys, happened


def wait_for_events(process, count, done):
    """Look at the file itself until it holds `count` events; False if the bots ended before."""
    with contextlib.closing(sqlite3.connect(f"file:{process.database}?mode=ro", uri=True)) as connection:
        while not done.wait(0.003):
            if connection.execute("select count(*) from events").fetchone()[0] >= count:
                return True
    return False


def check_nothing_lost_or_doubled(process, journeys):
    database = existing_database(process.database)
    try:
        with database.read() as connection:
            held = {(row.session, row.seq): row for row in connection.execute(select(events))}
            assert connection.execute(select(alarms)).all() == []
        result = verify(database, Library(process.study.artifact.path.parent.parent))
    finally:
        database.close()
    assert result.faults == []
    acknowledged = {(j.session, seq): body for j in journeys for seq, body in j.acknowledged.items()}
    assert acknowledged
    for key, body in acknowledged.items():
        assert held[key].body == body
    counted = Counter((row.session, row.trial_id, row.attempt) for row in held.values() if row.trial_id)
    assert max(counted.values()) == 1
    assert all(row.fault == "" for row in held.values())
    assert result.complete == sum(journey.outcome == "complete" for journey in journeys)
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}


def test_killed_servers_lose_no_acknowledged_response_and_double_none(process):
    process.start()
    journeys, kills = kill_while_bots_run(process, bots=12, kills=3)
    assert kills == 3
    assert sum(journey.retries for journey in journeys) > 0
    check_nothing_lost_or_doubled(process, journeys)


@pytest.mark.long
def test_a_server_killed_ten_times_under_load_keeps_its_promise(process):
    process.start()
    journeys, kills = kill_while_bots_run(process, bots=120, kills=10)
    assert kills == 10
    check_nothing_lost_or_doubled(process, journeys)


def test_a_stopped_server_answers_what_is_in_flight_and_ends_in_peace(process):
    process.start()
    done = []
    thread = threading.Thread(
        target=lambda: done.extend(run_bots(process.study, url=process.url, n=6, seed=1, threads=6, patience_s=60))
    )
    thread.start()
    assert wait_for_events(process, 20, threading.Event())
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(40) == 0
    process.start()
    thread.join()
    check_nothing_lost_or_doubled(process, done)
    process.end(signal.SIGTERM)
    assert "Traceback" not in process.log.read_text()


def test_a_torn_connection_after_the_commit_is_healed_by_sending_again(served, tiny):
    """The answer is lost, not the event: the browser sends the same bytes and is acknowledged."""
    running, url = served()
    address = url.removeprefix("http://").split(":")
    person = running.person("bot-torn-1", source="bot")
    event = person.event("consent", {"accepted": True})
    body = json.dumps({"events": [event]}).encode()
    with socket.create_connection((address[0], int(address[1]))) as line:
        head = f"POST /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\n"
        line.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        line.recv(1)
    assert person.post(event).json["acknowledged"] == [1]
    with running.database.read() as connection:
        assert len(connection.execute(select(events)).all()) == 1
