"""What a researcher does to the study or to a person, each with its line in the audit log, in one transaction."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Row

from ..sessions.pause import pause, resume
from ..storage.audit import note
from ..storage.database import insert_once, one
from ..storage.tables import alarms, events, studies
from ..web.server import Server
from .accounts import Who
from .person import recruiter_id


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

    def job(connection: Connection) -> tuple[Row[object], Row[object] | None] | None:
        alarm = one(connection, alarms, id=number)
        if alarm is None:
            return None
        note(connection, who.name, "saw alarm", alarm.session, f"event {alarm.seq}")
        return alarm, one(connection, events, session=alarm.session, seq=alarm.seq)

    found: tuple[Row[object], Row[object] | None] | None = running.database.write(job)
    return found
