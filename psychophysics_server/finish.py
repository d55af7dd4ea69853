"""The end of a session: the completion handshake, the code for review, and withdrawal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from .chain import chain_over
from .checks import Verdict, failed, judge
from .conduct import observed, store_verdicts
from .db import Database, insert_row, one
from .decisions import ANALYSIS, decision_on
from .frozen import FrozenStudy
from .rows import held_events
from .schedule import missing_trials
from .sessions import answers_of, next_free, schedule_of
from .tables import alarms, check_values, codes, events, schedules, sessions, tombstones

DrawCode = Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The outcome of a handshake: a code, or what is missing for it."""

    gone: bool = False
    code: str = ""
    consented: bool = True
    missing: list[int] = field(default_factory=list)
    missing_trials: list[str] = field(default_factory=list)
    chain_matches: bool = True
    next_seq: int = 1


def _locked(connection: Connection, session: str) -> Row[Any]:
    return connection.execute(select(sessions).filter_by(session=session).with_for_update()).one()


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
        released = one(connection, codes, session=session, kind="complete")
        if released is not None:
            return Finished(code=released.code)
        lacking = _lacking(connection, study, row, last_seq=last_seq, chain=chain)
        if lacking.missing or lacking.missing_trials or not lacking.chain_matches or not lacking.consented:
            return lacking
        now = time.time()
        values = {"state": "COMPLETE", "finished_at": now, "last_seen": now, "last_seq": last_seq}
        connection.execute(update(sessions).where(sessions.c.session == session).values(**values))
        verdicts = _store_checks(connection, study, _locked(connection, session))
        if failed(verdicts) and decision_on(connection, session, ANALYSIS) is None:
            connection.execute(update(sessions).where(sessions.c.session == session).values(excluded=True))
        return Finished(code=_release(connection, session, "complete", draw(), now=now))

    finished: Finished = database.write(job)
    return finished


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


def withdraw(database: Database, session: str, *, reason: str) -> None:
    """Delete everything a person said and leave a tombstone; the claim stays, so that they cannot enter twice."""

    def job(connection: Connection) -> None:
        row = _locked(connection, session)
        if row.state == "WITHDRAWN":
            return
        count = select(func.count()).select_from(events).where(events.c.session == session)
        deleted = connection.execute(count).scalar_one()
        for table in (events, alarms, schedules, check_values):
            connection.execute(delete(table).where(table.c.session == session))
        values = {"state": "WITHDRAWN", "high_water": 0, "chain": "", "last_seq": None, "last_seen": time.time()}
        connection.execute(update(sessions).where(sessions.c.session == session).values(**values))
        stone = {"session": session, "reason": reason, "events_deleted": deleted, "server_time": time.time()}
        insert_row(connection, tombstones, stone)

    database.write(job)
