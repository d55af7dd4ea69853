"""The checks engine: rules fixed before the data, the same live, in the export and in an analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from stimuli.records import Checks

from .frozen import Trial
from .schedule import Answer, practice_state


@dataclass(frozen=True, kw_only=True)
class Timed(Answer):
    """An answer that counts, with its response time in milliseconds (NaN if the browser gave none)."""

    rt_ms: float


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the rules look at, for one person; None where the study has nothing to look at, NaN where data lack."""

    catch_accuracy: float | None
    practice_attempts: int | None
    """Attempts until practice was passed; one more than were taken if it never was."""
    total_seconds: float
    median_rt_ms: float
    """Over the test trials."""
    same_side_share: float | None
    """Share of the more frequent side among test answers with two options."""
    test_accuracy: float
    """Over the test trials that are not catch trials; no rule reads it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One rule applied to one person."""

    name: str
    value: float | None
    threshold: float
    passed: bool


RULES: dict[str, tuple[str, Literal["at least", "at most"]]] = {
    "catch_accuracy": ("catch_accuracy", "at least"),
    "practice_attempts": ("practice_attempts", "at most"),
    "min_total_seconds": ("total_seconds", "at least"),
    "max_total_seconds": ("total_seconds", "at most"),
    "min_median_rt_ms": ("median_rt_ms", "at least"),
    "max_same_side_share": ("same_side_share", "at most"),
}
"""Rule (a field of `stimuli.records.Checks`) -> what it looks at, and which way its threshold points."""


def observe(trials: Sequence[Trial], answers: Sequence[Timed], *, attempts: int, total_seconds: float) -> Observed:
    """Measure one person's answers.

    Parameters
    ----------
    trials
        The schedule.
    answers
        Answers that count.
    attempts
        Largest number of practice attempts.
    total_seconds
        From opening to the end.
    """
    held = {answer.trial_id: answer for answer in answers}
    tests = [trial for trial in trials if trial.phase == "test"]
    given = [(trial, held[trial.trial_id]) for trial in tests if trial.trial_id in held]
    right = {trial.trial_id: float(answer.response == trial.expected) for trial, answer in given if trial.asks}
    catch = [trial for trial in tests if trial.is_catch]
    times = [answer.rt_ms for _, answer in given if not math.isnan(answer.rt_ms)]
    state = practice_state(trials, answers, attempts)
    return Observed(
        catch_accuracy=_mean([right[t.trial_id] for t in catch if t.trial_id in right]) if catch else None,
        practice_attempts=None if not state.attempt else state.attempt + (state.over and not state.passed),
        total_seconds=total_seconds,
        median_rt_ms=float(median(times)) if times else math.nan,
        same_side_share=_same_side(given) if any(len(trial.options) == 2 for trial in tests) else None,
        test_accuracy=_mean([right[t.trial_id] for t in tests if not t.is_catch and t.trial_id in right]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _same_side(given: Sequence[tuple[Trial, Timed]]) -> float:
    sides = [
        trial.options.index(a.response) for trial, a in given if len(trial.options) == 2 and a.response in trial.options
    ]
    return max(sides.count(0), sides.count(1)) / len(sides) if sides else math.nan


def judge(checks: Checks, observed: Observed) -> list[Verdict]:
    """Apply every rule the study declares; a value that lacks (NaN) fails, one that cannot exist (None) passes."""
    verdicts = []
    for name, (looks_at, way) in RULES.items():
        threshold = getattr(checks, name)
        if threshold is None:
            continue
        value = getattr(observed, looks_at)
        passed = value is None or (value >= threshold if way == "at least" else value <= threshold)
        verdicts.append(Verdict(name=name, value=value, threshold=float(threshold), passed=bool(passed)))
    return verdicts


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    """Name the rules that a person failed."""
    return [verdict.name for verdict in verdicts if not verdict.passed]
