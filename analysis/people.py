"""From answers to one number, or one vector of session accuracies, a person: the unit of every between-people test."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from .results import NAN, Estimate


def person_means(trials: pd.DataFrame) -> pd.DataFrame:
    """Average each person's answers.

    Returns
    -------
    DataFrame
        Columns `participant_id`, `condition`, `accuracy`, `trials`, sorted by condition and person.
    """
    grouped = trials.groupby(["condition", "participant_id"], sort=True)["correct"]
    return grouped.agg(accuracy="mean", trials="size").reset_index()


def person_sessions(trials: pd.DataFrame) -> pd.DataFrame:
    """Average each person's answers within each session.

    Returns
    -------
    DataFrame
        One row a person (index: condition, participant_id), one column a session; NaN where a person has no answer.
    """
    grouped = trials.groupby(["condition", "participant_id", "session"], sort=True)["correct"].mean()
    return grouped.unstack("session")


def session_ends(trials: pd.DataFrame) -> dict[float, float]:
    """Map each session to the number of training examples seen by its end (`k_seen`); to itself where that is unknown."""
    ends = trials.groupby("session", sort=True)["k_seen"].max()
    if ends.isna().any() or not ends.is_monotonic_increasing or ends.duplicated().any():
        return {float(session): float(session) for session in sorted(trials["session"].unique())}
    return dict(zip(ends.index.astype(float), ends.astype(float), strict=True))


def conditions_of(trials: pd.DataFrame, baseline: str) -> list[str]:
    """List the conditions present, the baseline first, then by name."""
    names = sorted(trials["condition"].unique())
    return [baseline, *(name for name in names if name != baseline)]


def mean_estimate(values: np.ndarray, *, quantity: str, label: str, level: float = 0.95, **more: object) -> Estimate:
    """Estimate a mean with its t interval; an interval is refused, by flag, where the values cannot give one."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    mean = float(values.mean()) if n else NAN
    if n < 2:
        flag = "one_participant" if n else "undefined"
        return Estimate(quantity=quantity, label=label, value=mean, n=n, flags=(flag,), **more)  # type: ignore[arg-type]
    deviation = float(values.std(ddof=1))
    extra = {"sd": deviation, "standard_error": deviation / math.sqrt(n), "median": float(np.median(values))}
    if deviation < 1e-12:
        return Estimate(quantity=quantity, label=label, value=mean, n=n, flags=("no_spread",), extra=extra, **more)  # type: ignore[arg-type]
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(
        quantity=quantity, label=label, value=mean, low=mean - half, high=mean + half, level=level,
        interval="t", df=(float(n - 1),), n=n, extra=extra, **more,  # type: ignore[arg-type]
    )  # fmt: skip
