"""People of a study as rows: every session with its trials, its checks and its verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from .frozen import FrozenStudy
from .records import ResponseRow, SessionRow
from .rows import counting, held_events, observed, response_rows, resumes, total_seconds
from .sessions import schedule_of
from .tables import check_values, sessions

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class PersonRows:
    """One person: a session row and response rows."""

    session: SessionRow
    responses: list[ResponseRow]


def people(
    connection: Connection, study: FrozenStudy, *, sources: Collection[str], stale_s: float
) -> Iterator[PersonRows]:
    """Yield everyone of a study version, in the order of entry."""
    query = select(sessions).where(sessions.c.stimuli == study.key, sessions.c.source.in_(sorted(sources)))
    for row in connection.execute(query.order_by(sessions.c.opened_at, sessions.c.session)).all():
        yield _person(connection, study, row, stale_s)


def failed_checks(connection: Connection, session: str) -> list[str]:
    """Read the names of the checks a finished person failed."""
    query = select(check_values.c.name).where(check_values.c.session == session, check_values.c.passed.is_(False))
    return list(connection.execute(query.order_by(check_values.c.name)).scalars())


def _person(connection: Connection, study: FrozenStudy, row: Row[Any], stale_s: float) -> PersonRows:
    rows, trials = held_events(connection, row.session), schedule_of(connection, study, row.session)
    finished = row.state == "COMPLETE"
    reason = ";".join(failed_checks(connection, row.session)) if finished else UNFINISHED
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
        consented=row.consented_at is not None,
        finished=finished,
        trials_held=len({event.trial_id for event in counting(rows)}),
        trials_planned=len(trials),
        resumes=resumes(rows),
        total_seconds=round(total_seconds(row, rows), 3),
        practice_attempts=seen.practice_attempts or 0,
        catch_accuracy=math.nan if seen.catch_accuracy is None else seen.catch_accuracy,
        test_accuracy=seen.test_accuracy,
        median_rt_ms=seen.median_rt_ms,
        same_side_share=math.nan if seen.same_side_share is None else seen.same_side_share,
        excluded=bool(reason),
        exclusion_reason=reason,
    )
    return PersonRows(session, response_rows(row, study, rows, reason=reason))
