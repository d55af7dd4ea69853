"""Where a study stands: people per source, cell and state, and what needs a person's eye; counted by the data base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, not_, select

from ..sessions.assign import counts
from ..storage.database import Database
from ..storage.tables import alarms, codes, sessions
from ..study.frozen import FrozenStudy


@dataclass(frozen=True)
class CellCount:
    """One cell, one source; `complete` to `ended` hold everyone once, but for `excluded`, who are complete too."""

    source: str
    cell: str
    quota: int
    held: int
    """Complete and valid, or active and not stale: what the balance counts."""
    opened: int
    consented: int
    complete: int
    excluded: int
    """Complete, and left out of the analysis."""
    active: int
    stale: int
    """Unfinished and silent for longer than `stale_s`."""
    withdrawn: int
    screened_out: int
    ended: int
    """Over without a code: expired or failed."""

    @property
    def valid(self) -> int:
        """Complete and in the analysis."""
        return self.complete - self.excluded


@dataclass(frozen=True)
class Standing:
    """A study's counts."""

    cells: list[CellCount]
    alarms: int
    manual_codes: int


def standing(database: Database, study: FrozenStudy, *, now: float, stale_s: float) -> Standing:
    """Count a study's people per source and cell."""
    with database.read() as connection:
        silent = sessions.c.last_seen <= now - stale_s
        unfinished = sessions.c.state.in_(("PRE", "ACTIVE"))
        columns = {
            "opened": func.count(),
            "consented": _sum(sessions.c.consented_at.is_not(None)),
            "complete": _sum(sessions.c.state == "COMPLETE"),
            "excluded": _sum(and_(sessions.c.state == "COMPLETE", sessions.c.excluded.is_(True))),
            "active": _sum(and_(unfinished, not_(silent))),
            "stale": _sum(and_(unfinished, silent)),
            "withdrawn": _sum(sessions.c.state == "WITHDRAWN"),
            "screened_out": _sum(sessions.c.state == "SCREENED_OUT"),
            "ended": _sum(sessions.c.state.in_(("EXPIRED", "FAILED"))),
        }
        query = select(sessions.c.source, sessions.c.cell, *(value.label(name) for name, value in columns.items()))
        query = query.where(sessions.c.stimuli == study.key).group_by(sessions.c.source, sessions.c.cell)
        found = {(row.source, row.cell): dict(row._mapping) for row in connection.execute(query)}
        cells = []
        for source in sorted({source for source, _ in found}):
            held = counts(connection, study, source, now=now, stale_s=stale_s)
            for cell in study.cells:
                row = found.get((source, cell.cell)) or dict[str, Any]()
                numbers = {name: int(row.get(name) or 0) for name in columns}
                cells.append(
                    CellCount(source=source, cell=cell.cell, quota=cell.quota, held=held[cell.cell], **numbers)
                )
        names = select(sessions.c.session).where(sessions.c.stimuli == study.key)
        alarmed = select(func.count()).select_from(alarms).where(alarms.c.session.in_(names))
        manual = select(func.count()).select_from(codes).where(codes.c.session.in_(names), codes.c.kind == "manual")
        return Standing(cells, connection.execute(alarmed).scalar_one(), connection.execute(manual).scalar_one())


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
