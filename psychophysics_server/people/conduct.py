"""From the events of a session to what the checks look at, the stored verdicts, and the same under other thresholds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, select

from stimuli.records import Checks

from ..records import SIMULATED
from ..sessions.quiz import quiz_state, tries_in
from ..sessions.session import schedule_of
from ..storage.database import insert_row
from ..storage.tables import check_values, events, sessions
from ..study.frozen import FrozenStudy, Trial
from ..wire.requests import BadBody, number, parse_body, parse_trial
from .checks import Course, Observed, Timed, Verdict, failed, flagged, judge, observe


def timed_answers(rows: Sequence[Row[Any]]) -> list[Timed]:
    """Turn the events that count into answers with all that the checks look at."""
    answers = []
    for row in rows:
        if not row.trial_id or row.fault:
            continue
        body = parse_trial(row.body)
        answers.append(
            Timed(
                seq=row.seq,
                trial_id=row.trial_id,
                attempt=row.attempt,
                response=body.response,
                rt_ms=number(body.rt_ms),
                input=body.input,
                focus_lost=body.focus_lost,
                text=body.text,
            )
        )
    return answers


def total_seconds(session: Row[Any], rows: Sequence[Row[Any]]) -> float:
    """Return the time from opening to the last trial or later event, in seconds.

    The server's clock for people; the client's for bots and networks, whose time is simulated.
    """
    if not rows:
        return math.nan
    if session.source in SIMULATED:
        times = [row.client_time for row in rows]
        return (max(times) - min(times)) / 1000
    end = session.finished_at if session.finished_at is not None else max(row.server_time for row in rows)
    return float(end - session.opened_at)


def instruction_seconds(rows: Sequence[Row[Any]]) -> float:
    """Sum the time on the instructions over all readings, NaN if they were never read to the end."""
    viewed = []
    for row in rows:
        if row.kind != "instructions" or row.fault:
            continue
        given = _said(row).get("viewed_ms")
        if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given) and given >= 0:
            viewed.append(float(given))
    return sum(viewed) / 1000 if viewed else math.nan


def honeypots(rows: Sequence[Row[Any]]) -> int:
    """Count the consents that came with the field filled in that no person sees."""
    return sum(row.kind == "consent" and _said(row).get("honeypot") is True for row in rows)


def _said(row: Row[Any]) -> Mapping[str, Any]:
    try:
        return parse_body(row.kind, row.body)
    except BadBody:
        return {}


def longest_gap_seconds(rows: Sequence[Row[Any]], total: float) -> float:
    """Return the longest pause between two events in the order of seq, by the browser's clock.

    The server's clock would count a lost connection as a pause. A browser's clock may be set while the study runs, so
    a step back counts as nothing, and no pause is longer than the whole session.

    Parameters
    ----------
    total
        Length of the session in seconds.
    """
    times = [row.client_time for row in sorted(rows, key=lambda row: row.seq)]
    gaps = [(after - before) / 1000 for before, after in pairwise(times)]
    longest = max([0.0, *gaps])
    return longest if math.isnan(total) else min(longest, max(total, 0.0))


def observed(
    session: Row[Any],
    study: FrozenStudy,
    trials: Sequence[Trial],
    rows: Sequence[Row[Any]],
    *,
    too_fast_ms: float | None = None,
) -> Observed:
    """Measure what the checks look at, for one session.

    Parameters
    ----------
    rows
        Its events in the order of seq.
    too_fast_ms
        What counts as too fast; the study's own if left out.
    """
    total = total_seconds(session, rows)
    course = Course(
        total_seconds=total,
        instruction_seconds=instruction_seconds(rows),
        longest_gap_seconds=longest_gap_seconds(rows, total),
        quiz_attempts=quiz_state(study, tries_in(rows)).tries,
        honeypots=honeypots(rows),
    )
    limit = study.file.checks.too_fast_ms if too_fast_ms is None else too_fast_ms
    return observe(trials, timed_answers(rows), course, attempts=study.attempts, too_fast_ms=limit)


def store_verdicts(connection: Connection, session: str, verdicts: Sequence[Verdict]) -> None:
    """Keep what was observed, the threshold and the verdict of every rule; nothing of it is ever changed."""
    for verdict in verdicts:
        lacks = verdict.value is None or math.isnan(verdict.value)
        row = {
            "session": session,
            "name": verdict.key,
            "value": None if lacks else float(verdict.value or 0.0),
            "threshold": verdict.threshold,
            "passed": verdict.passed,
        }
        insert_row(connection, check_values, row)


@dataclass(frozen=True, kw_only=True)
class Rechecked:
    """One finished person under some thresholds."""

    session: str
    source: str
    cell: str
    condition: str
    observed: Observed
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> list[str]:
        """Rules that would exclude this person."""
        return failed(self.verdicts)

    @property
    def flagged(self) -> list[str]:
        """Rules that would mark this person."""
        return flagged(self.verdicts)


def recheck(
    connection: Connection,
    study: FrozenStudy,
    thresholds: Checks | None = None,
    *,
    sources: Collection[str] = ("live",),
) -> list[Rechecked]:
    """Judge everyone who finished again, under other thresholds; nothing is written.

    Parameters
    ----------
    thresholds
        Rules to judge by; the study's own if left out.
    sources
        Whose people.
    """
    checks = study.file.checks if thresholds is None else thresholds
    return list(_rechecked(connection, study, checks, sources))


def _rechecked(
    connection: Connection, study: FrozenStudy, checks: Checks, sources: Collection[str]
) -> Iterator[Rechecked]:
    mine = select(sessions).where(
        sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(sources)), sessions.c.state == "COMPLETE"
    )
    for row in connection.execute(mine.order_by(sessions.c.opened_at, sessions.c.session)).all():
        rows = connection.execute(select(events).filter_by(session=row.session).order_by(events.c.seq)).all()
        trials = schedule_of(connection, study, row.session)
        seen = observed(row, study, trials, rows, too_fast_ms=checks.too_fast_ms)
        yield Rechecked(
            session=row.session,
            source=row.source,
            cell=row.cell,
            condition=row.condition,
            observed=seen,
            verdicts=tuple(judge(checks, seen)),
        )
