"""Accuracy as one number a participant: by condition, and by condition and session."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.registry import registered

from ..people import conditions_of, mean_estimate, person_means, person_sessions, session_ends
from ..results import Estimate, Result


@registered("analysis", version=1, citation="doi:10.1037/0033-2909.111.3.361")
def participant_means(trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95) -> Result:
    """Average each participant's answers, then describe the participants of each condition.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `session`, `correct` (0/1), `k_seen`.
    baseline : str
        Listed first.
    level : float
        Level of the t intervals.

    Returns
    -------
    Result
        Quantities 'accuracy' (label: condition) and 'accuracy by session' (label: 'condition, session s');
        `points` has one row a participant.
    """
    names = conditions_of(trials, baseline)
    people = person_means(trials)
    estimates = [
        mean_estimate(
            people.loc[people["condition"] == name, "accuracy"].to_numpy(), quantity="accuracy", label=name, level=level
        )
        for name in names
    ]
    estimates += _by_session(trials, names, level)
    method = (
        "Accuracy is the share of test answers (catch trials left out) that match the expected answer, averaged within each "
        f"participant first. Intervals are {level:.0%} t intervals over the participants of a condition."
    )
    return Result(
        name="participant_means", title="Accuracy by condition", role="descriptive", method=method,
        estimates=tuple(estimates), points=people,
    )  # fmt: skip


def _by_session(trials: pd.DataFrame, names: list[str], level: float) -> list[Estimate]:
    table = person_sessions(trials)
    seen = session_ends(trials)
    found = []
    for name in names:
        for session in table.columns:
            values = table.xs(name, level="condition")[session].dropna().to_numpy()
            extra = {"condition": name, "session": float(session), "k_seen": seen[float(session)]}
            item = mean_estimate(
                values, quantity="accuracy by session", label=f"{name}, session {session:g}", level=level
            )
            found.append(_with(item, extra))
    return found


def _with(item: Estimate, extra: dict[str, object]) -> Estimate:
    return replace(item, extra={**item.extra, **extra})
