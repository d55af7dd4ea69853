"""A browser that skips the network: the same requests go straight to the functions behind the routes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pydantic
from sqlalchemy import Connection

from ..people.finish import complete
from ..sessions.append import append
from ..sessions.score import tell
from ..sessions.session import Entry, authenticate, open_session, schedule_of, token_hash, view
from ..storage.database import Busy, Database, WriteFailed, one
from ..storage.tables import sessions
from ..study.frozen import FrozenStudy
from ..wire.requests import CompleteRequest, EventsRequest, sentence
from .browser import Answer, Browser


class OneTransaction:
    """A data base whose reads and writes share one open transaction: many people, one commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read what this transaction sees."""
        yield self._connection

    def write(self, job: Callable[[Connection], Any]) -> Any:
        """Run a job now; it is on disk once the transaction is committed."""
        return job(self._connection)


@dataclass
class Inside(Browser):
    """One browser of one simulated person or network, in the process of the data base.

    What it sends is read, judged, stored and chained by the code that serves people; only the sockets are left out,
    and the sizes of requests are not limited.
    """

    database: Database | OneTransaction | None = field(default=None, repr=False)
    frozen: FrozenStudy | None = field(default=None, repr=False)

    @property
    def _held(self) -> Database:
        return cast(Database, self.database)

    def _once(self, method: str, path: str, body: Any) -> Answer:
        try:
            return self._routed(method, path, body)
        except pydantic.ValidationError as error:
            return Answer(400, {"error": "bad_request", "message": sentence(error)})
        except (Busy, WriteFailed):
            return Answer(503, {"error": "busy"})

    def _routed(self, method: str, path: str, body: Any) -> Answer:
        assert self.frozen is not None
        if path == "/api/sessions":
            return self._enter()
        with self._held.read() as connection:
            session = authenticate(connection, self.token) if self.token else None
            if session is None:
                return Answer(401, {"error": "token"})
            if path == "/api/session":
                row = one(connection, sessions, session=session)
                return Answer(200, dict(view(connection, self.frozen, row)))  # type: ignore[arg-type]
        if path == "/api/events":
            return self._append(session, body)
        if path == "/api/score":
            return self._score(session, body)
        if path == "/api/complete":
            return self._complete(session, body)
        return Answer(404, {"error": "not_found"})

    def _enter(self) -> Answer:
        assert self.frozen is not None
        entry = Entry(source=self.source, recruiter=self.source, recruiter_id=self.client_id)
        opened = open_session(self._held, self.frozen, entry, admit=True, stale_s=float("inf"))
        if opened.refused:
            return Answer(410 if opened.refused == "withdrawn" else 403, {"error": opened.refused})
        return Answer(200 if opened.resumed else 201, {"session": opened.session, "token": opened.token})

    def _append(self, session: str, body: Any) -> Answer:
        assert self.frozen is not None
        batch = EventsRequest.model_validate(body).events
        done = append(self._held, self.frozen, session, batch, token=token_hash(self.token))
        if done.unknown or done.gone:
            return Answer(401 if done.unknown else 410, {"error": "token" if done.unknown else "withdrawn"})
        return Answer(409 if done.conflicts else 200, {**done.public(), "conflicts": done.conflicts})

    def _score(self, session: str, body: Any) -> Answer:
        assert self.frozen is not None
        with self._held.read() as connection:
            trials = schedule_of(connection, self.frozen, session)
            told = tell(connection, self.frozen, session, trials, str(body["trial_id"]))
        if isinstance(told, str):
            return Answer(409 if told == "early" else 404, {"error": told})
        return Answer(200, told)

    def _complete(self, session: str, body: Any) -> Answer:
        assert self.frozen is not None
        claim = CompleteRequest.model_validate(body)
        code = f"{self.source.upper()}-{secrets.token_hex(4).upper()}"
        last_seq, chain = claim.last_seq, claim.chain
        done = complete(self._held, self.frozen, session, last_seq=last_seq, chain=chain, draw=lambda: code)
        if done.code:
            return Answer(200, {"code": done.code, "state": "COMPLETE"})
        lacking = {"missing": done.missing, "missing_trials": done.missing_trials}
        return Answer(409, {"error": "incomplete", "chain_matches": done.chain_matches, **lacking})
