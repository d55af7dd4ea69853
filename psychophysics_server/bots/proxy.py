"""A bad network: a proxy between bots and a server that loses requests, and answers to requests it has passed on."""

from __future__ import annotations

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit


class BadNetwork:
    """A proxy on loopback; `with` it, and let bots talk to `url`.

    Parameters
    ----------
    upstream
        Address of the server.
    lost_requests
        Share of requests that never reach the server.
    lost_responses
        Share of the others that the server handles and whose answer never reaches the bot.
    seed
        Draws what is lost, in the order of arrival.
    """

    def __init__(self, upstream: str, *, lost_requests: float, lost_responses: float, seed: int = 0) -> None:
        self.lost_requests = lost_requests
        self.lost_responses = lost_responses
        self.counts = {"requests": 0, "lost requests": 0, "lost responses": 0, "no server": 0, "refused as busy": 0}
        self.relayed = 0
        self._upstream = urlsplit(upstream)
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Relay)
        self._server.network = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="bad-network", daemon=True)

    @property
    def url(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> BadNetwork:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def fate(self) -> str:
        """Draw what becomes of the next request: '' if it and its answer arrive."""
        with self._lock:
            self.counts["requests"] += 1
            first, second = self._draw.random(), self._draw.random()
            if first < self.lost_requests:
                self.counts["lost requests"] += 1
                return "request"
            return "response" if second < self.lost_responses else ""

    def count(self, what: str) -> None:
        """Count something that has happened."""
        with self._lock:
            self.counts[what] += 1

    def relay(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """Pass a request on; return status, content type and body of the answer."""
        line = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=30)
        try:
            line.request(method, path, body=body or None, headers=headers)
            response = line.getresponse()
            return response.status, response.headers.get("Content-Type", ""), response.read()
        finally:
            line.close()
            with self._lock:
                self.relayed += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    network: BadNetwork

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that end in the middle: that is what this is for."""


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        network = self.server.network
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = network.fate()
        if fate == "request":
            self.close_connection = True
            return
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        try:
            status, kind, answer = network.relay(self.command, self.path, headers, body)
        except (OSError, http.client.HTTPException):
            network.count("no server")
            self.close_connection = True
            return
        if status == 503:
            network.count("refused as busy")
        if fate == "response":
            network.count("lost responses")
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
