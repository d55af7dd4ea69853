"""The list of people: filtered, sorted and paged by the data base, three queries a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from ..people.checks import FLAG
from ..records import SOURCES
from ..storage.tables import check_values, codes, decisions, events, sessions
from ..study.frozen import FrozenStudy
from ..web.server import Server

PAGE = 50
SORTS: dict[str, ColumnElement[Any]] = {
    "opened": sessions.c.opened_at,
    "seen": sessions.c.last_seen,
    "cell": sessions.c.cell,
    "state": sessions.c.state,
    "events": sessions.c.high_water,
    "id": sessions.c.session,
}
"""What the list can be sorted by."""
STATES = ("PRE", "ACTIVE", "COMPLETE", "SCREENED_OUT", "WITHDRAWN", "EXPIRED", "FAILED")
WAYS = {"excluded": "left out", "stale": "silent", "review": "code for review"}
"""Filters that are no state of their own -> how they are called."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which people are asked for, as the address says it; whatever is not known falls back."""

    source: str = ""
    state: str = ""
    cell: str = ""
    sort: str = "opened"
    down: bool = True
    page: int = 1
    look: str = ""
    """The beginning of a pseudonymous id."""

    @classmethod
    def of(cls, query: Mapping[str, str], study: FrozenStudy) -> Wish:
        """Read the query of an address."""
        state, cell, page = query.get("state", ""), query.get("cell", ""), query.get("page", "1")
        sort = query.get("sort", "opened")
        return cls(
            source=query.get("source", "") if query.get("source") in SOURCES else "",
            state=state if state in {*STATES, *WAYS} else "",
            cell=cell if cell in study.trials else "",
            sort=sort if sort in SORTS else "opened",
            down=query.get("down", "1") != "0",
            page=min(max(int(page), 1), 100_000) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
            look="".join(sign for sign in query.get("look", "").lower() if sign.isalnum())[:40],
        )

    def query(self, **changes: Any) -> dict[str, Any]:
        """Return the address's query with some parts changed; parts that say nothing are left out."""
        parts = {
            "source": self.source,
            "state": self.state,
            "cell": self.cell,
            "sort": self.sort,
            "down": int(self.down),
            "page": self.page,
            "look": self.look,
        } | changes
        usual = {"source": "", "state": "", "cell": "", "sort": "opened", "down": 1, "page": 1, "look": ""}
        return {name: value for name, value in parts.items() if value != usual[name]}


@dataclass(frozen=True, kw_only=True)
class Someone:
    """One line of the list."""

    row: Row[Any]
    held: int
    planned: int
    stale: bool
    failed: Sequence[str]
    flags: Sequence[str]
    kinds: Sequence[str]
    """Kinds of codes released."""
    decided: Mapping[str, str] = field(default_factory=dict)
    """'analysis' and 'payment' -> the newest decision."""

    @property
    def share(self) -> float:
        """Part of the planned trials that is answered."""
        return min(1.0, self.held / self.planned) if self.planned else 0.0


@dataclass(frozen=True, kw_only=True)
class Roster:
    """One page of people."""

    wish: Wish
    people: Sequence[Someone]
    total: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // PAGE))


def roster(running: Server, wish: Wish, *, now: float) -> Roster:
    """Read one page of people."""
    study, heard = running.study, now - running.config.stale_s
    where = _where(study, wish, heard)
    order = SORTS[wish.sort].desc() if wish.down else SORTS[wish.sort].asc()
    with running.database.read() as connection:
        total = int(connection.execute(select(func.count()).select_from(sessions).where(where)).scalar_one())
        query = select(sessions).where(where).order_by(order, sessions.c.session)
        rows = connection.execute(query.limit(PAGE).offset((wish.page - 1) * PAGE)).all()
        people = someones(connection, study, rows, heard=heard)
    return Roster(wish=wish, people=people, total=total)


def _where(study: FrozenStudy, wish: Wish, heard: float) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = [sessions.c.stimuli == study.key]
    if wish.source:
        parts.append(sessions.c.source == wish.source)
    if wish.cell:
        parts.append(sessions.c.cell == wish.cell)
    if wish.look:
        parts.append(sessions.c.session.startswith(wish.look, autoescape=True))
    silent = and_(sessions.c.state.in_(("PRE", "ACTIVE")), sessions.c.last_seen <= heard)
    if wish.state == "excluded":
        parts.append(sessions.c.excluded.is_(True))
    elif wish.state == "stale":
        parts.append(silent)
    elif wish.state == "review":
        parts.append(sessions.c.session.in_(select(codes.c.session).where(codes.c.kind == "manual")))
    elif wish.state:
        parts.append(sessions.c.state == wish.state)
    return and_(*parts)


def someones(connection: Connection, study: FrozenStudy, rows: Sequence[Row[Any]], *, heard: float) -> list[Someone]:
    """Add to each session what other tables know of it, one query a table."""
    names = [row.session for row in rows]
    answered = select(events.c.session, func.count(events.c.trial_id.distinct()))
    answered = answered.where(events.c.session.in_(names), events.c.trial_id != "", events.c.fault == "")
    held = {str(name): int(count) for name, count in connection.execute(answered.group_by(events.c.session))}
    failed, flags = _checks(connection, names)
    kinds = _grouped(connection, select(codes.c.session, codes.c.kind).where(codes.c.session.in_(names)))
    decided = _decided(connection, names)
    return [
        Someone(
            row=row,
            held=held.get(row.session, 0),
            planned=len(study.trials.get(row.cell, ())),
            stale=row.state in {"PRE", "ACTIVE"} and row.last_seen <= heard,
            failed=failed.get(row.session, []),
            flags=flags.get(row.session, []),
            kinds=kinds.get(row.session, []),
            decided=decided.get(row.session, {}),
        )
        for row in rows
    ]


def _grouped(connection: Connection, query: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in connection.execute(query):
        found.setdefault(str(name), []).append(str(value))
    return found


def _checks(connection: Connection, names: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Read the names of failed checks: those that exclude, and those that only mark (named `flag:...`)."""
    query = select(check_values.c.session, check_values.c.name)
    query = query.where(check_values.c.session.in_(names), check_values.c.passed.is_(False))
    failed = _grouped(connection, query.order_by(check_values.c.name))
    flags = {
        name: [check.removeprefix(FLAG) for check in checks if check.startswith(FLAG)]
        for name, checks in failed.items()
    }
    return {name: [check for check in checks if not check.startswith(FLAG)] for name, checks in failed.items()}, flags


def _decided(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read the newest decision of each sort, by person."""
    query = select(decisions.c.session, decisions.c.kind).where(decisions.c.session.in_(names))
    found: dict[str, dict[str, str]] = {}
    for name, kind in connection.execute(query.order_by(decisions.c.id)):
        sort = "analysis" if kind in {"exclude", "include"} else "payment"
        if kind != "bonus" or sort not in found.get(name, {}):
            found.setdefault(str(name), {})[sort] = str(kind)
    return found
