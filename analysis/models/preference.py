"""Preference between explanations: strengths by Bradley and Terry from choices between two, clustered by participant."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import special, stats

from bench.registry import LimenError, registered

from ..measures.preference import Strengths, bradley_terry
from ..results import Estimate, Result, holm


def choices_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Return a row a choice: `first` (left), `second` (right), `winner` and `participant_id`.

    Raises
    ------
    LimenError
        If a column is missing.
    """
    needed = ("participant_id", "left", "right", "option_position")
    lacking = [name for name in needed if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"preference analysis: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    kept = trials[trials["left"].notna() & trials["right"].notna() & trials["option_position"].isin([0, 1])]
    winner = np.where(kept["option_position"] == 0, kept["left"], kept["right"])
    return pd.DataFrame(
        {"first": kept["left"], "second": kept["right"], "winner": winner, "participant_id": kept["participant_id"]}
    )


@registered("analysis", version=1, citation="doi:10.1093/biomet/39.3-4.324")
def preference(trials: pd.DataFrame, *, reference: str | None = None, level: float = 0.95) -> Result:
    """Estimate how strongly each explanation is preferred, with an advantage of the left side estimated apart.

    Parameters
    ----------
    trials : DataFrame
        One row a choice: `participant_id`, `left`, `right` (the alternatives) and `option_position` (0 or 1 chosen).
    reference : str, optional
        The alternative that others are compared with; the alphabetically first by default.
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'preference': the probability to be chosen over an equally strong mixture of all (the logistic function of the
        strength less the mean strength; chance .5); 'strength difference' from the reference in log-odds, Holm-adjusted;
        'share': the raw share of choices won; 'order' the log-odds of the left side; 'term': an F test that all
        strengths are equal. Standard errors are clustered by participant, t and F tests have people - 1 degrees of freedom.
        Flag `separation` and no strengths where some alternatives never lose to the others.
    """
    choices = choices_of(trials)
    people = int(choices["participant_id"].nunique())
    shares = _shares(choices)
    facts = {"choices": len(choices), "participants": people}
    title = "Which explanation is preferred"
    if people < 2:
        return Result(name="preference", title=title, role="primary", flags=("one_participant",), estimates=shares,
                      facts=facts, method="No strengths: choices of one person or none.")  # fmt: skip
    try:
        found = bradley_terry(choices, cluster="participant_id", order_effect=True, reference=reference)
    except LimenError as error:
        if "never lose" not in str(error):
            raise
        return Result(name="preference", title=title, role="primary", flags=("separation",), estimates=shares,
                      facts=facts, method=f"No strengths: {error}")  # fmt: skip
    estimates = (*_preferences(found, level), *_differences(found, level), *shares, _order(found, level))
    estimates += tuple(_equal(found))
    method = (
        "Bradley-Terry model of each choice with an advantage of the left side, by maximum likelihood; standard errors are "
        "clustered by participant (sandwich, G / (G - 1)). Tests are t tests, and an F test that all strengths are equal "
        f"(Wald, scaled as Hotelling's), with {people} participants; differences are adjusted by Holm's rule. Intervals are "
        f"{level:.0%}, not adjusted."
    )
    return Result(name="preference", title=title, role="primary", method=method, estimates=estimates,
                  facts={**facts, "log_likelihood": found.log_likelihood})  # fmt: skip


def _shares(choices: pd.DataFrame) -> tuple[Estimate, ...]:
    names = sorted({*choices["first"], *choices["second"]}, key=str)
    found = []
    for name in names:
        met = choices[(choices["first"] == name) | (choices["second"] == name)]
        value = float((met["winner"] == name).mean())
        found.append(Estimate(quantity="share", label=str(name), value=value, n=len(met), unit="choices"))
    return tuple(found)


def _preferences(found: Strengths, level: float) -> list[Estimate]:
    """Turn strengths less their mean into probabilities, with intervals made on the scale of log-odds."""
    names = list(found.covariance.index)
    cov, k = found.covariance.to_numpy(), len(names)
    strength = found.table.loc[names, "strength"].to_numpy()
    centre = np.eye(k) - 1 / k
    values, errors = centre @ strength, np.sqrt(np.diag(centre @ cov @ centre))
    df = found.clusters - 1
    half = float(stats.t.ppf((1 + level) / 2, df)) * errors
    return [
        Estimate(
            quantity="preference", label=str(name), value=float(special.expit(value)),
            low=float(special.expit(value - width)), high=float(special.expit(value + width)), level=level,
            interval="t on log-odds, clustered by participant", statistic="t", statistic_value=float(value / error),
            df=(float(df),), p=float(2 * stats.t.sf(abs(value / error), df)), n=found.clusters,
            extra={"strength": float(value), "standard_error": float(error), "null": 0.5},
        )
        for name, value, error, width in zip(names, values, errors, half, strict=True)
    ]  # fmt: skip


def _differences(found: Strengths, level: float) -> list[Estimate]:
    names = list(found.covariance.index)
    base = next(name for name in names if found.table.loc[name, "standard_error"] == 0)
    df, rest = found.clusters - 1, [name for name in names if name != base]
    t = float(stats.t.ppf((1 + level) / 2, df))
    rows = [(name, *map(float, found.table.loc[name, ["strength", "standard_error"]])) for name in rest]
    p = [float(2 * stats.t.sf(abs(value / error), df)) for _, value, error in rows]
    rule = "Holm" if len(rows) > 1 else "none, one comparison"
    return [
        Estimate(
            quantity="strength difference", label=f"{name} - {base}", value=value, low=value - t * error,
            high=value + t * error, level=level, interval="t, clustered by participant", statistic="t",
            statistic_value=value / error, df=(float(df),), p=one, p_adjusted=adjusted, adjustment=rule,
            n=found.clusters, extra={"standard_error": error},
        )
        for (name, value, error), one, adjusted in zip(rows, p, holm(p), strict=True)
    ]  # fmt: skip


def _order(found: Strengths, level: float) -> Estimate:
    value, error = found.order_effect
    df = found.clusters - 1
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    return Estimate(
        quantity="order", label="left", value=value, low=value - half, high=value + half, level=level,
        interval="t, clustered by participant", statistic="t", statistic_value=value / error if error else math.nan,
        df=(float(df),), p=float(2 * stats.t.sf(abs(value / error), df)) if error else math.nan, n=found.clusters,
        extra={"standard_error": error},
    )  # fmt: skip


def _equal(found: Strengths) -> list[Estimate]:
    """Test that all strengths are equal; none where there are too few people for as many strengths."""
    names = [name for name in found.covariance.index if found.table.loc[name, "standard_error"] > 0]
    q, people = len(names), found.clusters
    if people <= q:
        return []
    strength = found.table.loc[names, "strength"].to_numpy()
    wald = float(strength @ np.linalg.solve(found.covariance.loc[names, names].to_numpy(), strength))
    f = wald * (people - q) / (q * (people - 1))
    return [
        Estimate(
            quantity="term", label="all strengths are equal", value=f, statistic="F", statistic_value=f,
            df=(float(q), float(people - q)), p=float(stats.f.sf(f, q, people - q)), n=people,
        )
    ]  # fmt: skip
