"""The schedule of a session: the stored trials of its cell, and how far a person is on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from .frozen import FrozenStudy, Trial


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that counts: a trial event without a fault."""

    seq: int
    trial_id: str
    attempt: int
    response: str


@dataclass(frozen=True, kw_only=True)
class Practice:
    """The state of the practice block, decided by the server."""

    attempt: int
    answered: tuple[str, ...]
    wrong: int
    passed: bool
    over: bool

    def public(self) -> dict[str, Any]:
        """Return what the browser is told."""
        return {**asdict(self), "answered": list(self.answered)}


def public_trial(trial: Trial) -> dict[str, Any]:
    """Return what the browser may see of a trial: never its answer, item, catch flag or condition."""
    return {
        "trial_id": trial.trial_id,
        "trial_type": trial.trial_type,
        "phase": trial.phase,
        "session": trial.session,
        "position": trial.position,
        "payload": dict(trial.payload),
    }


def timeline(study: FrozenStudy, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Lay a session's trials out: consent, instructions, practice, blocks in order, debrief, code."""
    steps: list[dict[str, Any]] = [{"step": "consent"}, {"step": "instructions"}]
    practice = [trial for trial in trials if trial.phase == "practice"]
    if practice:
        shown = [public_trial(trial) for trial in practice]
        steps.append({"step": "practice", "attempts": study.attempts, "trials": shown})
    rest = [trial for trial in trials if trial.phase != "practice"]
    for (name, session, phase), block in groupby(rest, key=lambda trial: (trial.block, trial.session, trial.phase)):
        shown = [public_trial(trial) for trial in block]
        steps.append({"step": "block", "name": name, "session": session, "phase": phase, "trials": shown})
    return [*steps, {"step": "debrief"}, {"step": "code"}]


def practice_state(trials: Sequence[Trial], answers: Iterable[Answer], attempts: int) -> Practice:
    """Follow the practice block: it repeats until one attempt is all correct, at most `attempts` times.

    Parameters
    ----------
    trials
        All trials of the session.
    answers
        Answers that count, any order.
    attempts
        Largest number of attempts.
    """
    practice = {trial.trial_id: trial for trial in trials if trial.phase == "practice"}
    if not practice:
        return Practice(attempt=0, answered=(), wrong=0, passed=True, over=True)
    held = {(answer.attempt, answer.trial_id): answer.response for answer in answers if answer.trial_id in practice}
    for attempt in range(1, attempts + 1):
        given = [name for name in practice if (attempt, name) in held]
        wrong = sum(practice[name].asks and held[attempt, name] != practice[name].expected for name in given)
        whole = len(given) == len(practice)
        passed = whole and not wrong
        if passed or not whole or attempt == attempts:
            return Practice(attempt=attempt, answered=tuple(given), wrong=wrong, passed=passed, over=whole)
    raise AssertionError("a practice block has at least one attempt")


def missing_trials(trials: Sequence[Trial], answers: Sequence[Answer], attempts: int) -> list[str]:
    """List the trials of the schedule that no held answer covers, in order."""
    held = {answer.trial_id for answer in answers}
    missing = [trial.trial_id for trial in trials if trial.phase != "practice" and trial.trial_id not in held]
    state = practice_state(trials, answers, attempts)
    if not state.over:
        missing = [t.trial_id for t in trials if t.phase == "practice" and t.trial_id not in state.answered] + missing
    return missing
