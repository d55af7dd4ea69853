"""Where a browser asks for the score that a screen tells its person; nothing is stored, and nothing goes out too early."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response, jsonify
from pydantic import Field

from ..sessions.score import tell
from ..sessions.session import schedule_of
from ..wire.answers import Answer
from ..wire.requests import Request
from .asking import asked_session, read_body, withdrawn
from .refusal import Refusal
from .server import server

own_score = Blueprint("own_score", __name__)
ENDED = frozenset({"SCREENED_OUT", "FAILED", "EXPIRED"})
"""States in which no further screen is shown."""


class ScoreRequest(Request):
    """`POST /api/score`."""

    trial_id: Annotated[str, Field(min_length=1, max_length=200)]


class ScoreReply(Answer):
    """What a trial tells a person, and its payload with the numbers in their places."""

    right: int = Field(ge=0)
    asked: int = Field(ge=1)
    payload: dict[str, Any]


@own_score.post("/api/score")
def show() -> Response:
    """Tell a person's own score, the same each time."""
    row, study = asked_session()
    wanted = read_body(ScoreRequest)
    if row.state == "WITHDRAWN":
        raise withdrawn()
    if row.state in ENDED:
        raise Refusal(409, "over", "This session has ended already.", state=row.state)
    with server().database.read() as connection:
        trials = schedule_of(connection, study, row.session)
        told = tell(connection, study, row.session, trials, wanted.trial_id)
    if told == "not_found":
        raise Refusal(404, "not_found", "There is no such screen in this session.")
    if told == "early":
        raise Refusal(409, "early", "Some of your answers have not arrived yet.")
    return jsonify(ScoreReply.model_validate(told).model_dump(mode="json"))
