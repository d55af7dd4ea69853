"""Asking a recruiter how its submissions stand, and comparing with what is held here."""

from __future__ import annotations

import ipaddress
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, select

from bench.registry import LimenError

from ..storage.database import Database
from ..storage.tables import codes, participants, sessions
from ..study.frozen import FrozenStudy
from .recruiter import RECRUITED, Opener, Recruiter, Told
from .submissions import hear_poll

TIMEOUT_S = 30.0
LARGEST = 32 * 1024 * 1024
FINISHED = frozenset({"AWAITING REVIEW", "APPROVED"})
"""Statuses of people who are done at the recruiter."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would carry the token to another host."""

    def redirect_request(self, *given: Any) -> None:
        """Refuse."""


def fetch_json(url: str, headers: Mapping[str, str]) -> Any:
    """Fetch a JSON document over HTTPS (or from this machine).

    Raises
    ------
    LimenError
        If there is no answer, a refusal, or no JSON; the token is never repeated.
    """
    found = urlsplit(url)
    if found.scheme != "https" and not (found.scheme == "http" and _loopback(found.hostname or "")):
        raise LimenError(f"recruiter at {found.hostname}: only https:// is asked.")
    request = urllib.request.Request(url, headers={**headers, "Accept": "application/json", "User-Agent": "limen"})
    try:
        with urllib.request.build_opener(_Stay()).open(request, timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read(LARGEST))
    except urllib.error.HTTPError as error:
        error.close()
        raise LimenError(f"recruiter at {found.hostname}: answered {error.code}; is the token right?") from None
    except (OSError, ValueError) as error:
        raise LimenError(f"recruiter at {found.hostname}: cannot be asked ({type(error).__name__}).") from None


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Agreement:
    """How many submissions stand so at the recruiter and so here."""

    there: str
    here: str
    """State of the session, with '+ code' if its completion code was released; 'unknown' if nobody came with it."""
    people: int
    look: str
    """Why a person should look at them, '' if all is well."""


@dataclass(frozen=True)
class Polled:
    """The outcome of asking."""

    listed: int
    changed: int
    agreement: list[Agreement]


def poll(
    database: Database, study: FrozenStudy, recruiter: Recruiter, *, remote: str, opener: Opener = fetch_json
) -> Polled:
    """List a study's submissions at the recruiter, keep what changed, and compare.

    Parameters
    ----------
    remote
        The recruiter's id of the study.
    opener
        Fetches JSON; tests give their own.

    Raises
    ------
    LimenError
        If the recruiter cannot be asked.
    """
    listed = list(recruiter.poll(remote, opener, now=time.time()))
    changed = hear_poll(database, recruiter.name, listed)
    with database.read() as connection:
        return Polled(len(listed), changed, _agreement(connection, study, recruiter.name, listed))


def _agreement(connection: Connection, study: FrozenStudy, recruiter: str, listed: list[Told]) -> list[Agreement]:
    query = (
        select(participants.c.submission, participants.c.recruiter_id, sessions.c.state, codes.c.kind)
        .join(sessions, sessions.c.session == participants.c.session)
        .outerjoin(codes, (codes.c.session == sessions.c.session) & (codes.c.kind == "complete"))
        .where(
            participants.c.stimuli == study.key,
            participants.c.recruiter == recruiter,
            participants.c.source.in_(sorted(RECRUITED)),
        )
    )
    by_visit: dict[str, tuple[str, bool]] = {}
    by_person: dict[str, tuple[str, bool]] = {}
    for row in connection.execute(query):
        by_visit[row.submission] = by_person[row.recruiter_id] = (str(row.state), row.kind is not None)
    found: Counter[tuple[str, str, str]] = Counter()
    for told in listed:
        state, coded = by_visit.get(told.submission) or by_person.get(told.recruiter_id) or ("unknown", False)
        here = f"{state} + code" if coded else state
        found[told.status, here, _look(told.status, state, coded)] += 1
    return [Agreement(there, here, people, look) for (there, here, look), people in sorted(found.items())]


def _look(status: str, state: str, coded: bool) -> str:
    if status in FINISHED and not coded and state != "WITHDRAWN":
        return "done there without a code from here: look before paying or rejecting; a missing code proves nothing"
    if status in {"RETURNED", "TIMED-OUT"} and coded:
        return "finished here, yet not paid there"
    return ""
