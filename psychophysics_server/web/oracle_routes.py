"""Where a player's browser asks the oracle; the true class stays here, and nothing but counts is kept."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Annotated

from flask import Blueprint, Response, current_app, jsonify
from pydantic import Field

from stimuli.trials import Reveal

from ..sessions.session import schedule_of
from ..study.frozen import FrozenStudy, Trial
from ..wire.answers import Answer
from ..wire.requests import Request
from .asking import bearer, held_session, hold_rate, read_body
from .oracle import OracleSilent
from .ratelimit import Buckets, Rate
from .refusal import Refusal
from .server import server

oracle = Blueprint("oracle", __name__)
RATE = Rate(burst=30, per_second=8)
"""Questions of one session: the quickest round asks twice a second."""
Place = Annotated[
    list[Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]], Field(min_length=2, max_length=2)
]


class OracleRequest(Request):
    """`POST /api/oracle`."""

    trial_id: Annotated[str, Field(min_length=1, max_length=200)]
    boxes: Annotated[list[Place], Field(min_length=1, max_length=5000)]


class OracleReply(Answer):
    """What the network recognises in the boxes of one round."""

    top: list[tuple[str, float]]
    rank: int | None
    won: bool


class Counts:
    """How many questions came and what became of them: asked, answered, silent, refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Count one."""
        with self._lock:
            self._held[what] += 1

    def public(self) -> dict[str, int]:
        """Return the counts."""
        with self._lock:
            return dict(self._held)


class Desk:
    """What the route keeps: the limit of each session, and counts."""

    def __init__(self) -> None:
        self.limits = Buckets(RATE)
        self.counts = Counts()


def desk() -> Desk:
    """Return the running application's desk."""
    found: Desk = current_app.extensions.setdefault("limen-oracle", Desk())
    return found


@oracle.post("/api/oracle")
def ask() -> Response:
    """Ask the oracle what it recognises in these boxes."""
    session, study = held_session(bearer())
    kept, asked = desk(), server().config.oracle
    hold_rate(kept.limits, session)
    wanted = read_body(OracleRequest)
    trial = _trial(study, session, wanted.trial_id)
    shown = None if trial is None else trial.shown
    if trial is None or not isinstance(shown, Reveal) or not shown.oracle:
        kept.counts.add("refused")
        raise Refusal(404, "not_found", "There is no such round in this session.")
    width, height = shown.size
    if len(wanted.boxes) > shown.max_boxes or any(x >= width or y >= height for x, y in wanted.boxes):
        kept.counts.add("refused")
        raise Refusal(400, "bad_request", "boxes: more than the round allows, or outside the picture.")
    if asked is None:
        raise Refusal(503, "oracle", "There is no oracle at the moment; the round goes on without it.")
    kept.counts.add("asked")
    word = str(trial.answer.get("label") or shown.word)
    try:
        said = asked.ask(study.pictures[shown.image], wanted.boxes, box_px=shown.box_px, word=word)
    except OracleSilent as error:
        kept.counts.add("silent")
        current_app.logger.warning("the oracle gave no answer: %s", error)
        raise Refusal(503, "oracle", "The oracle gave no answer; the round goes on without it.") from None
    kept.counts.add("answered")
    reply = OracleReply(top=list(said.top), rank=said.rank, won=said.won)
    return jsonify(reply.model_dump(mode="json"))


def _trial(study: FrozenStudy, session: str, trial_id: str) -> Trial | None:
    """Return a trial of this session's own schedule, None for any other."""
    with server().database.read() as connection:
        schedule = schedule_of(connection, study, session)
    return next((trial for trial in schedule if trial.trial_id == trial_id), None)
