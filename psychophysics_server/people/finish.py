"""The end of a session: the completion handshake, the codes of other endings, withdrawal and erasure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from ..sessions.lifecycle import AGE, DECLINED, ENDING, OPEN, after, move, overdue
from ..sessions.schedule import missing_trials
from ..sessions.session import answers_of, next_free, schedule_of
from ..storage.database import Database, insert_row, one
from ..storage.tables import alarms, check_values, codes, events, schedules, sessions, tombstones
from ..study.frozen import FrozenStudy
from ..wire.chain import chain_over
from .checks import Verdict, failed, judge
from .conduct import observed, store_verdicts
from .decisions import ANALYSIS, decision_on
from .deletion import give, session_of
from .rows import held_events

DrawCode = Callable[[], str]
DrawOutcome = Callable[[str], str]
"""Draws a code of the given kind (a key of `recruiter.OUTCOMES`)."""
ERASED = "deletion token"
"""Reason of an erasure by token."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The outcome of a handshake: a code, or what is missing for it."""

    gone: bool = False
    over: str = ""
    """The state in which the session ended without its trials, '' if it did not."""
    code: str = ""
    consented: bool = True
    missing: list[int] = field(default_factory=list)
    missing_trials: list[str] = field(default_factory=list)
    chain_matches: bool = True
    next_seq: int = 1


