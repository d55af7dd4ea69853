"""What recruiters tell of submissions: kept once, the newest by its own time counts, and it may open a place again."""

from __future__ import annotations

import time

from sqlalchemy import Connection, select, update

from bench.store import sha256_bytes

from ..storage.database import Database, insert_once
from ..storage.tables import participants, recruiter_events, sessions
from .recruiter import RECRUITED, Told


def newest_status(connection: Connection, recruiter: str, submission: str) -> str:
    """Return the status that a recruiter told last of a submission, '' if none."""
    query = select(recruiter_events.c.status).filter_by(recruiter=recruiter, submission=submission)
    order = recruiter_events.c.event_time.desc(), recruiter_events.c.server_time.desc(), recruiter_events.c.event_id
    return str(connection.execute(query.order_by(*order).limit(1)).scalar() or "")


def hear(connection: Connection, recruiter: str, told: Told, *, now: float) -> bool:
    """Keep what a recruiter told, once; returns whether it was new.

    Messages may come twice and in any order. Submissions of other studies in the same workspace are kept as well, since
    a message can come before the person does, and match no session.
    """
    row = {
        "recruiter": recruiter,
        "event_id": told.event_id,
        "recruiter_id": told.recruiter_id,
        "submission": told.submission,
        "status": told.status,
        "event_time": told.event_time,
        "server_time": now,
    }
    if not insert_once(connection, recruiter_events, row):
        return False
    settle(connection, recruiter, told.submission)
    return True


def settle(connection: Connection, recruiter: str, submission: str) -> None:
    """Write the newest status of a submission to the session of the person who came with it."""
    whose = select(participants.c.session).where(
        participants.c.recruiter == recruiter,
        participants.c.submission == submission,
        participants.c.source.in_(RECRUITED),
    )
    status = newest_status(connection, recruiter, submission)
    connection.execute(update(sessions).where(sessions.c.session.in_(whose)).values(remote=status))


def revisit(connection: Connection, session: str, recruiter: str, submission: str) -> None:
    """Remember by which submission a person came; someone who returned one and takes another holds a place again."""
    if not submission:
        return
    changed = update(participants).where(participants.c.session == session, participants.c.submission != submission)
    if connection.execute(changed.values(submission=submission)).rowcount:
        settle(connection, recruiter, submission)


def hear_poll(database: Database, recruiter: str, listed: list[Told]) -> int:
    """Keep the statuses of a listing that differ from what was known; returns how many did.

    A listing names no events, so an id is made of submission, status and time.
    """

    def job(connection: Connection) -> int:
        now, changed = time.time(), 0
        for told in listed:
            if newest_status(connection, recruiter, told.submission) == told.status:
                continue
            mark = sha256_bytes(f"{told.submission}/{told.status}/{told.event_time}".encode())[:40]
            event = Told(
                event_id=f"poll:{mark}",
                submission=told.submission,
                recruiter_id=told.recruiter_id,
                status=told.status,
                event_time=told.event_time,
            )
            changed += hear(connection, recruiter, event, now=now)
        return changed

    return int(database.write(job))
