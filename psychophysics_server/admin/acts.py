"""What a researcher does to the study or to a person, each with its line in the audit log, in one transaction."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Row, select, update

from bench.registry import LimenError

from ..app import Server
from ..db import insert_once, insert_row, one
from ..pause import pause, resume
from ..tables import alarms, decisions, sessions, studies
from .accounts import Who
from .audit import note
from .person import recruiter_id

ANALYSIS = ("exclude", "include")
PAYMENT = ("approve", "reject", "bonus")


def set_pause(running: Server, who: Who, *, paused: bool, reason: str) -> None:
    """Stop or go on admitting newcomers; those who are at it finish in any case."""
    study = running.study
    row = {
        "stimuli": study.key,
        "study": study.file.study,
        "version": study.file.version,
        "first_served": time.time(),
    }

    def job(connection: Connection) -> None:
        insert_once(connection, studies, row)
        (pause if paused else resume)(connection, study, account=who.name, detail=reason)

    running.database.write(job)


def reveal(running: Server, who: Who, session: str) -> Row[object] | None:
    """Read a recruiter's id for an owner who asked for it, and say so in the audit log."""

    def job(connection: Connection) -> Row[object] | None:
        row = recruiter_id(connection, session)
        if row is not None:
            note(connection, who.name, "saw recruiter id", session)
        return row

    found: Row[object] | None = running.database.write(job)
    return found


def alarm_bodies(running: Server, who: Who, number: int) -> tuple[Row[object], Row[object] | None] | None:
    """Read the refused body of an alarm and the one that is held, and say so in the audit log."""
    from ..tables import events

    def job(connection: Connection) -> tuple[Row[object], Row[object] | None] | None:
        alarm = one(connection, alarms, id=number)
        if alarm is None:
            return None
        note(connection, who.name, "saw alarm", alarm.session, f"event {alarm.seq}")
        return alarm, one(connection, events, session=alarm.session, seq=alarm.seq)

    found: tuple[Row[object], Row[object] | None] | None = running.database.write(job)
    return found


def decide(running: Server, who: Who, session: str, kind: str, *, reason: str, amount: float | None = None) -> None:
    """Decide on a person: out of or into the analysis, or about money; never the one by the other.

    Raises
    ------
    LimenError
        If there is no such person, no reason, or a bonus without an amount.
    """
    if not reason.strip():
        raise LimenError(f"decision '{kind}': the reason is missing; it is what people read later.")
    if kind == "bonus" and (amount is None or not 0 < amount <= 1000):
        raise LimenError("decision 'bonus': an amount between 0 and 1,000 is needed.")

    def job(connection: Connection) -> bool:
        held = connection.execute(select(sessions.c.session).filter_by(session=session).with_for_update())
        if held.one_or_none() is None:
            return False
        row = {
            "session": session,
            "kind": kind,
            "amount": amount if kind == "bonus" else None,
            "reason": reason.strip(),
            "author": who.name,
            "server_time": time.time(),
        }
        insert_row(connection, decisions, row)
        if kind in ANALYSIS:
            mine = update(sessions).where(sessions.c.session == session)
            connection.execute(mine.values(excluded=kind == "exclude"))
        note(connection, who.name, kind, session, reason.strip() + (f" ({amount:g})" if kind == "bonus" else ""))
        return True

    if not running.database.write(job):
        raise LimenError("decision: there is no such person.")
