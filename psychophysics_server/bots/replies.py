"""What a simulated person gives beside the choice: confidence, ratings, entries, haste, and strokes of a random walk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stimuli.trials import Confidence, Entry, Reveal, Speed

MIND_CHANGES = 0.1
"""Share of speeded answers that are corrected before the deadline, where the last one counts."""
CLICKS = (1, 5)
"""Fewest and most places that a simulated person marks on a visible picture."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """One reply to one trial."""

    response: str
    rt_ms: float
    confidence: float | None = None
    text: str = ""
    timed_out: bool = False
    changes: int = 0
    strokes: Sequence[Any] | None = None
    """`[[ms, x, y], ...]` of a reveal trial; of a drawing, a list of such lists."""

    def body(self) -> dict[str, Any]:
        """Return what an event's body says of the reply (docs/wire.md)."""
        said: dict[str, Any] = {"response": self.response, "rt_ms": self.rt_ms}
        if self.confidence is not None:
            said["confidence"] = self.confidence
        if self.text:
            said["text"] = self.text
        if self.timed_out or self.changes:
            said |= {"timed_out": self.timed_out, "changes": self.changes}
        if self.strokes is not None:
            said["strokes"] = self.strokes
        return said


def certainty(chance_of_right: float, guess: float, correct: bool | None, draw: np.random.Generator) -> float:
    """Return a certainty in [0, 1] that grows with |p - guess| and with being right.

    Half of it is |p - guess| over its largest value, a quarter whether the answer is right, a quarter noise; where
    nothing is right (`correct` is None) the quarter is noise as well.
    """
    distance = abs(chance_of_right - guess) / max(guess, 1 - guess, 1e-9)
    right = draw.random() if correct is None else float(correct)
    return float(0.5 * min(distance, 1.0) + 0.25 * right + 0.25 * draw.random())


def on_scale(asked: Confidence, value: float) -> float:
    """Put a certainty in [0, 1] on the scale that a trial asks for."""
    if asked.slider:
        return round(100 * value, 1)
    return float(1 + min(int(value * asked.levels), asked.levels - 1))


def rating(points: Sequence[str], level: float, draw: np.random.Generator) -> str:
    """Return a point of a scale: normal around `level` (0 lowest, 1 highest) with a sixth of the scale as spread."""
    top = len(points) - 1
    place = draw.normal(level * top, top / 6)
    return points[int(min(max(round(place), 0), top))]


def entry(asked: Entry, draw: np.random.Generator) -> str:
    """Return a free answer that the entry can take; one that is not required is left out half of the time."""
    if not asked.required and draw.random() < 0.5:
        return ""
    if asked.kind == "text":
        return f"Simulated answer {int(draw.integers(1_000_000))}."[: asked.max_length]
    low = asked.minimum if asked.minimum is not None else (asked.maximum or 100.0) - 100.0
    high = asked.maximum if asked.maximum is not None else low + 100.0
    whole = math.floor(draw.uniform(low, high))
    return str(int(min(max(whole, math.ceil(low)), math.floor(high)))) if math.ceil(low) <= high else str(low)


def hurried(asked: Speed, rt_ms: float, draw: np.random.Generator) -> tuple[float, bool, int]:
    """Return (response time, whether the deadline passed, changes of mind) of a speeded answer."""
    if rt_ms > asked.deadline_ms:
        return float(asked.deadline_ms), True, 0
    changes = int(asked.last_counts and draw.random() < MIND_CHANGES)
    return rt_ms, False, changes


def walk(trial: Reveal, boxes: int, draw: np.random.Generator, *, start_ms: float = 0.0) -> list[list[float]]:
    """Return strokes `[ms, x, y]` of a random walk over a picture.

    It starts anywhere; each step is uniform within the largest distance the trial allows, along each axis, and is
    reflected at the picture's edges. Clicks on a visible picture are independent places.

    Parameters
    ----------
    boxes
        Number of strokes, at most what the trial takes.
    start_ms
        Time of the first.
    """
    width, height = trial.size
    edge = np.array([width, height]) - 1e-3
    count = min(boxes, trial.max_boxes)
    if trial.mode == "click":
        places = draw.uniform(0, 1, (count, 2)) * edge
    else:
        places = np.empty((count, 2))
        here = draw.uniform(0, 1, 2) * edge
        for index in range(count):
            places[index] = here
            step = draw.uniform(-1, 1, 2) * min(trial.step_px, *edge)
            here = edge - np.abs(edge - np.abs(here + step))
    times = start_ms + trial.sample_ms * np.arange(count)
    return [[round(float(t), 3), float(x), float(y)] for t, (x, y) in zip(times, places, strict=True)]
