"""Who asks and for what: the body of a request, its token and the session it opens, or the refusal."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic
from flask import request
from sqlalchemy import Row
from werkzeug.exceptions import HTTPException

from bench.registry import LimenError

from ..sessions.session import authenticate, bearer_of, token_hash
from ..storage.database import one
from ..storage.tables import sessions
from ..study.frozen import FrozenStudy
from ..wire.requests import Request, sentence
from .ratelimit import Buckets
from .refusal import Refusal
from .server import server

Body = TypeVar("Body", bound=Request)
WITHDRAWN = (410, "You withdrew from this study and your answers were deleted.")


def read_body(model: type[Body]) -> Body:
    """Parse the request's JSON, or refuse it in one sentence."""
    try:
        return model.model_validate_json(request.get_data(cache=False))
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise Refusal(400, "bad_request", "The request is not JSON.") from None
        if fault["type"] in {"too_long", "string_too_long"} and fault["loc"][0] == "events":
            raise Refusal(413, "too_large", sentence(error)) from None
        raise Refusal(400, "bad_request", sentence(error)) from None
    except HTTPException as error:
        if error.code == 413:
            raise
        raise Refusal(400, "bad_request", "The request is not JSON.") from None
    except (ValueError, RecursionError):
        raise Refusal(400, "bad_request", "The request is not JSON.") from None


def bearer() -> str:
    """Return the token of the request, '' if it has none."""
    return bearer_of(request.headers.get("Authorization", ""))


def not_recognised() -> Refusal:
    """Return the refusal of a token that opens no session."""
    return Refusal(401, "token", "Your session was not recognised. Please open the study's link again.")


def held_session(token: str) -> tuple[str, FrozenStudy]:
    """Return the session that this token opened when it was last asked; the write asks again."""
    doors, hashed = server().doors, token_hash(token)
    held = doors.get(hashed)
    if held is None:
        row, study = asked_session()
        held = (row.session, study)
        doors.put(hashed, *held)
    else:
        hold_rate(server().limits.session, held[0])
    return held


def hold_rate(buckets: Buckets, key: str) -> None:
    """Refuse for a moment whoever asks far more often than a person could."""
    if buckets.wait(key):
        raise Refusal(503, "busy", "There are too many requests; please wait a moment.")


def asked_session() -> tuple[Row[Any], FrozenStudy]:
    """Return the session the bearer token opens, and its study version."""
    token, running = bearer(), server()
    with running.database.read() as connection:
        name = authenticate(connection, token) if token else None
        row = None if name is None else one(connection, sessions, session=name)
    if row is None:
        raise not_recognised()
    hold_rate(running.limits.session, row.session)
    try:
        return row, running.library.by_key(row.stimuli)
    except LimenError:
        raise Refusal(503, "busy", "This version of the study is not available at the moment.") from None


def withdrawn() -> Refusal:
    """Return the refusal of a session whose answers were deleted."""
    status, message = WITHDRAWN
    return Refusal(status, "withdrawn", message)
