"""The numbers of the overview: pace, drop-out by screen, durations and pay, what went wrong lately."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, func, select

from ..monitoring.standing import CellCount, standing
from ..records import SIMULATED
from ..storage.tables import codes, events, sessions, studies
from ..study.frozen import FrozenStudy
from ..web.server import Failure, Server

PACE_S = 60.0
SHARED_S = 3.0
DAY_S = 86_400.0
BEFORE = ("Opened", "Consented", "Instructions")
AFTER = ("Finished",)


@dataclass(frozen=True)
class Screen:
    """One screen of the study: how many got there, and how many got no further and are gone."""

    name: str
    reached: int
    left: int


@dataclass(frozen=True, kw_only=True)
class Pay:
    """How long people take, and what that makes per hour."""

    finished: int
    median_minutes: float | None
    announced_minutes: float
    hourly: float | None
    """Realised pay per hour, from the announced amount and the median time."""
    announced_hourly: float | None
    currency: str
    minimum: float | None

    @property
    def too_low(self) -> bool:
        """Whether the realised pay per hour is below the minimum that the study names."""
        return self.hourly is not None and self.minimum is not None and self.hourly < self.minimum


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything the overview shows, for one source."""

    source: str
    sources: Sequence[str]
    cells: Sequence[CellCount]
    paused_at: float | None
    saves_per_s: float
    last_seen: float | None
    queue: int
    free_mb: float
    admits: bool
    screens: Sequence[Screen]
    pay: Pay
    faults: Sequence[Any]
    alarms: int
    manual: int
    unreviewed: Sequence[Any]
    errors: Sequence[Failure]
    now: float


