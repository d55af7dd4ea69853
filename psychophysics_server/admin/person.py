"""One person: the session, its events, its checks, codes and decisions, and the schedule with the answers on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from stimuli.trials import pictures_of

from ..people.checks import Verdict, certain
from ..people.conduct import observed
from ..people.rows import held_events
from ..sessions.lifecycle import OPEN
from ..sessions.session import schedule_of
from ..storage.database import one
from ..storage.tables import alarms, check_values, codes, decisions, events, participants, sessions, tombstones
from ..study.frozen import FrozenStudy, Trial
from ..web.server import Server
from .roster import Someone, someones

EVENTS_PAGE = 50


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One trial as it was shown, and what was answered."""

    number: int
    trial: Trial
    answers: Sequence[tuple[Row[Any], Mapping[str, Any]]]
    """Events that count (several where practice was repeated), each with its body."""
    pictures: Sequence[tuple[str, str]]
    """(role, hash) in displayed order; the examples within reach come last."""

    def place(self, option: str) -> str:
        """Say where an option stood, '' if it was none of the options."""
        options = self.trial.options
        return f" ({options.index(option) + 1} of {len(options)} shown)" if option in options else ""

    @property
    def last(self) -> Mapping[str, Any] | None:
        """The body of the newest answer."""
        return self.answers[-1][1] if self.answers else None

    @property
    def right(self) -> bool | None:
        """Whether the newest answer is the expected one; None where nothing is asked or answered."""
        if not self.trial.asks or self.last is None:
            return None
        return bool(self.last.get("response") in self.trial.accepted)


@dataclass(frozen=True, kw_only=True)
class Person:
    """All that is held of one session but the recruiter's id."""

    someone: Someone
    study: FrozenStudy
    seed: int | None
    checks: Sequence[Row[Any]]
    certain: Sequence[Verdict]
    """While the session goes on: what it has failed already, whatever is still answered."""
    codes: Sequence[Row[Any]]
    decisions: Sequence[Row[Any]]
    alarms: Sequence[Row[Any]]
    tombstone: Row[Any] | None
    events: int

    @property
    def row(self) -> Row[Any]:
        """The session."""
        return self.someone.row


def find(running: Server, session: str, *, now: float) -> Person | None:
    """Read one person; None if there is no such session."""
    with running.database.read() as connection:
        row = one(connection, sessions, session=session)
        if row is None:
            return None
        study = running.library.by_key(row.stimuli)
        [someone] = someones(connection, study, [row], heard=now - running.config.stale_s)
        drawn = one_schedule_seed(connection, session)
        count = select(func.count()).select_from(events).where(events.c.session == session)
        return Person(
            someone=someone,
            study=study,
            seed=drawn,
            checks=_of(connection, check_values, session, check_values.c.name),
            certain=_certain(connection, study, row),
            codes=_of(connection, codes, session, codes.c.released_at),
            decisions=_of(connection, decisions, session, decisions.c.id),
            alarms=_of(connection, alarms, session, alarms.c.id),
            tombstone=one(connection, tombstones, session=session),
            events=int(connection.execute(count).scalar_one()),
        )


def _certain(connection: Connection, study: FrozenStudy, row: Row[Any]) -> list[Verdict]:
    if row.state not in OPEN:
        return []
    trials, rows = schedule_of(connection, study, row.session), held_events(connection, row.session)
    return certain(study.file.checks, observed(row, study, trials, rows))


def one_schedule_seed(connection: Connection, session: str) -> int | None:
    """Read the seed a session was assigned with; None after a withdrawal."""
    from ..storage.tables import schedules

    seed = connection.execute(select(schedules.c.seed).where(schedules.c.session == session)).scalar()
    return None if seed is None else int(seed)


def _of(connection: Connection, table: Any, session: str, order: Any) -> Sequence[Row[Any]]:
    return connection.execute(select(table).where(table.c.session == session).order_by(order)).all()


def story(running: Server, session: str, *, page: int) -> Sequence[Row[Any]]:
    """Read one page of a session's events in the order of seq."""
    query = select(events).where(events.c.session == session).order_by(events.c.seq)
    with running.database.read() as connection:
        return connection.execute(query.limit(EVENTS_PAGE).offset((page - 1) * EVENTS_PAGE)).all()


def replay(running: Server, person: Person) -> list[Shown]:
    """Lay the stored schedule out, with the answers that count."""
    with running.database.read() as connection:
        trials = schedule_of(connection, person.study, person.row.session)
        query = select(events).where(
            events.c.session == person.row.session, events.c.trial_id != "", events.c.fault == ""
        )
        held: dict[str, list[tuple[Row[Any], Mapping[str, Any]]]] = {}
        for row in connection.execute(query.order_by(events.c.seq)):
            held.setdefault(row.trial_id, []).append((row, json.loads(row.body)))
    return [
        Shown(number=number, trial=trial, answers=held.get(trial.trial_id, []), pictures=list(_pictures(trial)))
        for number, trial in enumerate(trials, 1)
    ]


def _pictures(trial: Trial) -> list[tuple[str, str]]:
    """Name the pictures of a payload by the key they stand under, the reservoir last."""
    last = ("reservoir",)
    keys = [*(key for key in trial.payload if key not in last), *(key for key in last if key in trial.payload)]
    return [(key, name) for key in keys for name in pictures_of(trial.payload[key])]


def recruiter_id(connection: Connection, session: str) -> Row[Any] | None:
    """Read who a recruiter says this is; the caller must hold the right to know and leave an audit row."""
    return one(connection, participants, session=session)
