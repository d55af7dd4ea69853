"""People of a study as rows: every session with its trials, its checks and its verdict; read in batches."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from ..people.answered import Answered, answers, finite, token
from ..people.checks import FLAG
from ..people.conduct import observed, total_seconds
from ..people.rows import response_rows, resumes
from ..records import ResponseRow, SessionRow
from ..storage.tables import check_values, decisions, events, schedules, sessions
from ..study.frozen import FrozenStudy, Trial
from ..wire.requests import parse_body

UNFINISHED = "unfinished"
EXCLUDED = "researcher"
"""Reason of an exclusion that no check stands for: a person decided."""
BATCH = 100
"""People read at a time."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class PersonRows:
    """One person: a session row and response rows."""

    session: SessionRow
    responses: list[ResponseRow]
    answers: list[Answered] = field(repr=False, default_factory=list)
    """The answers the response rows were made of, in their order."""
    events: list[Row[Any]] = field(repr=False, default_factory=list)
    opened_at: float = 0.0
    """Server time of entry; it never leaves the server."""


@dataclass(frozen=True)
class _Batch:
    """What is held of a batch of sessions, by session."""

    events: Mapping[str, list[Row[Any]]]
    schedules: Mapping[str, list[Row[Any]]]
    checks: Mapping[str, list[Row[Any]]]
    decisions: Mapping[str, list[Row[Any]]]


def people(
    connection: Connection, study: FrozenStudy, *, sources: Collection[str], stale_s: float
) -> Iterator[PersonRows]:
    """Yield everyone of a study version, in the order of entry; a batch of them is in memory at a time."""
    query = select(sessions).where(sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(sources)))
    everyone = connection.execute(query.order_by(sessions.c.opened_at, sessions.c.session)).all()
    first = min((row.opened_at for row in everyone), default=0.0)
    for start in range(0, len(everyone), BATCH):
        batch = everyone[start : start + BATCH]
        held = _read(connection, [row.session for row in batch])
        for row in batch:
            yield _person(study, row, held, stale_s=stale_s, first=first)


def _read(connection: Connection, names: Sequence[str]) -> _Batch:
    def rows(table: Table, *order: Any) -> Mapping[str, list[Row[Any]]]:
        found: dict[str, list[Row[Any]]] = defaultdict(list)
        query = select(table).where(table.c.session.in_(names)).order_by(table.c.session, *order)
        for row in connection.execute(query):
            found[row.session].append(row)
        return found

    return _Batch(
        events=rows(events, events.c.seq),
        schedules=rows(schedules),
        checks=rows(check_values, check_values.c.name),
        decisions=rows(decisions, decisions.c.id),
    )


def _person(study: FrozenStudy, row: Row[Any], held: _Batch, *, stale_s: float, first: float) -> PersonRows:
    rows, schedule = held.events.get(row.session, []), held.schedules.get(row.session, [])
    trials = _trials(study, schedule)
    failed = [check.name for check in held.checks.get(row.session, []) if not check.passed]
    decided = [said.kind for said in held.decisions.get(row.session, []) if said.kind in {"include", "exclude"}]
    decision = decided[-1] if decided else ""
    reason = _reason(row, [name for name in failed if not name.startswith(FLAG)], decision)
    given = [] if row.state == "WITHDRAWN" else answers(row, study, rows)
    seen = observed(row, study, trials, rows)
    stale = row.state in {"PRE", "ACTIVE"} and row.last_seen < time.time() - stale_s
    session = SessionRow(
        participant_id=row.session,
        study=study.file.study,
        study_version=study.file.version,
        stimuli=study.key,
        source=row.source,
        cell=row.cell,
        condition=row.condition,
        list=row.list,
        state="EXPIRED" if stale else row.state,
        reason="" if row.state == "WITHDRAWN" else _word(row.reason),
        consent_version=row.consent_version,
        consented=row.consented_at is not None,
        finished=row.state == "COMPLETE",
        trials_held=len({answer.trial_id for answer in given}),
        trials_planned=len(trials),
        resumes=resumes(rows),
        day=int(row.opened_at // DAY_S) - int(first // DAY_S),
        schedule_seed=str(schedule[0].seed) if schedule else "",
        total_seconds=round(total_seconds(row, rows), 3),
        practice_attempts=seen.practice_attempts or 0,
        catch_accuracy=_or_nan(seen.catch_accuracy),
        test_accuracy=seen.test_accuracy,
        median_rt_ms=seen.median_rt_ms,
        same_side_share=_or_nan(seen.same_side_share),
        quiz_attempts=_or_nan(seen.quiz_attempts),
        instruction_seconds=seen.instruction_seconds,
        too_fast_share=_or_nan(seen.too_fast_share),
        choices_per_side=_or_nan(seen.choices_per_side),
        same_side_run=_or_nan(seen.same_side_run),
        longest_gap_seconds=round(seen.longest_gap_seconds, 3),
        focus_losses=seen.focus_losses,
        touch_answers=seen.touch_answers,
        honeypots=seen.honeypots,
        **_device(rows, given),
        flags=";".join(name.removeprefix(FLAG) for name in failed if name.startswith(FLAG)),
        decision=decision,
        excluded=bool(reason),
        exclusion_reason=reason,
    )
    return PersonRows(session, response_rows(row, study, given, reason=reason), given, rows, row.opened_at)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _trials(study: FrozenStudy, schedule: Sequence[Row[Any]]) -> tuple[Trial, ...]:
    if not schedule:
        return ()
    index = study.trial_index[schedule[0].cell]
    return tuple(index[name] for name in json.loads(schedule[0].trial_ids))


def _reason(row: Row[Any], failed: Sequence[str], decision: str) -> str:
    """Say why a person is left out, '' if they are not: unfinished, a decision, or the checks, in this order."""
    if row.state != "COMPLETE":
        return UNFINISHED
    if decision == "include":
        return ""
    if decision == "exclude" and not failed:
        return EXCLUDED
    return ";".join(failed)


def _word(reason: str) -> str:
    """Return a reason the server gave; what a person wrote is no word and stays here."""
    return reason if token(reason.replace(" ", "_")) else ("other" if reason else "")


def _device(rows: Sequence[Row[Any]], given: Sequence[Answered]) -> dict[str, Any]:
    """Read the coarse facts of a screen from the newest `display` event, and the frame interval from the trials."""
    told: dict[str, Any] = {}
    for row in rows:
        if row.kind == "display" and not row.fault:
            told |= parse_body("display", row.body)
    frames = [answer.body.frame_ms for answer in given if answer.body.frame_ms is not None]
    fullscreen = told.get("fullscreen")
    return {
        "browser": token(told.get("browser")),
        "system": token(told.get("system") or told.get("os")),
        "px_per_cm": finite(told.get("px_per_cm")),
        "frame_ms": float(median(frames)) if frames else math.nan,
        "fullscreen": {True: "yes", False: "no"}[fullscreen] if isinstance(fullscreen, bool) else "",
    }