class Shared:
    """The newest overview of each source: however many browsers look, it is counted once in `SHARED_S`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Overview] = {}

    def overview(self, running: Server, source: str) -> Overview:
        """Return an overview that is at most `SHARED_S` old."""
        with self._lock:
            held = self._held.get(source)
            if held is None or time.time() - held.now > SHARED_S:
                held = self._held[source] = overview(running, source)
            return held


def overview(running: Server, source: str) -> Overview:
    """Count everything once; a handful of grouped queries, however many people there are."""
    study, now = running.study, time.time()
    stale_s = running.config.stale_s
    stands = standing(running.database, study, now=now, stale_s=stale_s)
    with running.database.read() as connection:
        paused = connection.execute(select(studies.c.paused_at).where(studies.c.stimuli == study.key)).scalar()
        seen = select(func.max(sessions.c.last_seen)).where(*_mine(study, source))
        return Overview(
            source=source,
            sources=sorted({cell.source for cell in stands.cells}),
            cells=[cell for cell in stands.cells if cell.source == source],
            paused_at=paused,
            saves_per_s=_pace(connection, now),
            last_seen=connection.execute(seen).scalar(),
            queue=running.database.writer.waiting,
            free_mb=running.free_mb(),
            admits=running.admits,
            screens=screens(connection, study, source, now=now, stale_s=stale_s),
            pay=pay(connection, study, source),
            faults=_faults(connection, study, now),
            alarms=stands.alarms,
            manual=stands.manual_codes,
            unreviewed=_manual(connection, study),
            errors=[failure for failure in reversed(running.failures) if failure.time > now - DAY_S][:5],
            now=now,
        )


def _mine(study: FrozenStudy, source: str) -> tuple[Any, ...]:
    return sessions.c.stimuli == study.key, sessions.c.source == source


def _pace(connection: Connection, now: float) -> float:
    """Count the events of the last minute; only sessions heard of since are looked at."""
    recent = select(sessions.c.session).where(sessions.c.last_seen > now - PACE_S)
    query = select(func.count()).select_from(events)
    query = query.where(events.c.session.in_(recent), events.c.server_time > now - PACE_S)
    return float(connection.execute(query).scalar_one()) / PACE_S


def _faults(connection: Connection, study: FrozenStudy, now: float) -> Sequence[Any]:
    """Read the newest events of the last day that were kept but cannot count."""
    query = select(events.c.session, events.c.seq, events.c.kind, events.c.fault, events.c.server_time)
    query = query.join(sessions, sessions.c.session == events.c.session)
    query = query.where(sessions.c.stimuli == study.key, sessions.c.last_seen > now - DAY_S, events.c.fault != "")
    return connection.execute(query.order_by(events.c.server_time.desc()).limit(5)).all()


def _manual(connection: Connection, study: FrozenStudy) -> Sequence[Any]:
    """Read the newest codes that wait for a person."""
    query = select(codes.c.session, codes.c.reason, codes.c.released_at)
    query = query.join(sessions, sessions.c.session == codes.c.session)
    query = query.where(sessions.c.stimuli == study.key, codes.c.kind == "manual")
    return connection.execute(query.order_by(codes.c.released_at.desc()).limit(5)).all()


def screen_names(study: FrozenStudy) -> list[str]:
    """Name the screens in the order a person meets them: pages, then the blocks of any cell, then the end."""
    blocks: dict[str, int] = {}
    for trials in study.trials.values():
        for trial in trials:
            blocks[trial.block] = min(blocks.get(trial.block, trial.position), trial.position)
    return [*BEFORE, *sorted(blocks, key=lambda name: (blocks[name], name)), *AFTER]


def screens(connection: Connection, study: FrozenStudy, source: str, *, now: float, stale_s: float) -> list[Screen]:
    """Count how far people came; those who withdrew count up to their consent, since nothing else of them is kept."""
    names = screen_names(study)
    place = {name: index for index, name in enumerate(names)}
    came, left = Counter[int](), Counter[int]()
    finished = select(func.count()).select_from(sessions).where(*_mine(study, source), sessions.c.state == "COMPLETE")
    came[len(names) - 1] = int(connection.execute(finished).scalar_one())
    for row in _unfinished(connection, study, source, now - stale_s):
        index = _furthest(study, row, place)
        came[index] += row.people
        left[index] += row.people if row.gone else 0
    reached = [sum(count for index, count in came.items() if index >= here) for here in range(len(names))]
    return [Screen(name, reached[index], left[index]) for index, name in enumerate(names)]


def _unfinished(connection: Connection, study: FrozenStudy, source: str, heard: float) -> Sequence[Any]:
    """Group those without a code by cell, by the last trial they answered, and by whether they are gone."""
    mine = select(sessions.c.session).where(*_mine(study, source), sessions.c.state != "COMPLETE")
    last = (
        select(events.c.session, func.max(events.c.seq).label("seq"))
        .where(events.c.session.in_(mine), events.c.trial_id != "", events.c.fault == "")
        .group_by(events.c.session)
        .subquery()
    )
    read = (
        select(events.c.session)
        .where(events.c.session.in_(mine), events.c.kind == "instructions", events.c.fault == "")
        .distinct()
        .subquery()
    )
    at = events.alias("at")
    gone = (sessions.c.last_seen <= heard) | sessions.c.state.not_in(("PRE", "ACTIVE"))
    columns = (
        sessions.c.cell,
        at.c.trial_id,
        (sessions.c.consented_at.is_not(None)).label("consented"),
        (read.c.session.is_not(None)).label("instructed"),
        gone.label("gone"),
    )
    each = (
        select(*columns)
        .select_from(sessions)
        .outerjoin(last, last.c.session == sessions.c.session)
        .outerjoin(at, (at.c.session == last.c.session) & (at.c.seq == last.c.seq))
        .outerjoin(read, read.c.session == sessions.c.session)
        .where(*_mine(study, source), sessions.c.state != "COMPLETE")
        .subquery()
    )
    return connection.execute(select(*each.c, func.count().label("people")).group_by(*each.c)).all()


def _furthest(study: FrozenStudy, row: Row[Any], place: dict[str, int]) -> int:
    trial = study.trial_index.get(row.cell, {}).get(row.trial_id)
    if trial is not None:
        return place[trial.block]
    return 2 if row.instructed else 1 if row.consented else 0


def pay(connection: Connection, study: FrozenStudy, source: str) -> Pay:
    """Compare the time people take, and what it makes per hour, with what was announced."""
    terms = study.file.recruitment
    query = select(sessions.c.finished_at - sessions.c.opened_at).where(
        *_mine(study, source), sessions.c.state == "COMPLETE", sessions.c.finished_at.is_not(None)
    )
    seconds = [float(value) for value in connection.execute(query).scalars()]
    middle = median(seconds) / 60 if seconds else None
    told = None if terms.amount is None else 60 * terms.amount / terms.minutes
    # What bots are timed by says nothing of a person's hour.
    timed = middle is not None and middle > 0 and source not in SIMULATED
    return Pay(
        finished=len(seconds),
        median_minutes=middle,
        announced_minutes=terms.minutes,
        hourly=60 * terms.amount / middle if timed and middle and terms.amount is not None else None,
        announced_hourly=told,
        currency=terms.currency,
        minimum=terms.min_hourly,
    )
