"""The study file, and the rows of a frozen stimulus set: all that the server and the analysis know of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from bench.config import Frozen

Phase = Literal["practice", "train", "test"]
PHASES: tuple[Phase, ...] = ("practice", "train", "test")


class Page(Frozen):
    """One screen of text; `body` is plain paragraphs separated by blank lines, with **bold** allowed, no HTML."""

    title: str
    body: str


class Question(Frozen):
    """One question about the instructions; the answer stays on the server."""

    question: str
    options: tuple[str, ...] = Field(min_length=2, max_length=6)
    answer: str

    @model_validator(mode="after")
    def _among(self) -> Question:
        if self.answer not in self.options:
            raise ValueError("the answer is not among the options")
        return self


class Texts(Frozen):
    """Everything a participant reads apart from the trials."""

    consent: Page
    instructions: tuple[Page, ...]
    quiz: tuple[Question, ...] = ()
    """Comprehension questions after the instructions; all must be right within `checks.quiz_attempts`."""
    debrief: Page
    contact: str = Field(min_length=3)


class Rules(Frozen):
    """Rules on a person's conduct, decided before the data; each is off unless it is given."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    catch_accuracy: float | None = Field(default=None, ge=0, le=1)
    """Smallest share of catch trials answered correctly."""
    practice_attempts: int | None = Field(default=None, ge=1)
    """Largest number of times the practice block may be taken."""
    quiz_attempts: int | None = Field(default=None, ge=1)
    """Largest number of tries at the comprehension questions."""
    min_instruction_seconds: float | None = Field(default=None, ge=0)
    """Shortest time on the instructions, in seconds."""
    min_total_seconds: float | None = Field(default=None, ge=0)
    """Shortest time in the study, in seconds."""
    max_total_seconds: float | None = Field(default=None, gt=0)
    """Longest time in the study, in seconds."""
    min_median_rt_ms: float | None = Field(default=None, ge=0)
    """Smallest median answer time at test, in milliseconds."""
    max_too_fast_share: float | None = Field(default=None, ge=0, le=1)
    """Largest share of test answers given within `too_fast_ms`."""
    min_choices_per_side: int | None = Field(default=None, ge=0)
    """Response variety: each displayed position must be chosen at least this often at test."""
    max_same_side_share: float | None = Field(default=None, gt=0, le=1)
    """Largest share of test answers given on one side."""
    max_same_side_run: int | None = Field(default=None, ge=1)
    """Straight-lining: longest run of test answers at the same displayed position."""
    max_gap_seconds: float | None = Field(default=None, gt=0)
    """Longest pause between two events of one person, in seconds."""
    max_focus_losses: int | None = Field(default=None, ge=0)
    """How often the page may lose the focus or be hidden during trials."""
    no_touch: bool | None = None
    """True: answers given by touch (a phone or tablet) fail."""
    no_honeypot: bool | None = None
    """True: whoever filled in the field of the consent page that no person sees fails."""


class Checks(Rules):
    """Rules that exclude a person from the analysis; they never touch payment."""

    too_fast_ms: float = Field(default=200, gt=0)
    """What counts as too fast, in milliseconds."""
    flag: Rules = Rules()
    """The same rules, with thresholds that only mark a person for a look."""


class Display(Frozen):
    """What the screen must offer before the study starts."""

    min_width: int = Field(default=0, ge=0)
    min_height: int = Field(default=0, ge=0)
    """Smallest inner size of the window, in CSS pixels."""
    mobile: bool = True
    """Whether phones and tablets may take part."""
    fullscreen: bool = False
    """Ask for full screen; leaving it is recorded."""
    calibrate: bool = False
    """Measure the screen with a bank card, for pixels per centimetre."""


class Resume(Frozen):
    """What happens when someone comes back after a reload or a pause."""

    policy: Literal["continue", "restart_block", "refuse"] = "continue"
    max_age_hours: float = Field(default=24 * 7, gt=0)
    """After this long the session is over (EXPIRED)."""


class Bots(Frozen):
    """A stated psychometric model of simulated people: logit P(correct) = logit(accuracy) + person + item.

    `accuracy` maps a condition to one accuracy per session (population level at the median person and item).
    """

    accuracy: dict[str, tuple[float, ...]]
    effects: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Within-subject factor -> level -> shift in logits, for the factors that the design's trials carry."""
    slopes: dict[str, float] = Field(default_factory=dict)
    """Numeric within-subject factor -> shift in logits for each unit of it: bots that read a fact of the trial."""
    attention: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Condition of a reveal game -> share of steps towards what stands out in the picture; 0, or none given: a random walk."""
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

    source: str = Field(default="link", pattern=r"^[a-z][a-z0-9_]{1,15}$")
    """A recruiter: a file of `psychophysics_server/recruitment/recruiters`."""
    code_prefix: str = Field(default="LIMEN", pattern=r"^[A-Z0-9]{2,12}$")
    pay: str = ""
    """What a participant receives, in words."""
    amount: float | None = Field(default=None, ge=0)
    """What a participant receives, in `currency`; lets the dashboard compare with `min_hourly`."""
    currency: str = Field(default="GBP", pattern=r"^[A-Z]{3}$")
    min_hourly: float | None = Field(default=None, ge=0)
    """Warn if the realised pay per hour falls below."""
    minutes: float = Field(default=10, gt=0)
    exclude: tuple[str, ...] = ()
    """Studies whose participants may not take part again, by id (every version of them)."""
    signed: bool = False
    """Entry links carry a signature (`limen study links`), so that an id alone opens nobody's session."""


class StudyFile(Frozen):
    """One study: which run it stands on, which protocol it follows, and every rule fixed before the data."""

    study: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,40}$")
    version: int = Field(ge=1)
    protocol: str
    title: str
    seed: int = 0
    run: str | None = None
    """Name of the bench plan whose newest run gives what is shown; None for protocols that need none."""
    conditions: tuple[str, ...] = Field(min_length=1)
    """What differs between participants; the protocol says which names there are."""
    design: dict[str, Any] = Field(default_factory=dict)
    """Options of the protocol's function."""
    quota: int = Field(default=30, ge=1)
    """Valid participants wanted per condition."""
    texts: Texts | None = None
    """The protocol's own texts are used where none are given."""
    contact: str | None = Field(default=None, min_length=3)
    """Who answers a participant's questions; required where the protocol's own texts are used."""
    checks: Checks = Checks()
    display: Display = Display()
    resume: Resume = Resume()
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    """Language of the pages, for `lang`; the interface's own words come from the front-end's word list of it."""
    words: dict[str, str] = Field(default_factory=dict)
    """Own words for the interface: path in the word list, e.g. 'test.heading' -> text."""
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
    """Name of the front-end plugin that shows it: a key of `stimuli.trials.TRIAL_TYPES`."""
    trial_id: str
    """Opaque; tells a participant nothing."""
    item_id: str
    """The image (or unit) the trial is about: the random factor 'item'."""
    is_catch: bool
    k_seen: int
    """Training examples seen before this trial, over all sessions."""
    payload: str
    """JSON: all the browser may see before the answer; the model of its trial type in `stimuli.trials`."""
    answer: str
    """JSON, server only: `expected`, `definition`, `model_correct`, `label`, `repeat_of`; '{}' where nothing is asked."""
    factors: str = "{}"
    """JSON, server only: within-subject factors of the design, name -> text, number or true/false; columns of the export."""


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
    facts: str = "{}"
    """JSON: what else is known of the item, for example unit, layer, activation, complexity."""
