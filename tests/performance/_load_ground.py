"""What the load script stands on: a stimulus set, sessions with requests prepared, and the bare costs."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[2]
HAMMER = Path(__file__).with_name("_hammer.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
BARE = """
import sys
from gunicorn.app.base import BaseApplication
from psychophysics_server.serve import THREADS
class Bare(BaseApplication):
    def load_config(self):
        given = {"bind": "127.0.0.1:" + sys.argv[1], "workers": 1, "threads": THREADS, "worker_class": "gthread"}
        for name, value in {**given, "keepalive": 15, "loglevel": "warning", "control_socket_disable": True}.items():
            self.cfg.set(name, value)
    def load(self):
        def answer(environ, start):
            environ["wsgi.input"].read()
            start("200 OK", [("Content-Length", "2"), ("Content-Type", "application/json")])
            return [b"{}"]
        return answer
Bare().run()
"""


def ground() -> ModuleType:
    """Return the tests' own small stimulus set, as a module."""
    spec = importlib.util.spec_from_file_location("server_ground", ROOT / "tests" / "server" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["server_ground"] = module
    spec.loader.exec_module(module)
    return module


def make_study(root: Path, *, tests: int) -> tuple[Any, Path]:
    """Write a stimulus set with twice `tests` test trials a person; return it and its study file."""
    study = ground().build_tiny(root / "store", tests=tests)
    path = root / "study.yaml"
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    return study, path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(port: int, path: str, body: Any, token: str = "") -> bytes:
    """Write a request as bytes."""
    data = json.dumps(body).encode()
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{bearer}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def prepared_session(port: int, study: str, name: str) -> list[bytes]:
    """Open a session, consent, and return one request for each of its trials."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def call(method: str, path: str, body: Any = None, token: str = "") -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = json.loads(line.getresponse().read())
        assert "error" not in answer, answer
        return answer

    token = call("POST", "/api/sessions", {"study": study, "client_id": name, "source": "bot"})["token"]
    consent = {"seq": 1, "kind": "consent", "time": 1.7e12, "body": '{"accepted": true}'}
    call("POST", "/api/events", {"events": [consent]}, token)
    timeline = call("GET", "/api/session", None, token)["timeline"]
    line.close()
    trials = [trial for step in timeline if step["step"] == "block" for trial in step["trials"]]
    requests = []
    for seq, trial in enumerate(trials, start=2):
        body = {
            "trial_id": trial["trial_id"],
            "attempt": 1,
            "response": (trial["payload"]["options"] or [""])[0],
            "rt_ms": 812.25,
            "onset_ms": 123_456.75,
            "frame_ms": 16.66,
            "dropped_frames": 0,
            "input": "key",
            "focus_lost": 0,
            "reservoir_ms": 0.0,
            "window": "1280x720",
            "pixel_ratio": 1.0,
        }
        event = {"seq": seq, "kind": "trial", "time": 1.7e12 + 1000.0 * seq, "body": json.dumps(body)}
        requests.append(post(port, "/api/events", {"events": [event]}, token))
    return requests


def hammered(port: int, lines: list[list[bytes]], seconds: float) -> dict[str, Any]:
    """Run the load generator in a process of its own and sum its latencies up."""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.pickle"
        plan.write_bytes(pickle.dumps((("127.0.0.1", port), lines, seconds)))
        done = subprocess.run([sys.executable, str(HAMMER), str(plan)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | summed(found.pop("latencies"), found["seconds"])


def summed(latencies: list[float], seconds: float) -> dict[str, float]:
    """Return rate and quantiles of latencies in ms."""
    p50, p99, most = np.quantile(latencies, [0.5, 0.99, 1.0])
    return {"rate": len(latencies) / seconds, "p50": float(p50), "p99": float(p99), "max": float(most)}


def bare_posts(connections: int, seconds: float) -> dict[str, Any]:
    """Hammer a gunicorn of the same shape that reads the same requests and stores nothing."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", BARE, str(port)], env=ENVIRONMENT)
    try:
        wait_for_port(port)
        body = {"events": [{"seq": 1, "kind": "trial", "time": 1.7e12, "body": "x" * 300}]}
        request = post(port, "/api/events", body, "t" * 43)
        return hammered(port, [[request] * 200_000 for _ in range(connections)], seconds)
    finally:
        server.terminate()
        server.wait(30)


def wait_for_port(port: int, patience_s: float = 60.0) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def bare_commits(folder: Path, rows: int, seconds: float) -> dict[str, float]:
    """Loop over SQLite commits (WAL, FULL) of so many rows each; latencies are of commits, the rate of rows."""
    path = folder / f"bare-{rows}.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
        "CREATE TABLE e (session TEXT, seq INTEGER, body TEXT, hash TEXT, PRIMARY KEY (session, seq));"
    )
    latencies: list[float] = []
    begin, seq = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(rows):
            seq += 1
            connection.execute("INSERT INTO e VALUES (?, ?, ?, ?)", (f"s{seq % 32}", seq, "x" * 300, "h" * 64))
        connection.execute("COMMIT")
        latencies.append(1000 * (time.perf_counter() - start))
    taken = time.perf_counter() - begin
    connection.close()
    return {**summed(latencies, taken), "rate": seq / taken}
