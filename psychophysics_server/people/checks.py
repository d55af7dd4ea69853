"""The checks engine: rules fixed before the data, the same live, in the export and in an analysis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from statistics import median
from typing import Any, Literal

from stimuli.records import Checks, Rules

from ..sessions.schedule import Answer, counting, practice_state
from ..study.correct import correctness
from ..study.frozen import Trial

Severity = Literal["exclude", "flag"]
Stage = Literal["consent", "instructions", "quiz", "practice", "end"]
FLAG = "flag:"
"""Before the name of a rule that only marks a person, where values are stored."""


@dataclass(frozen=True, kw_only=True)
class Timed(Answer):
    """An answer that counts, with what the rules look at beside the response."""

    rt_ms: float
    """Response time in milliseconds, NaN if the browser gave none."""
    input: str = ""
    """key, mouse, touch, pen, or ''."""
    focus_lost: int = 0
    """How often the page lost the focus or was hidden during the trial."""
    text: str = ""
    """A free answer."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a session went apart from its answers."""

    total_seconds: float
    """From opening to the end."""
    instruction_seconds: float = math.nan
    """On the instructions, NaN if they were never read to the end."""
    longest_gap_seconds: float = 0.0
    """Longest pause between two events."""
    quiz_attempts: int | None = None
    """Tries at the questions until all was right, one more than were taken if it never was; None without questions."""
    honeypots: int = 0
    """How often consent came with the field filled in that no person sees."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the rules look at, for one person; None where the study has nothing to look at, NaN where data lack."""

    catch_accuracy: float | None
    practice_attempts: int | None
    """Attempts until practice was passed: the smallest number that is still possible; one above the limit if none is."""
    quiz_attempts: int | None
    instruction_seconds: float
    total_seconds: float
    median_rt_ms: float
    """Over the test trials."""
    too_fast_share: float | None
    """Share of test answers below `too_fast_ms`."""
    choices_per_side: int | None
    """How often the least chosen position was chosen, among test trials that are no rating scale."""
    same_side_share: float | None
    """Share of the more frequent side among test answers with two options."""
    same_side_run: int | None
    """Longest run of test answers at the same position."""
    longest_gap_seconds: float
    focus_losses: int
    """Over all trials."""
    touch_answers: int
    """Answers given by touch, over all trials."""
    honeypots: int
    """How often consent came with the field filled in that no person sees."""
    test_accuracy: float
    """Over the test trials that are not catch trials; no rule reads it."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a rule looks at (a field of `Observed`), which way its threshold points, and when it can be judged."""

    looks_at: str
    way: Literal["at least", "at most"]
    stage: Stage = "end"
    grows: bool = False
    """Whether the value never falls while a session goes on, so that a threshold once passed stays passed."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One rule applied to one person."""

    name: str
    value: float | None
    threshold: float
    passed: bool
    severity: Severity = "exclude"

    @property
    def key(self) -> str:
        """The name under which the value is stored: flags stand apart from rules that exclude."""
        return f"{FLAG}{self.name}" if self.severity == "flag" else self.name


RULES: dict[str, Rule] = {
    "catch_accuracy": Rule(looks_at="catch_accuracy", way="at least"),
    "practice_attempts": Rule(looks_at="practice_attempts", way="at most", stage="practice", grows=True),
    "quiz_attempts": Rule(looks_at="quiz_attempts", way="at most", stage="quiz", grows=True),
    "min_instruction_seconds": Rule(looks_at="instruction_seconds", way="at least", stage="instructions"),
    "min_total_seconds": Rule(looks_at="total_seconds", way="at least"),
    "max_total_seconds": Rule(looks_at="total_seconds", way="at most", grows=True),
    "min_median_rt_ms": Rule(looks_at="median_rt_ms", way="at least"),
    "max_too_fast_share": Rule(looks_at="too_fast_share", way="at most"),
    "min_choices_per_side": Rule(looks_at="choices_per_side", way="at least"),
    "max_same_side_share": Rule(looks_at="same_side_share", way="at most"),
    "max_same_side_run": Rule(looks_at="same_side_run", way="at most", grows=True),
    "max_gap_seconds": Rule(looks_at="longest_gap_seconds", way="at most", grows=True),
    "max_focus_losses": Rule(looks_at="focus_losses", way="at most", grows=True),
    "no_touch": Rule(looks_at="touch_answers", way="at most", grows=True),
    "no_honeypot": Rule(looks_at="honeypots", way="at most", stage="consent", grows=True),
}
"""Every field of `stimuli.records.Rules`; a test walks both."""


