"""The gunicorn worker: threads that no slow client can hold, and a log that names nobody."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from functools import partial
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

REQUEST_S = 10.0
"""A request that has begun must be here, whole, within this time."""
SEND_S = 60.0
"""A client that takes nothing of its answer for this long is left."""


class PatientSocket(socket.socket):
    """A client's connection on which reading has a deadline and sending a limit; past them it counts as reset."""

    __slots__ = ("deadline",)
    deadline: float | None

    @classmethod
    def around(cls, raw: socket.socket) -> PatientSocket:
        """Take a socket over; the given object is closed."""
        made = cls(raw.family, raw.type, raw.proto, fileno=raw.detach())
        made.deadline = None
        made.setblocking(False)
        return made

    def begin(self, seconds: float) -> None:
        """Give the next request this long to arrive."""
        self.deadline = time.monotonic() + seconds

    def setblocking(self, flag: bool, /) -> None:
        """Block, but never for ever."""
        super().settimeout(SEND_S if flag else 0.0)

    def recv(self, *given: Any) -> bytes:
        """Read what there is, before the deadline."""
        before = self.gettimeout()
        if self.deadline is None or not before:
            return super().recv(*given)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise ConnectionResetError(errno.ECONNRESET, "the request did not arrive in time")
        super().settimeout(min(left, before))
        try:
            return super().recv(*given)
        except TimeoutError:
            if left <= before:
                raise ConnectionResetError(errno.ECONNRESET, "the request did not arrive in time") from None
            raise
        finally:
            super().settimeout(before)

    def sendall(self, *given: Any) -> None:
        """Send everything, or count the client as gone."""
        try:
            super().sendall(*given)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from None


class PatientWorker(ThreadWorker):
    """gunicorn's threads behind its poller: a connection gets a thread when it has something to say."""

    def enqueue_req(self, conn: Any) -> None:
        """Let a silent newcomer wait in the poller, where it costs no thread."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket.around(conn.sock)
        if conn.initialized or conn.data_ready or not self.alive:
            super().enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def handle(self, conn: Any) -> Any:
        """Answer one request that arrives in time."""
        conn.sock.begin(REQUEST_S)
        return super().handle(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that is no HTTP, and log what kind of fault it was: no address, no part of the request."""
        status, reason = _status(exc)
        if status == 500:
            self.log.error("a request failed in the server: %s", type(exc).__name__, exc_info=exc)
        else:
            self.log.warning("refused a request that is not valid HTTP: %s", type(exc).__name__)
        body = b'{"error":"%s","message":"%s"}\n' % (
            b"server" if status == 500 else b"bad_request",
            b"The server could not answer this request.",
        )
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError:
            self.log.debug("the client left before it was told of its fault")

    def _cap_keepalive(self, deadline: float) -> None:
        """Let no silent connection delay a stop."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)


def _status(exc: BaseException) -> tuple[int, str]:
    """Return the status of a fault in reading a request; 500 for anything that is our own fault."""
    if isinstance(exc, errors.LimitRequestLine):
        return 414, "URI Too Long"
    if isinstance(exc, errors.LimitRequestHeaders):
        return 431, "Request Header Fields Too Large"
    if isinstance(exc, errors.ExpectationFailed):
        return 417, "Expectation Failed"
    if isinstance(exc, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName):
        return 500, "Internal Server Error"
    return (400, "Bad Request") if isinstance(exc, errors.ParseException) else (500, "Internal Server Error")
