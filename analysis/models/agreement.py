"""Agreement with a prediction: accuracy apart where the model was right and wrong, against chance, and the bias between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered

from ..people import conditions_of, mean_estimate
from ..results import Estimate, Result, holm
from .self_ratings import rating_estimates

MIDDLE = 2.5
RIGHT, WRONG = "right", "wrong"


def by_side(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are about a prediction, `correct` by the side of the scale, and the `rating` 1 to 4.

    Raises
    ------
    LimenError
        If a column is missing.
    """
    lacking = [name for name in ("response", "expected", "participant_id", "condition") if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"agreement analysis: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    expected = pd.to_numeric(trials["expected"], errors="coerce")
    rating = pd.to_numeric(trials["response"], errors="coerce")
    kept = expected.notna() & rating.notna()
    correct = ((rating > MIDDLE) == (expected > MIDDLE)).astype(float)
    machine = pd.Series(np.where(expected > MIDDLE, RIGHT, WRONG), index=trials.index)
    return trials.assign(correct=correct, rating=rating, machine=machine)[kept]


@registered("analysis", version=2, citation="arXiv:2112.03184")
def agreement(trials: pd.DataFrame, *, baseline: str = "baseline", chance: float = 0.5, level: float = 0.95) -> Result:
    """Compare accuracy with chance, apart for right and wrong predictions, and split it into sensitivity and bias.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `response` and `expected` (points 1 to 4); rows of self-ratings
        (`item_id` 'rating before', 'rating after' and 'rating told') are read apart.
    baseline : str
        Listed first.
    chance : float
        Accuracy of guessing a side.
    level : float
        Level of the t intervals.

    Returns
    -------
    Result
        For each condition 'accuracy, machine right', 'accuracy, machine wrong' and 'accuracy' (pooled), each tested against
        chance over participants (Holm over conditions); 'sensitivity' (their sum less 1), 'bias to agree' (right less
        wrong, 0 without bias); 'understanding' before, after, and told the own score, with the changes between, where it was
        asked (`self_ratings`). For two or more conditions also each one's 'difference' from the baseline (Welch).
    """
    data = by_side(trials)
    people = data.groupby(["condition", "participant_id", "machine"], sort=True)["correct"].mean().unstack()
    names = conditions_of(data, baseline)
    sides = [side for side in (RIGHT, WRONG) if side in people.columns]
    if len(sides) < 2:
        return Result(name="agreement", title="Agreement with the prediction", role="primary", flags=("undefined",),
                      method="Not possible: the table does not hold both right and wrong predictions.")  # fmt: skip
    people = people.dropna()
    people = people.assign(pooled=people[sides].mean(axis=1), sensitivity=people[RIGHT] + people[WRONG] - 1)
    people["bias"] = people[RIGHT] - people[WRONG]
    told = (
        ("accuracy, machine right", RIGHT, chance),
        ("accuracy, machine wrong", WRONG, chance),
        ("accuracy", "pooled", chance),
        ("sensitivity", "sensitivity", 0.0),
        ("bias to agree", "bias", 0.0),
    )
    estimates: list[Estimate] = []
    for quantity, column, null in told:
        values = {
            name: people.loc[people.index.get_level_values("condition") == name, column].to_numpy() for name in names
        }
        estimates += _adjusted([_against(values[name], null, quantity, name, level) for name in names])
        gaps = [_gap(values[name], values[names[0]], quantity, f"{name} - {names[0]}", level) for name in names[1:]]
        estimates += _adjusted(gaps)
    estimates += rating_estimates(trials, names, level)
    method = (
        "An answer is right if it is on the true side of the scale. Accuracy is averaged within each participant, apart for "
        "predictions that are right and wrong, since a bias to agree is invisible in the pooled number. Tests are t tests over "
        f"participants, against chance ({chance:g}) or zero, adjusted by Holm's rule within each quantity; differences between "
        f"conditions are Welch's. Intervals are {level:.0%}, not adjusted."
    )
    return Result(
        name="agreement", title="Agreement with the prediction", role="primary", method=method,
        estimates=tuple(estimates), points=people.reset_index(),
    )  # fmt: skip


def _against(values: np.ndarray, null: float, quantity: str, label: str, level: float) -> Estimate:
    item = mean_estimate(values, quantity=quantity, label=label, level=level)
    if not item.interval:
        return item
    t = (item.value - null) / item.extra["standard_error"]
    p = float(2 * stats.t.sf(abs(t), item.df[0]))
    return replace(item, statistic="t", statistic_value=float(t), p=p, extra={**item.extra, "null": null})


def _gap(values: np.ndarray, base: np.ndarray, quantity: str, label: str, level: float) -> Estimate:
    n = len(values) + len(base)
    parts = [one.var(ddof=1) / len(one) if len(one) > 1 else np.nan for one in (values, base)]
    error = float(np.sqrt(sum(parts)))
    gap = float(values.mean() - base.mean()) if len(values) and len(base) else float("nan")
    if not error > 0:
        return Estimate(quantity=f"{quantity} difference", label=label, value=gap, n=n, flags=("no_spread",))
    df = float(sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, (values, base), strict=True)))
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    return Estimate(
        quantity=f"{quantity} difference", label=label, value=gap, low=gap - half, high=gap + half, level=level,
        interval="Welch t", statistic="t", statistic_value=gap / error, df=(df,),
        p=float(2 * stats.t.sf(abs(gap / error), df)), n=n, extra={"standard_error": error, "null": 0.0},
    )  # fmt: skip


def _adjusted(items: Sequence[Estimate]) -> list[Estimate]:
    tested = [item for item in items if np.isfinite(item.p)]
    adjusted = iter(holm(item.p for item in tested))
    rule = "Holm" if len(tested) > 1 else "none, one comparison"
    return [
        replace(item, p_adjusted=next(adjusted), adjustment=rule) if np.isfinite(item.p) else item for item in items
    ]
