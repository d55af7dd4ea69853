"""What rows of different tables say about each other: rows that belong to nobody, and links that contradict."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from ..people.decisions import bonus_item
from ..sessions.lifecycle import ENDING
from ..storage.tables import (
    alarms,
    check_values,
    codes,
    decisions,
    deletions,
    events,
    participants,
    payments,
    schedules,
    sessions,
    studies,
    tokens,
    tombstones,
)

OF_A_SESSION = (
    events,
    schedules,
    participants,
    tokens,
    codes,
    check_values,
    alarms,
    tombstones,
    deletions,
    decisions,
    payments,
)
"""Tables whose every row belongs to a session."""
SAID = (events, schedules, check_values, alarms)
"""Tables that hold nothing of a person who withdrew."""


def link_faults(connection: Connection) -> Iterator[str]:
    """Yield one sentence for each way in which tables contradict each other."""
    yield from _orphans(connection)
    yield from _withdrawn(connection)
    yield from _claims(connection)
    yield from _codes(connection)
    yield from _payments(connection)


def _orphans(connection: Connection) -> Iterator[str]:
    known = select(sessions.c.session)
    for table in OF_A_SESSION:
        lost = select(table.c.session).where(table.c.session.not_in(known)).distinct().order_by(table.c.session)
        for name in connection.execute(lost).scalars():
            yield f"session {name}: has {table.name} but is not there."
    unknown = select(sessions.c.session).where(sessions.c.stimuli.not_in(select(studies.c.stimuli)))
    for name in connection.execute(unknown).scalars():
        yield f"session {name}: belongs to no study."


def _withdrawn(connection: Connection) -> Iterator[str]:
    gone = select(sessions.c.session).where(sessions.c.state == "WITHDRAWN")
    for table in SAID:
        left = select(table.c.session, func.count()).where(table.c.session.in_(gone)).group_by(table.c.session)
        for name, number in connection.execute(left):
            yield f"session {name}: was withdrawn, but {number} {table.name} are still held."
    stones = select(tombstones.c.session)
    for name in connection.execute(gone.where(sessions.c.session.not_in(stones))).scalars():
        yield f"session {name}: was withdrawn without a tombstone."
    for name in connection.execute(stones.where(tombstones.c.session.not_in(gone))).scalars():
        yield f"session {name}: has a tombstone, but was not withdrawn."


def _claims(connection: Connection) -> Iterator[str]:
    """Everyone has one claim, by which they are recognised, until a study's link to its people was cut."""
    query = (
        select(sessions.c.session, sessions.c.stimuli, participants.c.session, participants.c.stimuli)
        .select_from(sessions)
        .join(studies, studies.c.stimuli == sessions.c.stimuli)
        .outerjoin(participants, participants.c.session == sessions.c.session)
    )
    cut = func.coalesce(studies.c.unlinked_at, 0.0)
    for name, mine, held, its in connection.execute(query.where(sessions.c.opened_at >= cut)):
        if held is None:
            yield f"session {name}: has no claim, so the person behind it would not be recognised."
        elif its != mine:
            yield f"session {name}: its claim is on another study version."
    for name, *_ in connection.execute(query.where(sessions.c.opened_at < cut, participants.c.session.is_not(None))):
        yield f"session {name}: entered before its study was unlinked, but its claim is still held."


def _codes(connection: Connection) -> Iterator[str]:
    """A code of an outcome stands on a session that had it; one for review may be given to anybody."""
    states = {kind: {state for state, its in ENDING.items() if its == kind} for kind in ENDING.values()}
    states |= {"complete": {"COMPLETE"}, "no_consent": set()}
    query = select(codes.c.session, codes.c.kind, sessions.c.state).join(
        sessions, sessions.c.session == codes.c.session
    )
    for name, kind, state in connection.execute(query.where(codes.c.kind != "manual")):
        if kind not in states:
            yield f"session {name}: has a code of an unknown kind, {kind}."
        elif state != "WITHDRAWN" and state not in states[kind]:
            yield f"session {name}: has a code for the outcome {kind}, but is {state}."


def _payments(connection: Connection) -> Iterator[str]:
    """What went into a list stands on a decision about the same person."""
    made = {(row.session, row.kind, row.id): row.amount for row in connection.execute(select(decisions))}
    bonuses = {
        (session, bonus_item(number)): amount for (session, kind, number), amount in made.items() if kind == "bonus"
    }
    for row in connection.execute(select(payments).order_by(payments.c.session, payments.c.item)):
        if row.item.startswith("bonus") and bonuses.get((row.session, row.item)) != row.amount:
            yield f"session {row.session}: the payment '{row.item}' is not what was decided."
