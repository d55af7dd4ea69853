"""A browser without a screen: numbers events, keeps the chain and an outbox, and sends again until acknowledged."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from bench.registry import LimenError

from ..wire.chain import body_hash, link
from ..wire.requests import MAX_BATCH

AGAIN = frozenset({500, 502, 503, 504})
"""Statuses after which the same bytes are sent again."""


class NoAnswer(LimenError):
    """The server did not answer within a browser's patience."""


@dataclass
class Answer:
    """A response of the server."""

    status: int
    body: dict[str, Any]


@dataclass
class Browser:
    """One browser of one participant.

    Attributes
    ----------
    url : address of the server
    study : study id
    client_id : what the browser is known by
    source : 'bot' or 'live'
    parameters : the page's query
    patience_s : how long one request is repeated before giving up
    over : set by who started it, it ends all patience
    """

    url: str
    study: str
    client_id: str
    source: str = "bot"
    parameters: dict[str, str] = field(default_factory=dict)
    patience_s: float = 60.0
    over: threading.Event | None = None
    session: str = ""
    token: str = ""
    next_seq: int = 1
    chain: str = ""
    clock_ms: float = field(default_factory=lambda: time.time() * 1000)
    outbox: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: dict[int, str] = field(default_factory=dict)
    retries: int = 0
    conflicts: int = 0
    _line: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send one request until something other than 'try again' comes back.

        Raises
        ------
        NoAnswer
            If patience ends first.
        """
        end = time.monotonic() + self.patience_s
        wait = 0.02
        while True:
            try:
                answer = self._once(method, path, body)
                if answer.status not in AGAIN:
                    return answer
                reason = f"status {answer.status}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = type(error).__name__
            self.close()
            self.retries += 1
            if time.monotonic() > end or (self.over is not None and self.over.is_set()):
                raise NoAnswer(f"server {self.url}: no answer within {self.patience_s:g} s ({reason}).")
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, 1.0)

    def _once(self, method: str, path: str, body: Any) -> Answer:
        if self._line is None:
            address = urlsplit(self.url)
            kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
            self._line = kind(address.hostname or "", address.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body)
        self._line.request(method, path, body=data, headers=headers)
        response = self._line.getresponse()
        return Answer(response.status, json.loads(response.read()))

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def open(self) -> Answer:
        """Open the session, or the same one again."""
        self.token = ""
        wanted = {
            "study": self.study,
            "client_id": self.client_id,
            "parameters": self.parameters,
            "source": self.source,
        }
        answer = self.request("POST", "/api/sessions", wanted)
        if answer.status in {200, 201}:
            self.session, self.token = answer.body["session"], answer.body["token"]
        return answer

    def read(self) -> Answer:
        """Read the session; a browser whose outbox is empty goes on where the server stands."""
        answer = self.request("GET", "/api/session")
        if answer.status == 200 and not self.outbox:
            self.next_seq, self.chain = answer.body["next_seq"], answer.body["chain"]
        return answer

    def note(self, kind: str, body: dict[str, Any], *, after_ms: float = 0.0) -> int:
        """Put an event into the outbox, `after_ms` later on the simulated clock; returns its seq."""
        self.clock_ms += after_ms
        text = json.dumps(body)
        event: dict[str, Any] = {"seq": self.next_seq, "kind": kind, "time": self.clock_ms, "body": text}
        self.outbox.append(event)
        self.chain = link(self.chain, body_hash(text))
        self.next_seq += 1
        return int(event["seq"])

    def flush(self, *, twice: bool = False) -> Answer:
        """Send the outbox; an acknowledged event leaves it. `twice` sends the same bytes a second time."""
        sent = self.outbox[:MAX_BATCH]
        answer = self.request("POST", "/api/events", {"events": sent})
        if twice:
            answer = self.request("POST", "/api/events", {"events": sent})
        done = set(answer.body.get("acknowledged", ()))
        self.conflicts += len(answer.body.get("conflicts", ()))
        self.acknowledged |= {event["seq"]: event["body"] for event in sent if event["seq"] in done}
        self.outbox = [event for event in self.outbox if event["seq"] not in done]
        return answer

    def flush_backwards(self) -> list[Answer]:
        """Send each event of the outbox in a request of its own, the last first."""
        gathered, answers = self.outbox, []
        for event in reversed(gathered):
            self.outbox = [event]
            answers.append(self.flush())
        held = self.acknowledged
        self.outbox = [event for event in gathered if event["seq"] not in held]
        return answers

    def window(self) -> Browser:
        """Return a second window of the same person."""
        return replace(self, token="", next_seq=1, chain="", outbox=[], acknowledged={}, retries=0, _line=None)

    def say_at(self, seq: int, kind: str, body: dict[str, Any]) -> Answer:
        """Send one event under a seq of the caller's choice, past the outbox."""
        event = {"seq": seq, "kind": kind, "time": self.clock_ms, "body": json.dumps(body)}
        return self.request("POST", "/api/events", {"events": [event]})

    def score(self, trial_id: str) -> Answer:
        """Ask what a trial tells this person of their own answers."""
        return self.request("POST", "/api/score", {"trial_id": trial_id})

    def complete(self) -> Answer:
        """Ask for the completion code."""
        return self.request("POST", "/api/complete", {"last_seq": self.next_seq - 1, "chain": self.chain})