def observe(
    trials: Sequence[Trial], answers: Sequence[Timed], course: Course, *, attempts: int, too_fast_ms: float
) -> Observed:
    """Measure one person's conduct.

    Parameters
    ----------
    trials
        The schedule.
    answers
        Answers that count, in the order of seq.
    course
        How the session went apart from them.
    attempts
        Largest number of practice attempts.
    too_fast_ms
        What counts as too fast, in milliseconds.
    """
    held = {answer.trial_id: answer for answer in counting(trials, answers)}
    tests = [trial for trial in trials if trial.phase == "test"]
    given = [(trial, held[trial.trial_id]) for trial in tests if trial.trial_id in held]
    right = {trial.trial_id: correctness(trial, a.response, a.text) for trial, a in given if trial.asks}
    catch = [trial for trial in tests if trial.is_catch and trial.asks]
    times = [answer.rt_ms for _, answer in given if not math.isnan(answer.rt_ms)]
    state = practice_state(trials, answers, attempts)
    return Observed(
        catch_accuracy=_mean([right[t.trial_id] for t in catch if t.trial_id in right]) if catch else None,
        practice_attempts=None if not state.attempt else state.attempt + (state.wrong > 0),
        quiz_attempts=course.quiz_attempts,
        instruction_seconds=course.instruction_seconds,
        total_seconds=course.total_seconds,
        median_rt_ms=float(median(times)) if times else math.nan,
        too_fast_share=_too_fast(given, too_fast_ms) if any(map(_decides, tests)) else None,
        choices_per_side=_fewest(tests, given),
        same_side_share=_same_side(given) if any(len(trial.options) == 2 for trial in tests) else None,
        same_side_run=_longest_run(given) if any(len(trial.options) > 1 for trial in tests) else None,
        longest_gap_seconds=course.longest_gap_seconds,
        focus_losses=sum(answer.focus_lost for answer in answers),
        touch_answers=sum(answer.input == "touch" for answer in answers),
        honeypots=course.honeypots,
        test_accuracy=_mean([right[t.trial_id] for t in tests if not t.is_catch and t.trial_id in right]),
    )


def option_position(trial: Trial, response: str) -> int | None:
    """Return where a response stood among the displayed options, from 0; None if it was none of them."""
    return trial.options.index(response) if response in trial.options else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _decides(trial: Trial) -> bool:
    """Whether a trial asks for one choice, whose time means something."""
    return bool(trial.options) or (trial.asks and trial.trial_type not in {"reveal", "draw"})


def _too_fast(given: Sequence[tuple[Trial, Timed]], too_fast_ms: float) -> float:
    times = [answer.rt_ms for trial, answer in given if _decides(trial) and not math.isnan(answer.rt_ms)]
    return _mean([float(time < too_fast_ms) for time in times])


def _scale(trial: Trial) -> bool:
    return trial.payload.get("layout") == "scale"


def _fewest(tests: Sequence[Trial], given: Sequence[tuple[Trial, Timed]]) -> int | None:
    """Count the choices of the least chosen position; trials with different numbers of options are counted apart."""
    counts: dict[int, Counter[int]] = {
        len(trial.options): Counter() for trial in tests if len(trial.options) > 1 and not _scale(trial)
    }
    for trial, answer in given:
        position = option_position(trial, answer.response)
        if len(trial.options) in counts and position is not None and not _scale(trial):
            counts[len(trial.options)][position] += 1
    return min((chosen[place] for n, chosen in counts.items() for place in range(n)), default=None)


