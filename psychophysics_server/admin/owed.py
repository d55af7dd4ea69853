"""The list of payments: everyone who is owed something, with code and decision, paged by the data base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select

from ..storage.tables import codes, decisions, payments, sessions
from ..web.server import Server

PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Due:
    """One code, the decision on it, and bonuses."""

    row: Row[Any]
    decision: str
    bonus: float
    listed: bool
    """In a list for the recruiter already."""
    failed: bool
    """Left out of the analysis, which says nothing about pay."""


@dataclass(frozen=True, kw_only=True)
class Owed:
    """One page of them."""

    lines: Sequence[Due]
    total: int
    open: int
    """Codes without an approval or rejection, on all pages."""

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // PAGE))


def owed(running: Server, *, source: str, page: int) -> Owed:
    """Read one page of codes, the newest first, with what was decided."""
    mine = sessions.c.stimuli == running.study.key, sessions.c.source == source
    joined = select(codes, sessions.c.cell, sessions.c.state, sessions.c.excluded)
    joined = joined.join(sessions, sessions.c.session == codes.c.session).where(*mine)
    settled = select(decisions.c.session).where(decisions.c.kind.in_(("approve", "reject")))
    with running.database.read() as connection:
        total = connection.execute(select(func.count()).select_from(joined.subquery())).scalar_one()
        waiting = joined.where(codes.c.session.not_in(settled)).subquery()
        open_ = connection.execute(select(func.count()).select_from(waiting)).scalar_one()
        query = joined.order_by(codes.c.released_at.desc(), codes.c.session).limit(PAGE).offset((page - 1) * PAGE)
        rows = connection.execute(query).all()
        names = [row.session for row in rows]
        verdicts: dict[str, str] = {}
        bonuses: dict[str, float] = {}
        made = select(decisions).where(decisions.c.session.in_(names)).order_by(decisions.c.id)
        for row in connection.execute(made):
            if row.kind == "bonus":
                # A bonus of 0 takes back what stands before it.
                bonuses[row.session] = bonuses.get(row.session, 0.0) + float(row.amount) if row.amount else 0.0
            elif row.kind in {"approve", "reject"}:
                verdicts[row.session] = row.kind
        told = select(payments.c.session).where(payments.c.session.in_(names)).distinct()
        listed = set(connection.execute(told).scalars())
    lines = [
        Due(
            row=row,
            decision=verdicts.get(row.session, ""),
            bonus=bonuses.get(row.session, 0.0),
            listed=row.session in listed,
            failed=bool(row.excluded),
        )
        for row in rows
    ]
    return Owed(lines=lines, total=int(total), open=int(open_))
