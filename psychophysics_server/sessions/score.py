"""A person's own score, told on a screen that declares it: counted from the answers the server holds, never from what a browser says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, select

from stimuli.own_score import OwnScore, filled
from stimuli.trials import Choice

from ..storage.tables import events
from ..study.correct import correctness
from ..study.frozen import FrozenStudy, Trial
from .schedule import Answer, counting, missing_trials, practice_state

TOLD = "told_score"
"""Key of a trial's body under which a browser says what it showed."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Right answers among the questions that count."""

    right: int
    asked: int


@dataclass(frozen=True, kw_only=True)
class Held(Answer):
    """An answer that counts, with its free text: an `Answer` that can be judged."""

    text: str = ""


def rule_of(trial: Trial) -> OwnScore | None:
    """Return which answers a trial tells the score of, None if it tells none."""
    shown = trial.shown
    return shown.score if isinstance(shown, Choice) else None


def score_of(trials: Collection[Trial], answers: Sequence[Held], attempts: int, *, telling: Trial) -> Score | None:
    """Count the score that a trial tells; None as long as an answer to a trial before it is missing.

    Answers never change once they are held, and a block that is complete is never begun again, so whenever it is asked
    for it is the same.

    Parameters
    ----------
    trials
        All trials of the session.
    answers
        Its answers that count.
    attempts
        Largest number of attempts at practice.
    """
    rule = rule_of(telling)
    before = [t for t in trials if t.phase == "practice" or t.position < telling.position]
    if rule is None or missing_trials(before, answers, attempts):
        return None
    attempt = practice_state(before, answers, attempts).attempt
    scored = {
        trial.trial_id: trial
        for trial in before
        if rule.counts(phase=trial.phase, block=trial.block, is_catch=trial.is_catch, asks=trial.asks)
    }
    right = {
        one.trial_id
        for one in counting(before, answers)
        if one.trial_id in scored
        and (rule.phase != "practice" or one.attempt == attempt)
        and correctness(scored[one.trial_id], one.response, one.text) == 1
    }
    return Score(right=len(right), asked=len(scored))


def held_answers(connection: Connection, session: str) -> list[Held]:
    """Read the answers of a session that count, with their free texts, in the order of seq."""
    query = select(events.c.seq, events.c.trial_id, events.c.attempt, events.c.body)
    query = query.where(events.c.session == session, events.c.trial_id != "", events.c.fault == "")
    found = []
    for row in connection.execute(query.order_by(events.c.seq)):
        said = json.loads(row.body)
        given = {"response": str(said["response"]), "text": str(said.get("text") or "")}
        found.append(Held(seq=row.seq, trial_id=row.trial_id, attempt=row.attempt, **given))
    return found


def held_score(
    connection: Connection, study: FrozenStudy, session: str, trials: Collection[Trial], telling: Trial
) -> Score | None:
    """Count the score that a trial tells a session from its held answers; None if it is too early."""
    return score_of(trials, held_answers(connection, session), study.attempts, telling=telling)


def tell(
    connection: Connection, study: FrozenStudy, session: str, trials: Collection[Trial], trial_id: str
) -> dict[str, Any] | Literal["not_found", "early"]:
    """Return what a trial tells a session, with its filled payload; or that it tells nothing, or nothing yet."""
    telling = next((trial for trial in trials if trial.trial_id == trial_id), None)
    if telling is None or rule_of(telling) is None:
        return "not_found"
    score = held_score(connection, study, session, trials, telling)
    if score is None:
        return "early"
    return {**asdict(score), "payload": filled(telling.payload, **asdict(score))}


def told_fault(
    connection: Connection,
    study: FrozenStudy,
    session: str,
    trials: Collection[Trial],
    said: tuple[Trial, Mapping[str, Any]],
) -> str:
    """Say why an answer to a trial that tells a score cannot count, '' if it can; `said` is the trial and its body."""
    telling, body = said
    score = held_score(connection, study, session, trials, telling)
    if score is None:
        return "this trial tells a score over answers that are not held yet"
    return "" if body.get(TOLD) == asdict(score) else "the score on the screen is not the one that was told"
