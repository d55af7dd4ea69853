"""Raw bytes against the real server: smuggled requests, broken framing, absurd sizes, slow and silent clients."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from psychophysics_server.bots.fleet import wait_until_ready
from psychophysics_server.bots.ordeal import free_port
from psychophysics_server.web import worker

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "from psychophysics_server.cli import study; study()"
RECRUITED = "5f3a0000000000000000abcd"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /api/sessions HTTP/1.1\r\nHost: x\r\n"


class Raw:
    """The real server, spoken to in bytes."""

    def __init__(self, port, log):
        self.port = port
        self.log = log

    def connect(self):
        line = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        line.settimeout(30)
        return line

    def say(self, data):
        """Send bytes, say that no more will come, and return all that comes back."""
        with self.connect() as line:
            with contextlib.suppress(OSError):  # refused before all of it was read
                line.sendall(data)
                line.shutdown(socket.SHUT_WR)
            heard = b""
            with contextlib.suppress(ConnectionError):
                while more := line.recv(65536):
                    heard += more
        return heard

    def statuses(self, data):
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", self.say(data))]


@pytest.fixture(scope="module")
def raw(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tiny.file.model_dump(mode="json")))
    port = free_port()
    store = tiny.artifact.path.parent.parent
    arguments = ["serve", str(path), "--store", str(store), "--db", str(folder / "answers.sqlite"), "--port", str(port)]
    log = folder / "log.txt"
    with log.open("wb") as stream:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments], env=environment, stdout=stream, stderr=stream
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", patience_s=60)
        yield Raw(port, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait(60)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 2\r\nContent-Length: 40\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length : 2\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"X: a\r\n b\r\n",
        b"X: a\nContent-Length: 2\r\n",
        b"X: a\rContent-Length: 2\r\n",
        b"X: a\x00b\r\n",
        b"Host: other\r\n",
    ],
)
def test_no_second_request_hides_in_the_body_of_a_first(raw, head):
    hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert raw.statuses(POST + head + b"\r\n" + hidden) == [400]


@pytest.mark.parametrize(
    "line",
    [
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get\x01 /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\n" + GET,
        b"\r\n\r\nnonsense\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(raw, line):
    assert raw.statuses(line) == [400]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 300 + b"\r\n", 431),
        (POST + b"Content-Length: 99999999999\r\n\r\n{}", 413),
        (POST + b"Content-Length: 100\r\n\r\n{}", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}", 400),
        (b"GET http://evil.example/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_a_request_beyond_a_limit_or_beside_the_point_is_refused(raw, request_, status):
    assert raw.statuses(request_)[:1] == [status]
    assert raw.statuses(GET) == [200]


def test_a_body_in_chunks_is_counted_as_it_comes(raw):
    chunks = b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(160))
    heard = raw.say(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert heard == b"" or re.search(rb"HTTP/1\.1 (400|413)", heard)
    assert raw.statuses(GET) == [200]


def test_requests_in_a_row_are_answered_each_by_its_own(raw):
    body = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    first = b"POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert raw.statuses(first + GET) == [401, 200]


@pytest.mark.parametrize("name", [b"SCRIPT_NAME", b"Script-Name", b"PATH_INFO", b"Path-Info", b"X-Forwarded-Prefix"])
def test_a_header_moves_no_path(raw, name):
    """A proxy's rules go by the path it sees, so nothing in a header may make another of it."""
    for value in (b"/api", b"/healthz"):
        line = b"GET /api/session HTTP/1.1\r\nHost: x\r\n" + name + b": " + value + b"\r\nConnection: close\r\n\r\n"
        assert raw.statuses(line) == [401]


def test_no_upgrade_to_another_protocol_is_taken(raw):
    settings = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    assert raw.statuses(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + settings) == [200]


def test_the_log_names_neither_an_address_nor_what_was_asked(raw):
    raw.say(f"GET /study/tiny-study/?PROLIFIC_PID={RECRUITED}\x00 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    raw.say(f"GET /study/tiny-study/?PROLIFIC_PID={RECRUITED} HTTP/1.1\r\nHost: x\r\nX y: z\r\n\r\n".encode())
    written = raw.log.read_text()
    assert "refused a request that is not valid HTTP" in written
    said = written.split("stop with Ctrl-C")[-1]
    assert RECRUITED not in said
    assert "127.0.0.1" not in said


def test_silent_connections_hold_no_thread(raw):
    """More open connections than threads, none of which says anything: others are answered at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(raw.connect())
        assert raw.statuses(GET) == [200]


@pytest.mark.long
@pytest.mark.parametrize("begun", [b"GET /healthz HTTP/1.1\r\nHos", POST + b"Content-Length: 100\r\n\r\n{"])
def test_clients_that_stop_half_way_are_left(raw, begun):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(raw.connect()).sendall(begun)
        assert raw.statuses(GET) == [200]


def test_a_request_must_arrive_in_time_and_the_next_has_its_own_time():
    ours, theirs = socket.socketpair()
    with worker.PatientSocket.around(ours) as line, theirs:
        line.setblocking(True)
        line.begin(30.0)
        theirs.sendall(b"GET ")
        assert line.recv(100) == b"GET "
        line.deadline = time.monotonic() - 1
        theirs.sendall(b"late")
        with pytest.raises(ConnectionResetError):
            line.recv(100)
        line.begin(30.0)
        assert line.recv(100) == b"late"
        line.begin(0.01)
        with pytest.raises(ConnectionResetError):
            line.recv(100)
        assert line.gettimeout() == worker.SEND_S


def test_a_client_that_takes_no_answer_is_left(monkeypatch):
    monkeypatch.setattr(worker, "SEND_S", 0.05)
    ours, theirs = socket.socketpair()
    with worker.PatientSocket.around(ours) as line, theirs:
        line.setblocking(True)
        with pytest.raises(BrokenPipeError):
            line.sendall(b"x" * 20_000_000)


def test_an_answer_leaves_whole_and_before_anybody_waits_for_more():
    ours, theirs = socket.socketpair()
    with worker.PatientSocket.around(ours) as line, theirs:
        theirs.setblocking(False)
        line.setblocking(True)
        line.begin(0.05)
        line.sendall(b"head")
        line.sendall(b"body")
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        with pytest.raises(ConnectionResetError):
            line.recv(100)
        assert theirs.recv(100) == b"headbody"


@pytest.mark.parametrize(("others", "answered"), [(0, 3), (1, 1)])
def test_a_thread_stays_with_a_connection_unless_others_stand_in_line(monkeypatch, others, answered):
    seen = []
    monkeypatch.setattr(worker.ThreadWorker, "handle", lambda self, conn: seen.append(conn) or True)
    ours, theirs = socket.socketpair()
    with worker.PatientSocket.around(ours) as line, theirs:
        theirs.sendall(b"xx")
        buffer = SimpleNamespace(getvalue=lambda: b"")
        conn = SimpleNamespace(sock=line, parser=SimpleNamespace(unreader=SimpleNamespace(buf=buffer)))
        held = worker.PatientWorker.__new__(worker.PatientWorker)
        held.alive, held._line = True, deque([conn] * (1 + others))
        monkeypatch.setattr(
            worker.PatientSocket, "follows", lambda self, seconds: bool(self.recv(1)) if len(seen) < 3 else False
        )
        assert held.handle(conn) is True
    assert len(seen) == answered
