"""`limen study serve` with several processes on PostgreSQL: one study, one balance, metrics that add up, a clean stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from sqlalchemy import func, select

from psychophysics_server.bots.fleet import run_bots, wait_until_ready
from psychophysics_server.bots.ordeal import free_port
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.database import existing_database
from psychophysics_server.storage.tables import alarms, events, sessions
from psychophysics_server.study.frozen import Library

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "from psychophysics_server.cli import study; study()"


@pytest.fixture
def several(build, tmp_path, postgresql):
    """Serve a study from three processes over one PostgreSQL data base."""
    study, target, port = build(), postgresql(), free_port()
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    store = study.artifact.path.parent.parent
    arguments = [sys.executable, "-c", COMMAND, "serve", str(path), "--store", str(store), "--db", target]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*arguments, "--port", str(port), "--workers", "3", "--log", "json"],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, patience_s=120)
        yield study, target, url, process, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def children_of(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.long
def test_three_processes_one_of_them_killed_keep_one_promise(several):
    study, target, url, process, log = several
    workers = children_of(process)
    assert len(workers) == 3
    first = run_bots(study, url=url, n=12, seed=5, threads=6, patience_s=60)
    os.kill(workers[0], signal.SIGKILL)
    second = run_bots(study, url=url, n=24, seed=6, threads=6, patience_s=60)
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    seen = {name: float(value) for name, _, value in lines}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    held = existing_database(target)
    try:
        with held.read() as connection:
            stored = connection.execute(select(func.count()).select_from(events)).scalar_one()
            assert connection.execute(select(func.count()).select_from(alarms)).scalar_one() == 0
            kept = {(row.session, row.seq): row.body for row in connection.execute(select(events))}
            people = connection.execute(select(func.count()).select_from(sessions)).scalar_one()
        assert verify(held, Library(study.artifact.path.parent.parent)).faults == []
    finally:
        held.close()
    journeys = [*first, *second]
    acknowledged = {(j.session, seq): body for j in journeys for seq, body in j.acknowledged.items()}
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}
    assert acknowledged.items() <= kept.items()
    assert people == len({journey.session for journey in journeys})
    assert seen["limen_saves_total"] == stored, "the processes' counters add up, the dead one's too"
    routes = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line.get("route") == "/api/events" and line["status"] == 200 for line in routes) > 36
