"""The gunicorn worker: threads that no slow client can hold, and a log that names nobody."""

from __future__ import annotations

import errno
import select
import selectors
import socket
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

REQUEST_S = 10.0
"""A request that has begun must be here, whole, within this time."""
LINGER_S = 0.02
"""A thread waits this long for the next request of the connection it has just answered."""
GATHERED = 65_536
"""So many bytes of an answer are gathered at most before they leave."""
SEND_S = 60.0
"""A client that takes nothing of its answer for this long is left."""


class PatientSocket(socket.socket):
    """A client's connection on which reading has a deadline and sending a limit; past them it counts as reset.

    The operating system's socket never blocks: what is there is read at once, and only who must wait asks the kernel
    to. What is sent is gathered until the request is answered, so that head and body leave together.
    """

    __slots__ = ("deadline", "gathered", "patience")
    deadline: float | None
    patience: float | None
    gathered: bytearray

    @classmethod
    def around(cls, raw: socket.socket) -> PatientSocket:
        """Take a socket over; the given object is closed."""
        made = cls(raw.family, raw.type, raw.proto, fileno=raw.detach())
        super().settimeout(made, 0.0)
        made.deadline, made.patience, made.gathered = None, 0.0, bytearray()
        return made

    def begin(self, seconds: float) -> None:
        """Give the next request this long to arrive."""
        self.deadline = time.monotonic() + seconds

    def follows(self, seconds: float) -> bool:
        """Wait so long for more to read."""
        return self._wait(select.POLLIN, seconds)

    def setblocking(self, flag: bool, /) -> None:
        """Block, but never for ever."""
        self.patience = SEND_S if flag else 0.0

    def settimeout(self, value: float | None, /) -> None:
        """Wait so long at most."""
        self.patience = SEND_S if value is None else value

    def gettimeout(self) -> float | None:
        """Return how long reading waits at most."""
        return self.patience

    def recv(self, *given: Any) -> bytes:
        """Read what there is, before the deadline."""
        while True:
            left = self._left()
            try:
                return super().recv(*given)
            except BlockingIOError:
                if not self.patience:
                    raise
            self.flush()
            if self._wait(select.POLLIN, min(left, self.patience)):
                continue
            if left > self.patience:
                raise TimeoutError(errno.ETIMEDOUT, "nothing came")

    def sendall(self, data: Any, *given: Any) -> None:
        """Gather what is to be sent; a lot of it leaves at once."""
        self.gathered += data
        if len(self.gathered) >= GATHERED:
            self.flush()

    def sendfile(self, *given: Any, **named: Any) -> int:
        """Send a file after what was gathered before it."""
        self.flush()
        return super().sendfile(*given, **named)

    def flush(self) -> None:
        """Send everything, or count the client as gone."""
        with memoryview(bytes(self.gathered)) as left:
            self.gathered.clear()
            sent = 0
            while sent < len(left):
                try:
                    sent += super().send(left[sent:])
                except BlockingIOError:
                    if not self._wait(select.POLLOUT, SEND_S):
                        raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from None

    def _left(self) -> float:
        """Return the seconds left for the request to arrive."""
        left = SEND_S if self.deadline is None else self.deadline - time.monotonic()
        if left <= 0:
            raise ConnectionResetError(errno.ECONNRESET, "the request did not arrive in time")
        return left

    def _wait(self, event: int, seconds: float) -> bool:
        waits = select.poll()
        waits.register(self, event)
        return bool(waits.poll(1000 * seconds))


class QuietLogger(Logger):
    """gunicorn's log without its access lines: `operations` writes a line a request, which names nobody."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write nothing."""


class PatientWorker(ThreadWorker):
    """gunicorn's threads behind its poller: a connection gets a thread when it has something to say."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._line: deque[Any] = deque()

    def enqueue_req(self, conn: Any) -> None:
        """Let a silent newcomer wait in the poller, where it costs no thread."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket.around(conn.sock)
        if conn.initialized or conn.data_ready or not self.alive:
            self._line.append(conn)
            super().enqueue_req(conn)
            return
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

    def handle(self, conn: Any) -> Any:
        """Answer one request that arrives in time, and those that follow at once, unless others stand in line.

        The way by the poller costs as much as the rest of an answer.
        """
        self._line.popleft()
        while True:
            conn.sock.begin(REQUEST_S)
            try:
                kept = super().handle(conn)
            finally:
                conn.sock.flush()
            if kept is not True or not self.alive or self._line:
                return kept
            if not conn.parser.unreader.buf.getvalue() and not conn.sock.follows(LINGER_S):
                return kept

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