def _same_side(given: Sequence[tuple[Trial, Timed]]) -> float:
    sides = [option_position(trial, answer.response) for trial, answer in given if len(trial.options) == 2]
    chosen = [side for side in sides if side is not None]
    return max(chosen.count(0), chosen.count(1)) / len(chosen) if chosen else math.nan


def _longest_run(given: Sequence[tuple[Trial, Timed]]) -> int:
    """Count the longest run of answers at one position, in the order of the schedule; no choice ends a run."""
    asked = sorted((pair for pair in given if len(pair[0].options) > 1), key=lambda pair: pair[0].position)
    places = [(len(trial.options), option_position(trial, answer.response)) for trial, answer in asked]
    return max((len(list(run)) for place, run in groupby(places) if place[1] is not None), default=0)


def judge(checks: Checks, observed: Observed, *, stages: Collection[Stage] | None = None) -> list[Verdict]:
    """Apply every rule the study declares, those that exclude first, then those that only mark.

    A value that lacks (NaN) fails, one that cannot exist (None) passes.

    Parameters
    ----------
    stages
        Judge only rules that can be judged by then (a session that is not over); all if left out.
    """
    return [
        *_judge(checks, observed, severity="exclude", stages=stages),
        *_judge(checks.flag, observed, severity="flag", stages=stages),
    ]


def certain(checks: Checks, observed: Observed) -> list[Verdict]:
    """Return the verdicts that a session which is not over has failed for good, whatever is still answered."""
    return [
        verdict
        for verdict in judge(checks, observed)
        if RULES[verdict.name].grows
        and not verdict.passed
        and verdict.value is not None
        and not math.isnan(verdict.value)
    ]


def _judge(rules: Rules, observed: Observed, *, severity: Severity, stages: Collection[Stage] | None) -> list[Verdict]:
    verdicts = []
    for name, rule in RULES.items():
        threshold = _threshold(rules, name)
        if threshold is None or (stages is not None and rule.stage not in stages):
            continue
        value = getattr(observed, rule.looks_at)
        passed = value is None or (value >= threshold if rule.way == "at least" else value <= threshold)
        verdicts.append(Verdict(name=name, value=value, threshold=threshold, passed=bool(passed), severity=severity))
    return verdicts


def _threshold(rules: Rules, name: str) -> float | None:
    """Return a rule's threshold, None if it is off; a rule that is only on or off allows none."""
    given = getattr(rules, name)
    if isinstance(given, bool):
        return 0.0 if given else None
    return None if given is None else float(given)


def from_export(rows: Sequence[Mapping[str, Any]]) -> list[Observed]:
    """Read what was observed of people from the session rows of an export, for judging it under other thresholds.

    A table cannot tell what a study lacks from what a person lacks: a column that is empty for everyone is the former.
    `too_fast_share` stands for the study's own `too_fast_ms`; another limit needs the answers (`conduct.recheck`).
    """
    names = [one.name for one in fields(Observed)]
    values = [{name: _number(row.get(name)) for name in names} for row in rows]
    for found in values:
        found["practice_attempts"] = found["practice_attempts"] or math.nan
    empty = {name for name in names if all(math.isnan(found[name]) for found in values)}
    return [Observed(**{name: None if name in empty else found[name] for name in names}) for found in values]  # type: ignore[arg-type]


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    """Name the rules that exclude a person."""
    return [verdict.name for verdict in verdicts if not verdict.passed and verdict.severity == "exclude"]


def flagged(verdicts: Sequence[Verdict]) -> list[str]:
    """Name the rules that mark a person for a look."""
    return [verdict.name for verdict in verdicts if not verdict.passed and verdict.severity == "flag"]
