"""Assignment: the least-filled condition, then its least-filled list, counted inside one transaction."""

from __future__ import annotations

import random
from collections.abc import Mapping

from sqlalchemy import Connection, and_, func, or_, select

from stimuli.records import CellRow

from .frozen import FrozenStudy
from .tables import sessions, studies

QUOTA_SOURCES = frozenset({"live"})
"""Sources whose people fill places; pilots, previews and bots are balanced among themselves without a limit."""


def counts(connection: Connection, study: FrozenStudy, source: str, *, now: float, stale_s: float) -> dict[str, int]:
    """Count, per cell, who is complete and valid or active and not stale, within one source.

    Withdrawn, excluded and stale people hold no place, nor does anyone of another source.
    """
    valid = and_(sessions.c.state == "COMPLETE", sessions.c.excluded.is_(False))
    active = and_(sessions.c.state.in_(("PRE", "ACTIVE")), sessions.c.last_seen > now - stale_s)
    query = (
        select(sessions.c.cell, func.count())
        .where(sessions.c.stimuli == study.key, sessions.c.source == source, or_(valid, active))
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

    Where several processes write (PostgreSQL), the row of the study is locked until the commit.
    """
    connection.execute(select(studies.c.stimuli).where(studies.c.stimuli == study.key).with_for_update())
    filled = counts(connection, study, source, now=now, stale_s=stale_s)
    return choose(study, filled, seed=seed, quotas=source in QUOTA_SOURCES)
