"""What the life cycle says of each event that arrives: whether it can count, and where it takes the session."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection, select

from ..storage.tables import events
from ..study.consent import consent_version
from ..study.frozen import FrozenStudy, Trial
from .lifecycle import AGE, OPEN, QUIZ, RELOAD, Act, after, overdue
from .quiz import Quiz, has_quiz, held_tries, quiz_fault, quiz_state
from .schedule import Blocks
from .score import rule_of, told_fault

JUDGED = frozenset({"consent", "quiz", "trial"})
"""Kinds of event that can count or not; the others only tell."""


class Standing(Protocol):
    """What the life cycle must know of a session's row."""

    @property
    def session(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def opened_at(self) -> float: ...
    @property
    def consented_at(self) -> float | None: ...


class Gate:
    """One batch of one session before the life cycle; it reads the data base only where the study's rules need it.

    `values` are columns of the session's row to write with the batch.
    """

    def __init__(
        self, connection: Connection, study: FrozenStudy, row: Standing, trials: Collection[Trial], *, now: float
    ) -> None:
        self._connection, self._study, self._row, self._trials = connection, study, row, trials
        self._tries: list[list[str]] | None = None
        self._held: Blocks | None = None
        self.session, self.now = row.session, now
        self.values: dict[str, Any] = {}
        self.state: str = row.state
        if overdue(study, row, now):
            self._move("expire", AGE)

    @property
    def quiz(self) -> Quiz:
        """Where the person stands with the questions."""
        if self._tries is None:
            self._tries = held_tries(self._connection, self._study, self.session)
        return quiz_state(self._study, self._tries)

    def attempt(self, trial: Trial, given: int) -> int:
        """Return the attempt an answer belongs to: outside practice there is one, unless blocks can be begun again."""
        again = trial.phase == "practice" or self._study.file.resume.policy == "restart_block"
        return given if again else 1

    def fault(self, kind: str, body: Mapping[str, Any], trial: Trial | None = None, attempt: int = 1) -> str:
        """Say why an event that is new cannot count, '' if it can."""
        if kind not in JUDGED:
            return ""
        if self.state not in OPEN:
            return "the session is over"
        if kind == "consent":
            given = body.get("version", "")
            return "" if given in ("", consent_version(self._study)) else "consent was given to another text"
        if kind == "quiz":
            return quiz_fault(self._study, body, self.quiz)
        if has_quiz(self._study) and not self.quiz.passed:
            return "the questions about the instructions come first"
        if trial is not None and trial.phase != "practice" and self._study.file.resume.policy == "restart_block":
            current = self._blocks.attempt(trial.trial_id)
            if attempt != current:
                return f"this block was begun again: its attempt is number {current}"
        if trial is not None and rule_of(trial) is not None:
            return told_fault(self._connection, self._study, self.session, self._trials, (trial, body))
        return ""

    def take(self, kind: str, body: Mapping[str, Any], trial: Trial | None = None, attempt: int = 1) -> None:
        """Follow an event that was just stored without a fault."""
        if kind == "consent" and body.get("accepted") is True and self._row.consented_at is None:
            self.values |= {"consented_at": self.now, "consent_version": consent_version(self._study)}
            if self.state == "PRE":
                self._move("consent", "")
        elif kind == "quiz":
            assert self._tries is not None
            self._tries.append(body["answers"])
            if self.quiz.over and not self.quiz.passed:
                self._move("screen_out", QUIZ, finished_at=self.now)
        elif kind == "trial" and trial is not None and self._held is not None:
            self._held.answer(trial.trial_id, attempt)
        elif kind == "resume" and self.state == "ACTIVE":
            self._resume()

    def _resume(self) -> None:
        policy = self._study.file.resume.policy
        if policy == "restart_block" and self._held is not None:
            self._held.interrupt()
        elif policy == "refuse" and self._blocks.begun:
            self._move("fail", RELOAD, finished_at=self.now)

    def _move(self, act: Act, reason: str, **values: Any) -> None:
        reached = after(self.state, act)
        if reached is not None:
            self.state = reached
            self.values |= {"state": reached, "reason": reason, **values}

    @property
    def _blocks(self) -> Blocks:
        if self._held is None:
            self._held = held_blocks(self._connection, self._study, self.session, self._trials)
        return self._held


def held_blocks(connection: Connection, study: FrozenStudy, session: str, trials: Collection[Trial]) -> Blocks:
    """Follow a session's blocks through its held answers and, where a block is begun again, its interruptions."""
    query = select(events.c.kind, events.c.trial_id, events.c.attempt)
    query = query.where(
        events.c.session == session, events.c.kind.in_(("trial", "resume")), events.c.fault == ""
    ).order_by(events.c.seq)
    blocks = Blocks(tuple(trials))
    restarts = study.file.resume.policy == "restart_block"
    for row in connection.execute(query):
        if row.kind == "resume" and restarts:
            blocks.interrupt()
        elif row.kind == "trial":
            blocks.answer(row.trial_id, row.attempt)
    return blocks
