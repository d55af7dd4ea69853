"""The words answers are made of: a value with its interval and p, how many stand behind it, and what a failed analysis says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .. import format as write
from ..load.study import Study
from ..results import FLAGS, Estimate, Result

ALPHA = 0.05
LEVEL = 0.95


@dataclass(frozen=True)
class Answer:
    """The sentence at the top of a report, and the sentences below it."""

    sentence: str
    further: str = ""


def observers(study: Study) -> str:
    """Name who was observed."""
    return "simulated observers" if study.simulated else "people"


def capital(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


def p_of(item: Estimate) -> float:
    """Return the adjusted p where one was made, else p."""
    return item.p_adjusted if math.isfinite(item.p_adjusted) else item.p


def p_said(item: Estimate) -> str:
    """Write the p that decides: the adjusted one where one was made."""
    return write.p_equation(p_of(item))


def reliable(item: Estimate) -> bool:
    """Say whether a test told an estimate from its null value."""
    return bool(p_of(item) < ALPHA)


def interval_of(item: Estimate, digits: int = 1, *, scale: float = 100) -> str:
    """Write the interval of an estimate with its level."""
    return write.interval(item.low, item.high, digits, scale=scale)


def points_said(item: Estimate) -> str:
    """Write a difference of shares: points, interval, p."""
    return f"{write.points(item.value)} percentage points {interval_of(item)} of accuracy ({p_said(item)})"


def share_said(item: Estimate, test: Estimate | None = None) -> str:
    """Write a share with its interval, and the p of a test that belongs to it."""
    said = f"{write.percent(item.value)} {interval_of(item)}"
    tested = test or item
    return said + (f" ({p_said(tested)})" if math.isfinite(p_of(tested)) else "")


def number_said(item: Estimate) -> str:
    """Write a number with its interval and p."""
    said = f"{write.number(item.value)} {interval_of(item, 2, scale=1)}"
    return said + (f" ({p_said(item)})" if math.isfinite(p_of(item)) else "")


def tail(study: Study, *, chance: bool = True) -> str:
    """Write how many people, answers and items stand behind the answer, and what guessing would give."""
    trials = study.answers()
    kind = "simulated observer" if study.simulated else "participant"
    parts = [write.count(trials["participant_id"].nunique(), kind), write.count(len(trials), "answer")]
    items = int(trials["item_id"].replace("", float("nan")).nunique())
    said = ", ".join([*parts, *([write.count(items, "item")] if items else [])])
    return said + (f"; guessing gives {write.percent(study.chance)}" if chance and study.chance else "")


def closing() -> str:
    """Say what the intervals and p values of an answer are."""
    return (
        f"Intervals are {LEVEL:.0%}, not adjusted; p is adjusted by Holm's rule where one question has several tests."
    )


def no_evidence() -> str:
    """Say what a test that found nothing does not say."""
    return "That is not evidence of no effect: an equivalence test needs a margin stated beforehand."


def by_value(items: Sequence[Estimate]) -> list[Estimate]:
    """Order estimates, largest first; equal ones by label."""
    return sorted(items, key=lambda item: (-item.value, item.label))


def nothing(study: Study, primary: Result) -> Answer:
    """Say that nothing was estimated, and why."""
    flags = [flag for flag in primary.all_flags() if flag not in ("singular", "few_levels")]
    reasons = "; ".join(FLAGS[flag] for flag in flags) or primary.method.rstrip(".")
    return Answer(f"The study's question has no answer from these data: {reasons} ({tail(study)}).")
