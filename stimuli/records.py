"""The study file, and the rows of a frozen stimulus set: all that the server and the analysis know of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from bench.config import Frozen

Phase = Literal["practice", "train", "test"]
PHASES: tuple[Phase, ...] = ("practice", "train", "test")


class Page(Frozen):
    """One screen of text; `body` is plain paragraphs separated by blank lines, with **bold** allowed, no HTML."""

    title: str
    body: str


class Texts(Frozen):
    """Everything a participant reads apart from the trials."""

    consent: Page
    instructions: tuple[Page, ...]
    debrief: Page
    contact: str = Field(min_length=3)


class Checks(Frozen):
    """Rules, decided before the data, that exclude a person from the analysis; they never touch payment."""

    catch_accuracy: float | None = Field(default=None, ge=0, le=1)
    """Smallest share of catch trials answered correctly."""
    practice_attempts: int | None = Field(default=None, ge=1)
    """Largest number of times the practice block may be taken."""
    min_total_seconds: float | None = Field(default=None, ge=0)
    max_total_seconds: float | None = Field(default=None, gt=0)
    min_median_rt_ms: float | None = Field(default=None, ge=0)
    max_same_side_share: float | None = Field(default=None, gt=0, le=1)
    """Largest share of test answers given on one side (straight-lining)."""


class Bots(Frozen):
    """A stated psychometric model of simulated people: logit P(correct) = logit(accuracy) + person + item.

    `accuracy` maps a condition to one accuracy per session (population level at the median person and item).
    """

    accuracy: dict[str, tuple[float, ...]]
    participant_sd: float = Field(default=0.6, ge=0)
    item_sd: float = Field(default=0.5, ge=0)
    lapse: float = Field(default=0.02, ge=0, le=0.5)
    catch_accuracy: float = Field(default=0.97, ge=0, le=1)
    careless_share: float = Field(default=0.05, ge=0, le=1)
    """Share of bots that answer at random throughout (the checks should catch them)."""
    dropout_share: float = Field(default=0.03, ge=0, le=1)
    rt_median_ms: float = Field(default=1800, gt=0)
    rt_log_sd: float = Field(default=0.5, ge=0)


class Recruitment(Frozen):
    """Where people come from and what they are told at the end."""

    source: Literal["link", "prolific", "mock"] = "link"
    code_prefix: str = Field(default="LIMEN", pattern=r"^[A-Z0-9]{2,12}$")
    pay: str = ""
    minutes: float = Field(default=10, gt=0)


class StudyFile(Frozen):
    """One study: which run it stands on, which protocol it follows, and every rule fixed before the data."""

    study: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,40}$")
    version: int = Field(ge=1)
    protocol: str
    title: str
    seed: int = 0
    run: str
    """Name of the bench plan whose newest run gives the images, predictions and explanations."""
    conditions: tuple[str, ...] = Field(min_length=2)
    """`baseline`, `control`, and labels of explanations in the run."""
    design: dict[str, Any] = Field(default_factory=dict)
    """Options of the protocol's function."""
    quota: int = Field(default=30, ge=1)
    """Valid participants wanted per condition."""
    texts: Texts | None = None
    """The protocol's own texts are used where none are given."""
    contact: str | None = Field(default=None, min_length=3)
    """Who answers a participant's questions; required where the protocol's own texts are used."""
    checks: Checks = Checks()
    recruitment: Recruitment = Recruitment()
    bots: Bots | None = None
    analysis: dict[str, Any] = Field(default_factory=dict)
    """Plan of the analysis: `primary` contrast, `utility` formula, `equivalence_margin` ..."""


@dataclass(frozen=True, kw_only=True)
class CellRow:
    """One place a participant can be assigned to (file `cells.parquet`)."""

    cell: str
    condition: str
    list: int
    quota: int


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial of one cell, in the order it is shown (file `trials.parquet`)."""

    cell: str
    condition: str
    list: int
    position: int
    """Order within the cell, from 0."""
    block: str
    """Name of the block, e.g. 'practice', 'session 1 train'."""
    session: int
    """0 in practice, then 1, 2, 3."""
    phase: str
    trial_type: str
    """Name of the front-end plugin that shows it: 'predict' for train-then-predict."""
    trial_id: str
    """Opaque; tells a participant nothing."""
    item_id: str
    """The image (or unit) the trial is about: the random factor 'item'."""
    is_catch: bool
    k_seen: int
    """Training examples seen before this trial, over all sessions."""
    payload: str
    """JSON: all the browser may see before the answer."""
    answer: str
    """JSON, server only: `expected`, `definition`, `model_correct`, `label`; '{}' where nothing is asked."""


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """What is known of one item (file `items.parquet`); it never leaves the server."""

    item_id: str
    role: str
    """'main', or 'practice' for the practice machine's drawings."""
    picture: str
    """SHA-256 of the picture."""
    label: str
    """The true class."""
    predicted: str
    probability: float
    """NaN for the practice machine."""
    model_correct: bool
    group: str


# Payload of the trial type `predict` (train-then-predict with a reservoir):
#   phase         'practice' | 'train' | 'test'
#   image         sha256 of the picture
#   explanation   sha256 or null; always null at test
#   predicted     class the model answered (train only), else null
#   options       [left, right] class names at test and practice, else []
#   reservoir     [{image, explanation, predicted}] examples that stay in view: at test the training examples seen so
#                 far, in practice the worked examples of the practice machine; [] in training
#   feedback      true if the answer is told after the response (practice)
#   lockout_ms    no answer is taken before
#   session, session_count, index, count   for the progress line; index runs from 1 to count in each block
