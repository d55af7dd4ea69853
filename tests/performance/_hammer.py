"""A light load generator: raw sockets, requests prepared beforehand, one thread, latency of each answer.

python _hammer.py PLAN.pickle     # prints JSON; a process of its own, so that it shares no interpreter with a server
"""

from __future__ import annotations

import json
import pickle
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WARM_UP_S = 0.5


class Line:
    """One connection that sends its requests one after the other."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = requests
        self.next = 0
        self.sent = 0.0
        self.held = b""

    def send(self) -> bool:
        """Send the next request; False if none is left."""
        if self.next >= len(self.requests):
            return False
        self.held = b""
        self.sent = time.perf_counter()
        self.socket.sendall(self.requests[self.next])
        self.next += 1
        return True

    def receive(self) -> int | None:
        """Read what has come; the status once the answer is whole, 0 if the line is dead."""
        got = self.socket.recv(65_536)
        if not got:
            return 0
        self.held += got
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.held[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        return int(head[9:12]) if len(self.held) >= end + 4 + length else None


def hammer(address: tuple[str, int], lines: Sequence[Sequence[bytes]], seconds: float) -> dict[str, Any]:
    """Send on every line for so long; return answers, latencies (ms, after a warm-up), errors and seconds."""
    opened = {}
    poll = select.epoll()
    for requests in lines:
        line = Line(address, requests)
        opened[line.socket.fileno()] = line
        poll.register(line.socket, select.EPOLLIN)
    begin = time.perf_counter()
    latencies: list[float] = []
    answered = errors = 0
    active = sum(line.send() for line in opened.values())
    last = begin
    while active:
        for number, _ in poll.poll():
            line = opened[number]
            status = line.receive()
            if status is None:
                continue
            now = time.perf_counter()
            answered += status == 200
            errors += status != 200
            if now > begin + WARM_UP_S:
                latencies.append(1000 * (now - line.sent))
                last = now
            if status == 0 or now > begin + WARM_UP_S + seconds or not line.send():
                active -= 1
                poll.unregister(line.socket)
    measured = last - begin - WARM_UP_S
    return {"answered": answered, "errors": errors, "latencies": latencies, "seconds": measured}


if __name__ == "__main__":
    address, lines, seconds = pickle.loads(Path(sys.argv[1]).read_bytes())
    print(json.dumps(hammer(address, lines, seconds)))
