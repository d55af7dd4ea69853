"""Where a study stands: people per cell and state, and what needs a person's eye."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from .assign import counts
from .db import Database
from .frozen import FrozenStudy
from .tables import alarms, codes, sessions


@dataclass(frozen=True)
class CellCount:
    """One cell, one source."""

    source: str
    cell: str
    quota: int
    held: int
    """Complete and valid, or active and not stale: what the balance counts."""
    opened: int
    consented: int
    complete: int
    excluded: int
    withdrawn: int


@dataclass(frozen=True)
class Standing:
    """A study's counts."""

    cells: list[CellCount]
    alarms: int
    manual_codes: int


def standing(database: Database, study: FrozenStudy, *, now: float, stale_s: float) -> Standing:
    """Count a study's people per source and cell."""
    cells: list[CellCount] = []
    with database.read() as connection:
        mine = select(sessions).where(sessions.c.stimuli == study.key)
        rows = connection.execute(mine).all()
        for source in sorted({row.source for row in rows}):
            held = counts(connection, study, source, now=now, stale_s=stale_s)
            for cell in study.cells:
                here = [row for row in rows if row.source == source and row.cell == cell.cell]
                cells.append(
                    CellCount(
                        source=source,
                        cell=cell.cell,
                        quota=cell.quota,
                        held=held[cell.cell],
                        opened=len(here),
                        consented=sum(row.consented_at is not None for row in here),
                        complete=sum(row.state == "COMPLETE" for row in here),
                        excluded=sum(bool(row.excluded) for row in here),
                        withdrawn=sum(row.state == "WITHDRAWN" for row in here),
                    )
                )
        names = select(sessions.c.session).where(sessions.c.stimuli == study.key)
        alarmed = select(func.count()).select_from(alarms).where(alarms.c.session.in_(names))
        manual = select(func.count()).select_from(codes).where(codes.c.session.in_(names), codes.c.kind == "manual")
        return Standing(cells, connection.execute(alarmed).scalar_one(), connection.execute(manual).scalar_one())