def _locked(connection: Connection, session: str) -> Row[Any]:
    return connection.execute(select(sessions).filter_by(session=session).with_for_update()).one()


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a session ended without its trials: its state and why, and the code it ends with ('' if none is due)."""

    state: str
    reason: str
    code: str = ""


def complete(
    database: Database, study: FrozenStudy, session: str, *, last_seq: int, chain: str, draw: DrawCode
) -> Finished:
    """Release the completion code if, and only if, every trial and every event up to `last_seq` is held.

    Parameters
    ----------
    last_seq, chain
        What the browser holds (docs/wire.md, section 6).
    draw
        Draws a new code.
    """

    def job(connection: Connection) -> Finished:
        row = _locked(connection, session)
        if row.state == "WITHDRAWN":
            return Finished(gone=True)
        now = time.time()
        released = one(connection, codes, session=session, kind="complete")
        if released is not None:
            return Finished(code=released.code)
        if _expired(connection, study, row, now):
            return Finished(over="EXPIRED")
        if row.state not in OPEN:
            return Finished(over=row.state)
        lacking = _lacking(connection, study, row, last_seq=last_seq, chain=chain)
        if lacking.missing or lacking.missing_trials or not lacking.chain_matches or not lacking.consented:
            return lacking
        move(connection, row, "complete", finished_at=now, last_seen=now, last_seq=last_seq)
        verdicts = _store_checks(connection, study, _locked(connection, session))
        if failed(verdicts) and decision_on(connection, session, ANALYSIS) is None:
            connection.execute(update(sessions).where(sessions.c.session == session).values(excluded=True))
        return Finished(code=_release(connection, session, "complete", draw(), now=now))

    finished: Finished = database.write(job)
    return finished


def deletion_token(database: Database, session: str, bearer: str) -> str:
    """Return the token with which this person erases their answers later, '' if they have as many as they may.

    Parameters
    ----------
    bearer
        The token their browser speaks with: the same one gives the same deletion token.
    """
    token: str = database.write(lambda connection: give(connection, session, bearer, now=time.time()))
    return token


def _expired(connection: Connection, study: FrozenStudy, row: Row[Any], now: float) -> bool:
    """End a session that is overdue, at the first contact after that."""
    if overdue(study, row, now):
        move(connection, row, "expire", reason=AGE)
        return True
    return False


def _lacking(connection: Connection, study: FrozenStudy, row: Row[Any], *, last_seq: int, chain: str) -> Finished:
    query = select(events.c.seq, events.c.body_hash).where(events.c.session == row.session, events.c.seq <= last_seq)
    held = {row.seq: row.body_hash for row in connection.execute(query.order_by(events.c.seq))}
    missing = [seq for seq in range(1, last_seq + 1) if seq not in held]
    trials = schedule_of(connection, study, row.session)
    answers = answers_of(connection, row.session)
    return Finished(
        consented=row.consented_at is not None,
        missing=missing,
        missing_trials=missing_trials(trials, answers, study.attempts),
        chain_matches=not missing and chain_over(held.values()) == chain,
        next_seq=next_free(connection, row.session),
    )


def _store_checks(connection: Connection, study: FrozenStudy, row: Row[Any]) -> list[Verdict]:
    """Apply the checks to a session that has just ended, and keep every value."""
    trials, rows = schedule_of(connection, study, row.session), held_events(connection, row.session)
    verdicts = judge(study.file.checks, observed(row, study, trials, rows))
    store_verdicts(connection, row.session, verdicts)
    return verdicts


def _release(connection: Connection, session: str, kind: str, code: str, *, now: float, reason: str = "") -> str:
    row = {"session": session, "kind": kind, "code": code, "reason": reason, "released_at": now}
    insert_row(connection, codes, row)
    return code


def manual_code(database: Database, session: str, *, reason: str, draw: DrawCode) -> str | None:
    """Give the code that a person reviews, the same each time; None if the session was withdrawn."""

    def job(connection: Connection) -> str | None:
        if _locked(connection, session).state == "WITHDRAWN":
            return None
        released = one(connection, codes, session=session, kind="manual")
        if released is not None:
            return str(released.code)
        return _release(connection, session, "manual", draw(), now=time.time(), reason=reason)

    code: str | None = database.write(job)
    return code


def screen_out(database: Database, session: str, *, reason: str) -> str:
    """End a session for a reason that the study announced; returns the state it is in now.

    The place is open again. A session that has ended stays as it is.
    """

    def job(connection: Connection) -> str:
        row = _locked(connection, session)
        if after(row.state, "screen_out") is None:
            return str(row.state)
        now = time.time()
        return move(connection, row, "screen_out", reason=reason, finished_at=now, last_seen=now)

    state: str = database.write(job)
    return state


def ending(database: Database, study: FrozenStudy, session: str, *, draw: DrawOutcome, wants_refusals: bool) -> Ending:
    """Give a session that ended without its trials its code, the same each time it is asked for.

    Parameters
    ----------
    draw
        Draws a new code of a kind.
    wants_refusals
        Whether people who did not consent get a code (a recruiter sent them).
    """

    def job(connection: Connection) -> Ending:
        row, now = _locked(connection, session), time.time()
        if _expired(connection, study, row, now):
            row = _locked(connection, session)
        kind = ENDING.get(row.state, "")
        if row.state == "WITHDRAWN" and row.reason == DECLINED and wants_refusals:
            kind = "no_consent"
        if not kind:
            return Ending(state=row.state, reason=row.reason)
        released = one(connection, codes, session=session, kind=kind)
        code = (
            _release(connection, session, kind, draw(kind), now=now, reason=row.reason)
            if released is None
            else str(released.code)
        )
        return Ending(state=row.state, reason=row.reason, code=code)

    found: Ending = database.write(job)
    return found


def withdraw(database: Database, session: str, *, reason: str) -> None:
    """Delete everything a person said and leave a tombstone; the claim stays, so that they cannot enter twice.

    What is known of their consent stays as well: its version and time, without an answer.
    """
    database.write(lambda connection: _withdraw(connection, session, reason))


def erase(database: Database, token: str) -> bool:
    """Delete everything that the person with this deletion token said; False if nobody has it.

    Saying it twice is fine. It works after the study was unlinked as well.
    """

    def job(connection: Connection) -> bool:
        session = session_of(connection, token)
        if session is not None:
            _withdraw(connection, session, ERASED)
        return session is not None

    erased: bool = database.write(job)
    return erased


def _withdraw(connection: Connection, session: str, reason: str) -> None:
    row = _locked(connection, session)
    if row.state == "WITHDRAWN":
        return
    count = select(func.count()).select_from(events).where(events.c.session == session)
    deleted = connection.execute(count).scalar_one()
    for table in (events, alarms, schedules, check_values):
        connection.execute(delete(table).where(table.c.session == session))
    now = time.time()
    move(connection, row, "withdraw", reason=reason, high_water=0, chain="", last_seq=None, last_seen=now)
    insert_row(
        connection,
        tombstones,
        {"session": session, "reason": reason, "events_deleted": deleted, "server_time": now},
    )
