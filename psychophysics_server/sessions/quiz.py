"""The comprehension questions: what is shown, which tries can count, and what they come to, from held events alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, literal_column, select

from ..storage.prepared import Prepared
from ..storage.tables import events
from ..study.frozen import FrozenStudy
from ..wire.requests import parse_body

DEFAULT_TRIES = 2
"""Tries at the questions where the study's checks name no limit."""


@dataclass(frozen=True, kw_only=True)
class Quiz:
    """Where a person stands with the questions, decided by the server."""

    attempt: int
    """The try that is next or, when all is over, the last one; 0 without questions."""
    wrong: int
    """Wrong answers in the last try."""
    passed: bool
    over: bool

    def public(self) -> dict[str, Any]:
        """Return what the browser is told: how many were wrong, never which."""
        return asdict(self)

    @property
    def tries(self) -> int | None:
        """Tries until all was right, one more than were taken if it never was; None without questions."""
        if not self.attempt:
            return None
        return self.attempt + (self.over and not self.passed)


def tries_of(study: FrozenStudy) -> int:
    """Return the largest number of tries."""
    return study.file.checks.quiz_attempts or DEFAULT_TRIES


def has_quiz(study: FrozenStudy) -> bool:
    """Whether the study asks about its instructions."""
    return study.file.texts is not None and bool(study.file.texts.quiz)


def questions(study: FrozenStudy, seed: int) -> list[dict[str, Any]]:
    """Return the questions as a browser may see them: options in an order of the session's seed, no answers."""
    texts = study.file.texts
    shown = []
    for number, question in enumerate(() if texts is None else texts.quiz):
        options = list(question.options)
        random.Random(f"{seed}/quiz/{number}").shuffle(options)
        shown.append({"question": question.question, "options": options})
    return shown


def quiz_state(study: FrozenStudy, tries: Iterable[Sequence[str]]) -> Quiz:
    """Follow the questions: asked until one try is all right, at most `tries_of(study)` times.

    Parameters
    ----------
    tries
        Answers of each try that counts, in the order of seq.
    """
    texts = study.file.texts
    if texts is None or not texts.quiz:
        return Quiz(attempt=0, wrong=0, passed=True, over=True)
    limit, attempt, wrong = tries_of(study), 0, 0
    for answers in tries:
        attempt += 1
        wrong = sum(given != question.answer for given, question in zip(answers, texts.quiz, strict=True))
        if not wrong or attempt >= limit:
            return Quiz(attempt=attempt, wrong=wrong, passed=not wrong, over=True)
    return Quiz(attempt=attempt + 1, wrong=wrong, passed=False, over=False)


def tries_in(rows: Iterable[Row[Any]]) -> list[list[str]]:
    """Read the tries that count from events in the order of seq."""
    held = (parse_body("quiz", row.body) for row in rows if row.kind == "quiz" and not row.fault)
    return [body["answers"] for body in held]


def _tries(dialect: str) -> Executable:
    query = select(events.c.body).where(events.c.session == bindparam("of"), events.c.kind == literal_column("'quiz'"))
    return query.where(events.c.fault == literal_column("''")).order_by(events.c.seq)


TRIES = Prepared(_tries)
"""Asked at every save of a study with questions."""


def held_tries(connection: Connection, study: FrozenStudy, session: str) -> list[list[str]]:
    """Read the tries of a session that count; a study without questions costs no statement."""
    if not has_quiz(study):
        return []
    return [parse_body("quiz", body)["answers"] for (body,) in TRIES.run(connection, of=session)]


def quiz_fault(study: FrozenStudy, body: Mapping[str, Any], state: Quiz) -> str:
    """Say why a try cannot count, '' if it can.

    Parameters
    ----------
    state
        Where the person stood before it.
    """
    asked = () if study.file.texts is None else study.file.texts.quiz
    answers = body.get("answers")
    if not asked:
        return "this study asks no questions about its instructions"
    if state.over:
        return "the questions about the instructions are over"
    if body.get("attempt") != state.attempt:
        return f"the next try at the questions is number {state.attempt}"
    if not isinstance(answers, list) or len(answers) != len(asked):
        return f"a try answers all {len(asked)} questions"
    if any(given not in question.options for given, question in zip(answers, asked, strict=True)):
        return "an answer is not among the options of its question"
    return ""
