"""The trial types: what the browser is sent for one trial, and which answers it can give."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, model_validator

from bench.config import Frozen
from bench.registry import LimenError, unknown

from .own_score import OwnScore, place_fault
from .strokes import drawing_fault, strokes_fault

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a picture of the stimulus set."""
Side = Annotated[int, Field(ge=16, le=4096)]
_HASH = re.compile(r"^[0-9a-f]{64}$")


class Confidence(Frozen):
    """A graded confidence beside the choice: `levels` steps, or a slider from 0 to 100."""

    levels: int = Field(default=3, ge=2, le=7)
    slider: bool = False
    low: str = "unsure"
    high: str = "certain"


class Payload(Frozen):
    """What trials of all types say: the phase, the line that tells where one is, feedback and lock-out."""

    phase: Literal["practice", "train", "test"]
    question: str = ""
    """The heading of the trial; '' for the trial type's own."""
    options: tuple[str, ...] = ()
    """Ids of the answers in displayed order; they tell nothing about which is right."""
    feedback: bool = False
    """Whether the right answer is told after the response."""
    lockout_ms: int = Field(default=0, ge=0)
    """No answer is taken before."""
    session: int = Field(default=0, ge=0)
    session_count: int = Field(default=1, ge=0)
    index: int = Field(default=0, ge=0)
    """From 1 to `count` in each block; 0 shows no line."""
    count: int = Field(default=0, ge=0)

    def fault(self, response: str, body: Mapping[str, Any]) -> str:
        """Say why a response cannot count, '' if it can; `body` is the whole event."""
        if self.options and response not in self.options:
            return "the response is not among the options of this trial"
        return ""

    @model_validator(mode="after")
    def _told(self) -> Payload:
        if fault := place_fault(self.model_dump()):
            raise ValueError(fault)
        return self


class Example(Frozen):
    """A training example that stays within reach."""

    image: Hash
    explanation: Hash | None = None
    predicted: str


class Predict(Payload):
    """`predict`: train-then-predict with a reservoir."""

    image: Hash
    explanation: Hash | None = None
    """Always null at test."""
    predicted: str | None = None
    """Class the model answered (train only)."""
    reservoir: tuple[Example, ...] = ()


class Grid(Frozen):
    """One grid of reference pictures."""

    polarity: Literal["max", "min", "base"]
    """Strongly activating, weakly activating, or one picture the two queries were made from."""
    label: str
    pictures: tuple[Hash, ...] = Field(min_length=1, max_length=16)


class ForcedChoice(Payload):
    """`forced_choice`: two queries beside reference grids (0, 1 or 2 of them), with graded confidence."""

    references: tuple[Grid, ...] = Field(default=(), max_length=3)
    queries: tuple[Hash, Hash]
    """Pictures of the two options, in their order."""
    arrangement: Literal["stacked", "side_by_side"] = "side_by_side"
    confidence: Confidence | None = None

    @model_validator(mode="after")
    def _two(self) -> ForcedChoice:
        if len(self.options) != 2:
            raise ValueError("a forced choice has two options")
        return self

    def fault(self, response: str, body: Mapping[str, Any]) -> str:
        """Also ask for the confidence that the trial asks for."""
        return super().fault(response, body) or confidence_fault(self.confidence, body)


class Panel(Frozen):
    """One panel above the options: a picture, several in a grid, a text, or both."""

    label: str = ""
    pictures: tuple[Hash, ...] = Field(default=(), max_length=16)
    text: str = ""


class Entry(Frozen):
    """A free answer: text for a person to read, or a number."""

    label: str
    kind: Literal["text", "number"] = "text"
    required: bool = False
    max_length: int = Field(default=500, ge=1, le=2000)
    minimum: float | None = None
    maximum: float | None = None


class Speed(Frozen):
    """Durations of a speeded trial, in ms: fixation, stimulus, mask, then the answer until the deadline.

    They are shown for whole numbers of frames, and what was achieved is recorded beside what was asked for. Response
    times run from the onset of the stimulus, from which on keys are taken; the deadline runs from the end of the mask.
    """

    fixation_ms: int = Field(default=500, ge=0, le=10_000)
    stimulus_ms: int = Field(gt=0, le=10_000)
    mask: Hash | None = None
    mask_ms: int = Field(default=0, ge=0, le=10_000)
    deadline_ms: int = Field(default=1500, gt=0, le=60_000)
    last_counts: bool = False
    """The last answer before the deadline counts, not the first; no answer is 'na'."""


class Choice(Payload):
    """`choice`: choose one of n, or rate, with explanation panels; optionally speeded, with confidence, a slider or a free answer."""

    panels: tuple[Panel, ...] = Field(default=(), max_length=6)
    faces: tuple[Panel, ...] = ()
    """What each option shows, in the order of `options`; a rating has the points of its scale as options."""
    layout: Literal["row", "grid", "list", "scale"] = "row"
    low: str = ""
    """Anchors of a scale."""
    high: str = ""
    confidence: Confidence | None = None
    entry: Entry | None = None
    speed: Speed | None = None
    score: OwnScore | None = None
    """The server fills `{right}` and `{asked}` in the texts of panels with the person's own, once it holds all answers before."""

    @model_validator(mode="after")
    def _faces(self) -> Choice:
        if len(self.faces) != len(self.options):
            raise ValueError("each option needs one face")
        if not self.options and self.entry is None:
            raise ValueError("nothing is asked: give options or an entry")
        return self

    def fault(self, response: str, body: Mapping[str, Any]) -> str:
        """Also ask for the confidence and the entry that the trial asks for."""
        if self.speed is not None and response == "na":
            return ""
        return (
            super().fault(response, body)
            or confidence_fault(self.confidence, body)
            or entry_fault(self.entry, body.get("text"))
        )


