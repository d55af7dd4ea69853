"""Rows that go into files of their own: events, pictures as they were seen, rounds of reveal trials, drawings, free text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from stimuli.masks import mask_sha256, revealed_mask
from stimuli.trials import Draw, Reveal

from ..people.answered import Answered, finite, measured, token, whole
from ..wire.requests import BadBody, parse_body
from .apart_records import DrawingRow, EventRow, PictureRow, RoundRow, TextRow
from .guard import redacted
from .people import PersonRows

GIVEN_UP = "this block was begun again, so its last attempt counts"


def event_rows(person: PersonRows) -> Iterator[EventRow]:
    """Yield what happened beside the answers, and answers that cannot count."""
    start = min((row.client_time for row in person.events), default=0.0)
    opened = person.opened_at
    counted = {answer.event.seq for answer in person.answers}
    for row in person.events:
        if row.seq in counted:
            continue
        try:
            said = parse_body(row.kind, row.body)
        except BadBody:
            said = {}
        more = {} if row.kind == "trial" else {k: v for k, v in said.items() if k not in {"what", "trial_id"}}
        yield EventRow(
            row_id=f"{person.session.participant_id}-{row.seq}",
            participant_id=person.session.participant_id,
            source=person.session.source,
            condition=person.session.condition,
            seq=row.seq,
            kind=row.kind,
            what=token(said.get("what") or said.get("reason")),
            trial_id=row.trial_id or token(said.get("trial_id")),
            fault=row.fault or (GIVEN_UP if row.trial_id else ""),
            client_s=round((row.client_time - start) / 1000, 6),
            elapsed_s=round(row.server_time - opened, 3),
            details=as_tokens(more),
        )


def as_tokens(more: Mapping[str, Any]) -> str:
    """Render measures as compact JSON without free text."""
    return json.dumps(measured(more), sort_keys=True, separators=(",", ":"))


def picture_rows(answer: Answered) -> Iterator[PictureRow]:
    """Yield each picture of a trial as the browser placed it."""
    placed = answer.said.get("pictures")
    for index, place in enumerate(placed if isinstance(placed, list) else ()):
        if not isinstance(place, Mapping):
            continue
        yield PictureRow(
            row_id=f"{answer.row_id}-{index}",
            response_id=answer.row_id,
            participant_id=answer.event.session,
            trial_id=answer.trial.trial_id,
            role=token(place.get("role")),
            sha256=token(place.get("sha256")),
            **{
                name: finite(place.get(name)) for name in ("x", "y", "width", "height", "device_width", "device_height")
            },
        )


def round_row(person: PersonRows, answer: Answered) -> RoundRow | None:
    """Return the round of a reveal trial, None for another type."""
    shown, strokes = answer.trial.shown, answer.said.get("strokes")
    if not isinstance(shown, Reveal) or not isinstance(strokes, list):
        return None
    asked = [call for call in answer.said.get("oracle") or () if isinstance(call, list)]
    latencies = [finite(call[3]) for call in asked if len(call) >= 4]
    return RoundRow(
        row_id=answer.row_id,
        participant_id=answer.event.session,
        source=person.session.source,
        condition=person.session.condition,
        trial_id=answer.trial.trial_id,
        item_id=answer.trial.item_id,
        mode=shown.mode,
        word=shown.word,
        picture=shown.image,
        width=shown.size[0],
        height=shown.size[1],
        box_px=shown.box_px,
        step_px=shown.step_px,
        sample_ms=shown.sample_ms,
        limit_ms=shown.limit_ms,
        outcome=answer.body.response,
        points=finite(answer.said.get("points")),
        boxes=len(strokes),
        scale=finite(answer.said.get("scale")),
        played_ms=finite(answer.said.get("played_ms")),
        waited_ms=math.fsum(value for value in latencies if not math.isnan(value)),
        oracle=json.dumps(measured(asked), separators=(",", ":")),
        strokes=json.dumps(strokes, separators=(",", ":")),
        mask_sha256=mask_sha256(revealed_mask(strokes, shown.size, shown.box_px)),
        excluded=person.session.excluded,
    )


def drawing_row(person: PersonRows, answer: Answered) -> DrawingRow | None:
    """Return what was drawn in a draw trial, None for another type."""
    shown, strokes = answer.trial.shown, answer.said.get("strokes")
    if not isinstance(shown, Draw) or not isinstance(strokes, list):
        return None
    return DrawingRow(
        row_id=answer.row_id,
        participant_id=answer.event.session,
        source=person.session.source,
        condition=person.session.condition,
        trial_id=answer.trial.trial_id,
        item_id=answer.trial.item_id,
        picture=shown.image,
        width=shown.size[0],
        height=shown.size[1],
        pen_px=shown.pen_px,
        exemplar_ms=shown.exemplar_ms,
        limit_ms=shown.limit_ms,
        outcome=answer.body.response,
        points=sum(map(len, strokes)),
        erased=whole(answer.said.get("erased")),
        scale=finite(answer.said.get("scale")),
        drawn_ms=finite(answer.said.get("drawn_ms")),
        strokes=json.dumps(strokes, separators=(",", ":")),
        excluded=person.session.excluded,
    )


def text_rows(person: PersonRows, answer: Answered, *, private: frozenset[str]) -> Iterator[TextRow]:
    """Yield what was written freely, with what could lead back to a person replaced."""
    for field, text in answer.written().items():
        words, removed = redacted(text, private=private)
        yield TextRow(
            row_id=f"{answer.row_id}-{field}",
            response_id=answer.row_id,
            participant_id=answer.event.session,
            condition=person.session.condition,
            trial_id=answer.trial.trial_id,
            item_id=answer.trial.item_id,
            field=field,
            text=words,
            removed=";".join(removed),
        )
