"""The bodies of requests (docs/wire.md), validated before anything touches the data base."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_BODY = 65_536
MAX_BATCH = 64
MAX_SEQ = 50_000
Kind = Literal[
    "consent", "instructions", "quiz", "trial", "focus", "debrief", "withdraw", "resume", "load", "display", "feedback"
]


def _storable(text: str) -> str:
    """Refuse text no data base column can hold: NUL and lone surrogates."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_storable)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Request(BaseModel):
    """Base of every request body: unknown keys are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OpenRequest(Request):
    """`POST /api/sessions`."""

    study: Annotated[str, Field(min_length=1, max_length=64)]
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    parameters: dict[Text, Annotated[Text, Field(max_length=2000)]] = Field(default_factory=dict, max_length=64)
    source: Literal["live", "bot"] = "live"


class Event(Request):
    """One event: `body` is kept as the exact text that was sent."""

    seq: Annotated[int, Field(ge=1, le=MAX_SEQ)]
    kind: Kind
    time: Annotated[float, Field(ge=0, le=1e14, allow_inf_nan=False)]
    body: Annotated[Text, Field(max_length=MAX_BODY)]


class EventsRequest(Request):
    """`POST /api/events`."""

    events: Annotated[list[Event], Field(min_length=1, max_length=MAX_BATCH)]


class CompleteRequest(Request):
    """`POST /api/complete`."""

    last_seq: Annotated[int, Field(ge=1, le=MAX_SEQ)]
    chain: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReasonRequest(Request):
    """`POST /api/withdraw` and `POST /api/manual`."""

    reason: Annotated[Text, Field(max_length=500)] = ""


class NoRequest(Request):
    """`POST /api/outcome` and `POST /api/unsuitable`: nothing is said."""


class TrialBody(BaseModel):
    """What a `trial` event's body says; further keys stay in the body."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    trial_id: Annotated[Text, Field(min_length=1, max_length=200)]
    response: Annotated[Text, Field(max_length=2000)]
    attempt: Annotated[int, Field(ge=1, le=1000)] = 1
    rt_ms: Milliseconds | None = None
    onset_ms: Milliseconds | None = None
    frame_ms: Milliseconds | None = None
    dropped_frames: Count = 0
    input: Annotated[str, Field(pattern=r"^(key|mouse|touch|pen)?$")] = ""
    focus_lost: Count = 0
    reservoir_ms: Milliseconds | None = None
    window: Annotated[str, Field(pattern=r"^([0-9]{1,5}x[0-9]{1,5})?$")] = ""
    pixel_ratio: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] | None = None
    confidence: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    text: Annotated[Text, Field(max_length=2000)] = ""
    timed_out: bool = False
    changes: Count = 0


class BadBody(ValueError):
    """A body that is not what its kind asks for; the message is one sentence."""


def sentence(error: pydantic.ValidationError) -> str:
    """Say the first fault of a request in one sentence, without repeating what was sent."""
    fault = error.errors()[0]
    path = ".".join(str(part) for part in fault["loc"])
    return f"{path or 'body'}: {fault['msg'][:1].lower()}{fault['msg'][1:]}."


def parse_body(kind: str, body: str) -> dict[str, Any]:
    """Parse the JSON text of an event.

    Raises
    ------
    BadBody
        If it is not a JSON object.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise BadBody(f"the body of this {kind} event is not JSON") from None
    if not isinstance(parsed, dict):
        raise BadBody(f"the body of this {kind} event is not a JSON object")
    return parsed


def parse_trial(body: str) -> TrialBody:
    """Parse the body of a trial event.

    Raises
    ------
    BadBody
        If a field lacks or has the wrong type.
    """
    try:
        return TrialBody.model_validate(parse_body("trial", body))
    except pydantic.ValidationError as error:
        raise BadBody(sentence(error)) from None


def number(value: float | None) -> float:
    """Return a number or NaN."""
    return math.nan if value is None else float(value)
