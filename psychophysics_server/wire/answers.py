"""The bodies of answers (docs/wire.md): what the OpenAPI document promises, and what tests hold the server to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

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


class PracticeAnswer(Answer):
    """Where a person stands in the practice block."""

    attempt: int
    answered: list[str]
    wrong: int
    passed: bool
    over: bool


class QuizAnswer(Answer):
    """Where a person stands with the questions about the instructions."""

    attempt: int
    wrong: int
    passed: bool
    over: bool


class EventsAnswer(Answer):
    """What became of a batch, sent after the commit."""

    acknowledged: list[int]
    high_water: int = Field(ge=0)
    feedback: dict[str, Any]
    practice: PracticeAnswer | None
    quiz: QuizAnswer | None
    state: State
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
    deletion_token: str
    """'' if this person has as many as they may."""


class IncompleteAnswer(Answer):
    """What the server lacks for a code."""

    error: Literal["incomplete"]
    message: str
    missing: list[int]
    missing_trials: list[str]
    chain_matches: bool
    next_seq: int = Field(ge=1)


class OverAnswer(Answer):
    """The session has ended without its trials: `POST /api/outcome` tells more."""

    error: Literal["over"]
    message: str
    state: State


class UnfinishedAnswer(RootModel[IncompleteAnswer | OverAnswer]):
    """What the server lacks for a code, or that none can come any more."""


class ManualAnswer(Answer):
    """A code that a person reviews."""

    code: str
    url: str | None
    form: FormAnswer | None
    deletion_token: str


class OutcomeAnswer(Answer):
    """How a session ended without its trials; `code` is null while it is open, and where none is due."""

    state: State
    reason: str
    code: str | None
    url: str | None
    form: FormAnswer | None
    deletion_token: str


class WithdrawnAnswer(Answer):
    """The answers were deleted."""

    state: Literal["WITHDRAWN"]
    code: str | None
    """The recruiter's code of people who did not consent, if it has one."""
    url: str | None
    form: FormAnswer | None


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
    free_mb: int | None
    """None where answers are written on another machine (PostgreSQL)."""


class UnreadyAnswer(Answer):
    """The server takes no newcomers, or nothing at all."""

    ready: Literal[False]
    message: str
    queue: int
    free_mb: int | None
    """None where answers are written on another machine (PostgreSQL)."""


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
    reason: str
    texts: dict[str, Any]
    consent_version: str
    display: dict[str, Any]
    resume: dict[str, Any]
    timeline: list[dict[str, Any]]
    done: dict[str, bool]
    quiz: QuizAnswer
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
    free_mb: int | None
    """None where answers are written on another machine (PostgreSQL)."""
    cells: list[dict[str, Any]]
