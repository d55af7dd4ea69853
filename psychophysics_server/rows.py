"""From the events of a session to rows: the one place where correctness is derived."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from .checks import Observed, Timed, observe
from .frozen import FrozenStudy, Trial
from .records import ResponseRow
from .tables import events
from .wire import TrialBody, number, parse_trial


def held_events(connection: Connection, session: str) -> list[Row[Any]]:
    """Read every event of a session in the order of seq."""
    return list(connection.execute(select(events).filter_by(session=session).order_by(events.c.seq)))


def counting(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Keep the trial events that count."""
    return [row for row in rows if row.trial_id and not row.fault]


def timed_answers(rows: Sequence[Row[Any]]) -> list[Timed]:
    """Turn the events that count into answers with response times."""
    answers = []
    for row in counting(rows):
        body = parse_trial(row.body)
        answers.append(
            Timed(
                seq=row.seq,
                trial_id=row.trial_id,
                attempt=row.attempt,
                response=body.response,
                rt_ms=number(body.rt_ms),
            )
        )
    return answers


def total_seconds(session: Row[Any], rows: Sequence[Row[Any]]) -> float:
    """Return the time from opening to the last trial or later event, in seconds.

    The server's clock for people; the client's for bots, whose time is simulated.
    """
    if not rows:
        return math.nan
    if session.source == "bot":
        times = [row.client_time for row in rows]
        return (max(times) - min(times)) / 1000
    end = session.finished_at if session.finished_at is not None else max(row.server_time for row in rows)
    return float(end - session.opened_at)


def observed(session: Row[Any], study: FrozenStudy, trials: Sequence[Trial], rows: Sequence[Row[Any]]) -> Observed:
    """Measure what the checks look at, for one session."""
    seconds = total_seconds(session, rows)
    return observe(trials, timed_answers(rows), attempts=study.attempts, total_seconds=seconds)


def response_rows(session: Row[Any], study: FrozenStudy, rows: Sequence[Row[Any]], *, reason: str) -> list[ResponseRow]:
    """Turn the events of one session that count into response rows.

    Parameters
    ----------
    reason
        Why this person is excluded, '' if not.
    """
    index = study.trial_index[session.cell]
    return [
        _response_row(session, study, index[row.trial_id], row, parse_trial(row.body), reason) for row in counting(rows)
    ]


def _response_row(
    session: Row[Any], study: FrozenStudy, trial: Trial, row: Row[Any], body: TrialBody, reason: str
) -> ResponseRow:
    known = trial.answer.get("model_correct")
    return ResponseRow(
        row_id=f"{session.session}-{row.seq}",
        study=study.file.study,
        study_version=study.file.version,
        stimuli=study.key,
        source=session.source,
        participant_id=session.session,
        cell=session.cell,
        condition=session.condition,
        list=session.list,
        seq=row.seq,
        position=trial.position,
        block=trial.block,
        session=trial.session,
        phase=trial.phase,
        trial_type=trial.trial_type,
        trial_id=trial.trial_id,
        item_id=trial.item_id,
        is_catch=trial.is_catch,
        attempt=row.attempt,
        k_seen=trial.k_seen,
        response=body.response,
        expected=trial.expected,
        correct=float(body.response == trial.expected) if trial.asks else math.nan,
        model_correct=math.nan if known is None else float(bool(known)),
        rt_ms=number(body.rt_ms),
        onset_ms=number(body.onset_ms),
        frame_ms=number(body.frame_ms),
        dropped_frames=body.dropped_frames,
        input=body.input,
        focus_lost=body.focus_lost,
        reservoir_ms=number(body.reservoir_ms),
        window=body.window,
        pixel_ratio=number(body.pixel_ratio),
        elapsed_s=round(row.server_time - session.opened_at, 3),
        excluded=bool(reason),
        exclusion_reason=reason,
    )


def resumes(rows: Sequence[Row[Any]]) -> int:
    """Count how often a held session was opened again."""
    return sum(row.kind == "resume" for row in rows)


def as_json(value: Any) -> str:
    """Render readable JSON in which NaN cannot occur."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