class Reveal(Payload):
    """`reveal`: uncover (or click) what is diagnostic of a picture; one round, with or without an oracle."""

    image: Hash
    word: str
    """Class name shown."""
    mode: Literal["reveal", "click"] = "reveal"
    """Uncover a hidden picture, or mark places on a visible one."""
    box_px: int = Field(default=14, ge=1)
    """Side of a revealed box, in image pixels."""
    step_px: int = Field(default=7, ge=1)
    """Largest distance between two boxes in a row, in image pixels."""
    sample_ms: int = Field(default=50, ge=10)
    batch: int = Field(default=10, ge=1)
    """Boxes between two questions to the oracle."""
    limit_ms: int = Field(default=7000, gt=0)
    oracle: bool = False
    """Whether a network is asked if it recognises what is revealed."""
    visible: bool = False
    """Whether the player sees the whole picture, dimmed, and lights up parts of it; the network sees these alone."""
    told: bool = False
    """Whether the player reads what the network took the picture for when it was last asked."""
    max_boxes: int = Field(default=600, ge=1, le=5000)
    size: tuple[int, int]
    """Width and height of the picture, in pixels."""

    def fault(self, response: str, body: Mapping[str, Any]) -> str:
        """Ask for strokes inside the picture, in the order of time, no further apart than allowed."""
        if response not in {"won", "timeout", "skipped", "done"}:
            return "the outcome of a round is won, timeout, skipped or done"
        return strokes_fault(self, body.get("strokes"))


class Draw(Payload):
    """`draw`: draw another example of what one picture shows; strokes are points with times."""

    image: Hash
    """The exemplar."""
    word: str = ""
    """Name of what it shows; '' for none."""
    exemplar_ms: int = Field(default=0, ge=0, le=60_000)
    """How long the exemplar is seen, before the canvas opens; 0 = beside the canvas, all the time."""
    size: tuple[Side, Side]
    """Width and height of the canvas, in its own pixels."""
    pen_px: int = Field(default=6, ge=1, le=100)
    """Width of the line, in canvas pixels."""
    limit_ms: int = Field(default=60_000, ge=1000, le=600_000)
    """Time for the drawing, from the opening of the canvas."""
    max_points: int = Field(default=1500, ge=2, le=2000)
    """Points of all strokes together: 2000 of them fit into one event."""

    def fault(self, response: str, body: Mapping[str, Any]) -> str:
        """Ask for strokes inside the canvas, in the order of time, and at least one where a drawing was handed in."""
        if response not in {"done", "timeout", "skipped"}:
            return "the outcome of a drawing is done, timeout or skipped"
        return drawing_fault(self, body.get("strokes"), empty=response != "done")


def confidence_fault(asked: Confidence | None, body: Mapping[str, Any]) -> str:
    """Say why a confidence cannot count."""
    if asked is None:
        return ""
    given = body.get("confidence")
    if isinstance(given, bool) or not isinstance(given, int | float):
        return "the confidence is missing"
    inside = 0 <= given <= 100 if asked.slider else given in range(1, asked.levels + 1)
    return "" if inside else "the confidence is off its scale"


def entry_fault(asked: Entry | None, given: Any) -> str:
    """Say why a free answer cannot count."""
    if asked is None:
        return ""
    if not given:
        return "the free answer is missing" if asked.required else ""
    if not isinstance(given, str) or len(given) > asked.max_length:
        return f"the free answer is longer than {asked.max_length} characters or no text"
    if asked.kind == "text":
        return ""
    try:
        number = float(given)
    except ValueError:
        return "the free answer is not a number"
    low, high = asked.minimum, asked.maximum
    inside = (low is None or number >= low) and (high is None or number <= high) and number == number
    return "" if inside else "the number is out of its range"


TRIAL_TYPES: dict[str, type[Payload]] = {
    "predict": Predict,
    "forced_choice": ForcedChoice,
    "choice": Choice,
    "reveal": Reveal,
    "draw": Draw,
}


def parse_payload(trial_type: str, payload: str | Mapping[str, Any], *, where: str = "trial") -> Payload:
    """Read a payload.

    Raises
    ------
    LimenError
        If the trial type is not known, or a field is missing, unknown or of the wrong type.
    """
    if trial_type not in TRIAL_TYPES:
        raise unknown(f"{where}, trial type", trial_type, list(TRIAL_TYPES))
    data = payload if isinstance(payload, str) else json.dumps(payload)
    try:
        return TRIAL_TYPES[trial_type].model_validate_json(data)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        path = ".".join(str(part) for part in fault["loc"])
        raise LimenError(f"{where}, payload of '{trial_type}', key '{path}': {fault['msg']}.") from None


def pictures_of(payload: Any) -> Iterator[str]:
    """Yield the hash of every picture a payload (plain data) shows, in the order of the payload."""
    if isinstance(payload, str):
        if _HASH.match(payload):
            yield payload
    elif isinstance(payload, Mapping):
        for value in payload.values():
            yield from pictures_of(value)
    elif isinstance(payload, list | tuple):
        for value in payload:
            yield from pictures_of(value)
