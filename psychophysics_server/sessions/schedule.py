"""The schedule of a session: the stored trials of its cell, and how far a person is on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

from ..study.frozen import FrozenStudy, Trial
from .quiz import tries_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that counts: a trial event without a fault."""

    seq: int
    trial_id: str
    attempt: int
    response: str


class Attempted(Protocol):
    """Anything that answers a trial in some attempt at its block."""

    @property
    def trial_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...


AnswerT = TypeVar("AnswerT", bound=Attempted)


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


def blocks_of(trials: Sequence[Trial]) -> list[tuple[str, int, str, list[Trial]]]:
    """Group the trials outside practice into blocks, in order: name, session, phase, trials."""
    rest = [trial for trial in trials if trial.phase != "practice"]
    grouped = groupby(rest, key=lambda trial: (trial.block, trial.session, trial.phase))
    return [(*key, list(block)) for key, block in grouped]


class Blocks:
    """Which attempt of each block counts: a block that is left unfinished is begun again (`restart_block`).

    The answers of an attempt that was given up are kept and do not count.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        blocks = [[trial.trial_id for trial in block] for *_, block in blocks_of(trials)]
        self._number = {trial_id: number for number, block in enumerate(blocks) for trial_id in block}
        self._sizes = [len(block) for block in blocks]
        self._given: list[set[str]] = [set() for _ in blocks]
        self.attempts = [1] * len(blocks)
        """Attempt of each block, in order."""

    def attempt(self, trial_id: str) -> int:
        """Return the attempt of a trial's block that counts now."""
        return self.attempts[self._number[trial_id]]

    def answer(self, trial_id: str, attempt: int) -> None:
        """Take an answer; practice and attempts that were given up change nothing."""
        number = self._number.get(trial_id)
        if number is not None and attempt == self.attempts[number]:
            self._given[number].add(trial_id)

    def interrupt(self) -> None:
        """Begin every block that is unfinished again: the person has come back after a reload or a pause."""
        for number, given in enumerate(self._given):
            if 0 < len(given) < self._sizes[number]:
                self.attempts[number] += 1
                given.clear()

    @property
    def answered(self) -> set[str]:
        """Trials whose answers count."""
        return set().union(*self._given)

    @property
    def begun(self) -> bool:
        """Whether some trials, but not all of them, are answered."""
        return 0 < len(self.answered) < len(self._number)


def counting(trials: Sequence[Trial], answers: Sequence[AnswerT]) -> list[AnswerT]:
    """Leave out the answers of attempts at a block that were given up: only the last attempt of a block counts.

    Practice keeps all its attempts; `practice_state` follows them.
    """
    number = {trial.trial_id: i for i, (*_, block) in enumerate(blocks_of(trials)) for trial in block}
    last: dict[int, int] = {}
    for answer in answers:
        block = number.get(answer.trial_id)
        if block is not None:
            last[block] = max(last.get(block, 1), answer.attempt)
    return [a for a in answers if a.trial_id not in number or a.attempt == last[number[a.trial_id]]]


def timeline(
    study: FrozenStudy,
    trials: Sequence[Trial],
    *,
    attempts: Sequence[int] = (),
    quiz: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Lay a session's trials out: consent, instructions, quiz, practice, blocks in order, debrief, code.

    Parameters
    ----------
    attempts
        Attempt of each block that counts now; 1 where it is left out.
    quiz
        The questions as they are shown.
    """
    steps: list[dict[str, Any]] = [{"step": "consent"}, {"step": "instructions"}]
    if quiz:
        steps.append({"step": "quiz", "attempts": tries_of(study), "questions": list(quiz)})
    practice = [trial for trial in trials if trial.phase == "practice"]
    if practice:
        shown = [public_trial(trial) for trial in practice]
        steps.append({"step": "practice", "attempts": study.attempts, "trials": shown})
    for number, (name, session, phase, block) in enumerate(blocks_of(trials)):
        step = {"step": "block", "name": name, "session": session, "phase": phase}
        attempt = attempts[number] if attempts else 1
        steps.append({**step, "attempt": attempt, "trials": [public_trial(trial) for trial in block]})
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
        wrong = sum(practice[name].asks and held[attempt, name] not in practice[name].accepted for name in given)
        whole = len(given) == len(practice)
        passed = whole and not wrong
        if passed or not whole or attempt == attempts:
            return Practice(attempt=attempt, answered=tuple(given), wrong=wrong, passed=passed, over=whole)
    raise AssertionError("a practice block has at least one attempt")


def missing_trials(trials: Sequence[Trial], answers: Sequence[Answer], attempts: int) -> list[str]:
    """List the trials of the schedule that no held answer covers, in order."""
    held = {answer.trial_id for answer in counting(trials, answers)}
    missing = [trial.trial_id for trial in trials if trial.phase != "practice" and trial.trial_id not in held]
    state = practice_state(trials, answers, attempts)
    if not state.over:
        missing = [t.trial_id for t in trials if t.phase == "practice" and t.trial_id not in state.answered] + missing
    return missing
