"""The bodies of answers (docs/wire.md): what the OpenAPI document promises, and what tests hold the server to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["PRE", "ACTIVE", "COMPLETE", "SCREENED_OUT", "WITHDRAWN", "EXPIRED", "FAILED"]


class Answer(BaseModel):
    """Base of every answer: no key that is not written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenedAnswer(Answer):
    """A session is open: the token goes into the header `Authorization: Bearer <token>`."""

    session: str
    token: str
    resumed: bool
    state: State
    next_seq: int = Field(ge=1)


class TextPage(Answer):
    """One screen of text."""

    title: str
    body: str


class TrialAnswer(Answer):
    """One trial as the browser may see it; the payload's fields are the models of `stimuli.trials`."""

    trial_id: str
    trial_type: str
    phase: Literal["practice", "train", "test"]
    session: int
    position: int
    payload: dict[str, Any]


class PracticeAnswer(Answer):
    """Where a person stands in the practice block."""

    attempt: int
    answered: list[str]
    wrong: int
    passed: bool
    over: bool


class EventsAnswer(Answer):
    """What became of a batch, sent after the commit."""

    acknowledged: list[int]
    high_water: int = Field(ge=0)
    feedback: dict[str, Any]
    practice: PracticeAnswer | None
    faults: dict[str, str]


class ConflictAnswer(EventsAnswer):
    """Another body under a seq that is held: nothing of it is stored over the first."""

    error: Literal["conflict"]
    message: str
    conflicts: list[int]


class FormAnswer(Answer):
    """A form that the browser posts to hand the person back (Mechanical Turk)."""

    action: str
    fields: dict[str, str]


class CompleteAnswer(Answer):
    """The completion code, and where the recruiter wants the person sent."""

    code: str
    url: str | None
    form: FormAnswer | None
    state: Literal["COMPLETE"]


class IncompleteAnswer(Answer):
    """What the server lacks for a code."""

    error: Literal["incomplete"]
    message: str
    missing: list[int]
    missing_trials: list[str]
    chain_matches: bool
    next_seq: int = Field(ge=1)


class ManualAnswer(Answer):
    """A code that a person reviews."""

    code: str
    url: str | None
    form: FormAnswer | None


class WithdrawnAnswer(Answer):
    """The answers were deleted."""

    state: Literal["WITHDRAWN"]


class WebhookAnswer(Answer):
    """Whether a recruiter's message was new."""

    stored: bool


class AliveAnswer(Answer):
    """The process lives."""

    alive: Literal[True]


class ReadyAnswer(Answer):
    """A write went through and there is disk left."""

    ready: Literal[True]
    queue: int
    free_mb: int


class UnreadyAnswer(Answer):
    """The server takes no newcomers, or nothing at all."""

    ready: Literal[False]
    message: str
    queue: int
    free_mb: int


class SessionAnswer(Answer):
    """Everything a browser needs to go on (docs/wire.md, section 3)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    session: str
    study: dict[str, Any]
    state: State
    next_seq: int = Field(ge=1)
    high_water: int = Field(ge=0)
    chain: str
    idle_s: float = Field(ge=0)
    texts: dict[str, Any]
    timeline: list[dict[str, Any]]
    done: dict[str, bool]
    practice: PracticeAnswer
    answered: list[str]
    code: str | None


class StandingAnswer(Answer):
    """Where the study stands."""

    model_config = ConfigDict(extra="allow", frozen=True)

    study: str
    version: int
    stimuli: str
    time: float
    queue: int
    free_mb: int
    cells: list[dict[str, Any]]
