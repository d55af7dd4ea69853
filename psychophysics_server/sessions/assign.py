"""Assignment: the least-filled condition, then its least-filled list, counted inside one transaction."""

from __future__ import annotations

import random
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from stimuli.records import CellRow

from ..recruitment.recruiter import RECRUITED, REOPENED
from ..storage.tables import participants, sessions, studies
from ..study.frozen import FrozenStudy
from .pause import SERVER, pause, paused_by, resume

QUOTA_SOURCES = frozenset({"live"})
"""Sources whose people fill places; pilots, previews and bots are balanced among themselves without a limit."""


def valid() -> ColumnElement[bool]:
    """Say in SQL who is complete and counts: passed the checks and was neither sent back nor refused at the recruiter."""
    kept = sessions.c.remote.not_in(sorted(REOPENED))
    return and_(sessions.c.state == "COMPLETE", sessions.c.excluded.is_(False), kept)


def active(*, now: float, stale_s: float) -> ColumnElement[bool]:
    """Say in SQL who is at it and holds a place: heard of lately, not excluded, and not given up at the recruiter."""
    open_states = sessions.c.state.in_(("PRE", "ACTIVE"))
    kept = and_(sessions.c.excluded.is_(False), sessions.c.remote.not_in(sorted(REOPENED)))
    return and_(open_states, kept, sessions.c.last_seen > now - stale_s)


def counts(connection: Connection, study: FrozenStudy, source: str, *, now: float, stale_s: float) -> dict[str, int]:
    """Count, per cell, who is complete and valid or active and not stale, within one source.

    Withdrawn, excluded and stale people hold no place, nor does anyone of another source.
    """
    return _per_cell(connection, study, source, or_(valid(), active(now=now, stale_s=stale_s)))


def valid_counts(connection: Connection, study: FrozenStudy, source: str) -> dict[str, int]:
    """Count, per cell, who is complete and valid, within one source: what 'top up until N' counts."""
    return _per_cell(connection, study, source, valid())


def _per_cell(connection: Connection, study: FrozenStudy, source: str, which: ColumnElement[bool]) -> dict[str, int]:
    query = (
        select(sessions.c.cell, func.count())
        .where(sessions.c.stimuli == study.key, sessions.c.source == source, which)
        .group_by(sessions.c.cell)
    )
    held = {str(cell): int(count) for cell, count in connection.execute(query)}
    return {row.cell: held.get(row.cell, 0) for row in study.cells}


def choose(study: FrozenStudy, filled: Mapping[str, int], *, seed: int, quotas: bool) -> CellRow | None:
    """Pick the cell that is next, or None if every place is taken.

    Parameters
    ----------
    filled
        Cell -> people who hold a place.
    seed
        Breaks ties.
    quotas
        Whether full cells are closed.
    """
    chance = random.Random(seed)
    open_cells = [row for row in study.cells if not quotas or filled[row.cell] < row.quota]
    if not open_cells:
        return None
    by_condition: dict[str, int] = {}
    for row in study.cells:
        by_condition[row.condition] = by_condition.get(row.condition, 0) + filled[row.cell]
    open_conditions = sorted({row.condition for row in open_cells})
    fewest = min(by_condition[name] for name in open_conditions)
    condition = chance.choice([name for name in open_conditions if by_condition[name] == fewest])
    lists = [row for row in open_cells if row.condition == condition]
    fewest = min(filled[row.cell] for row in lists)
    return chance.choice([row for row in lists if filled[row.cell] == fewest])


def assign(
    connection: Connection, study: FrozenStudy, source: str, *, seed: int, now: float, stale_s: float
) -> CellRow | None:
    """Assign one newcomer; must run in a transaction that holds the write lock.

    Where several processes write (PostgreSQL), the row of the study is locked until the commit. When the last place went
    to someone who finished and counts, the study pauses itself; when a place opens again, it goes on.
    """
    connection.execute(select(studies.c.stimuli).where(studies.c.stimuli == study.key).with_for_update())
    filled = counts(connection, study, source, now=now, stale_s=stale_s)
    chosen = choose(study, filled, seed=seed, quotas=source in QUOTA_SOURCES)
    if source in QUOTA_SOURCES:
        at_limit(connection, study)
    return chosen


def at_limit(connection: Connection, study: FrozenStudy) -> bool:
    """Pause a study whose every place is filled by someone who counts, and let it go on when that changes.

    A pause by a person is never lifted here. Returns whether the study is at its limit.
    """
    done = valid_counts(connection, study, "live")
    reached = all(done[row.cell] >= row.quota for row in study.cells)
    by = paused_by(connection, study)
    if reached and by is None:
        pause(connection, study, account=SERVER, detail=f"{sum(done.values())} people in all cells")
    elif not reached and by == SERVER:
        resume(connection, study, account=SERVER, detail="a place is open again")
    return reached


def turned_away(connection: Connection, study: FrozenStudy, source: str, recruiter: str, recruiter_id: str) -> str:
    """Say why a newcomer may not enter, '' if they may: `paused`, or `took_part` in a study they may not follow.

    Bots and previews pass; they are nobody.
    """
    if source not in RECRUITED:
        return ""
    if paused_by(connection, study) not in {None, SERVER}:
        return "paused"
    barred = study.file.recruitment.exclude
    if not barred:
        return ""
    query = (
        select(func.count())
        .select_from(participants)
        .join(sessions, sessions.c.session == participants.c.session)
        .join(studies, studies.c.stimuli == participants.c.stimuli)
        .where(
            studies.c.study.in_(barred),
            participants.c.stimuli != study.key,
            participants.c.recruiter == recruiter,
            participants.c.recruiter_id == recruiter_id,
            participants.c.source.in_(RECRUITED),
            sessions.c.consented_at.is_not(None),
        )
    )
    return "took_part" if connection.execute(query).scalar_one() else ""
