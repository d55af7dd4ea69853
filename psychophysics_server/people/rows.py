"""From the events of a session to rows: the one place where correctness is derived."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from ..records import ResponseRow
from ..sessions.score import Held, Score, rule_of, score_of
from ..storage.tables import events
from ..study.correct import correctness
from ..study.frozen import FrozenStudy, Trial
from ..wire.requests import number
from .answered import Answered, finite, token, whole


def held_events(connection: Connection, session: str) -> list[Row[Any]]:
    """Read every event of a session in the order of seq."""
    return list(connection.execute(select(events).filter_by(session=session).order_by(events.c.seq)))


def response_rows(
    session: Row[Any], study: FrozenStudy, answers: Sequence[Answered], *, reason: str
) -> list[ResponseRow]:
    """Turn the answers of one session that count into response rows.

    Parameters
    ----------
    reason
        Why this person is excluded, '' if not.
    """
    held = [
        Held(seq=a.event.seq, trial_id=a.trial_id, attempt=a.attempt, response=a.body.response, text=a.body.text)
        for a in answers
    ]
    trials = study.trials[session.cell]
    rows = []
    for answer in answers:
        telling = answer.trial if rule_of(answer.trial) is not None else None
        told = None if telling is None else score_of(trials, held, study.attempts, telling=telling)
        rows.append(_response_row(session, study, answer, reason, told))
    return rows


def _place(trial: Trial, option: str) -> int:
    return trial.options.index(option) if option in trial.options else -1


def _response_row(
    session: Row[Any], study: FrozenStudy, answer: Answered, reason: str, told: Score | None
) -> ResponseRow:
    row, trial, body = answer.event, answer.trial, answer.body
    known = trial.answer.get("model_correct")
    return ResponseRow(
        row_id=answer.row_id,
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
        payload_sha256=trial.payload_sha256,
        pictures=";".join(trial.subjects),
        repeat_of=str(trial.answer.get("repeat_of") or ""),
        is_catch=trial.is_catch,
        attempt=row.attempt,
        k_seen=trial.k_seen,
        response=answer.response,
        option_position=_place(trial, answer.response),
        expected=trial.expected,
        expected_position=_place(trial, trial.expected),
        definition=str(trial.answer.get("definition") or ""),
        correct=correctness(trial, body.response, body.text),
        model_correct=math.nan if known is None else float(bool(known)),
        confidence=number(body.confidence),
        number=answer.number,
        has_text=bool(answer.written()),
        timed_out=body.timed_out,
        changes=body.changes,
        rt_ms=number(body.rt_ms),
        lockout_ms=float(trial.payload.get("lockout_ms") or 0.0),
        deadline_ms=_deadline(trial),
        onset_ms=number(body.onset_ms),
        frame_ms=number(body.frame_ms),
        dropped_frames=body.dropped_frames,
        input=body.input,
        focus_lost=body.focus_lost,
        fullscreen_exits=whole(answer.said.get("fullscreen_exits")),
        reservoir_ms=number(body.reservoir_ms),
        window=body.window,
        pixel_ratio=number(body.pixel_ratio),
        picture_px=_width(answer.said),
        zoom=finite(answer.said.get("zoom")),
        load_failures=whole(answer.said.get("load_failures")),
        feedback=trial.payload.get("feedback") is True,
        told_right=math.nan if told is None else float(told.right),
        told_asked=math.nan if told is None else float(told.asked),
        plugin=token(answer.said.get("plugin")),
        client_s=round(answer.client_s, 6),
        elapsed_s=round(row.server_time - session.opened_at, 3),
        details=answer.details,
        excluded=bool(reason),
        exclusion_reason=reason,
    )


def _width(said: Mapping[str, Any]) -> float:
    """Return the width of the first picture on the screen, NaN if it was not told."""
    placed = said.get("pictures")
    if isinstance(placed, list) and placed and isinstance(placed[0], Mapping):
        return finite(placed[0].get("width"))
    return finite(said.get("picture_px"))


def _deadline(trial: Trial) -> float:
    """Return the time allowed for an answer, NaN if any."""
    speed = trial.payload.get("speed")
    given = speed.get("deadline_ms") if isinstance(speed, Mapping) else trial.payload.get("limit_ms")
    return finite(given)


def resumes(rows: Sequence[Row[Any]]) -> int:
    """Count how often a held session was opened again."""
    return sum(row.kind == "resume" for row in rows)


def as_json(value: Any) -> str:
    """Render readable JSON in which NaN cannot occur."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
