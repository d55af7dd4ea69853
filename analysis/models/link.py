"""Do the automatic scores predict what helps people? Bench scores of the methods beside their human Utility."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import registered

from ..measures.association import Reliability, disattenuated, error_reliability, exact_interval, needed_n
from ..results import NAN, Estimate, Result, holm

Coefficient = Literal["Pearson r", "Spearman rho", "Kendall tau-b"]
COEFFICIENTS: tuple[Coefficient, ...] = get_args(Coefficient)
EXACT_UP_TO = 8
RANDOM_PERMUTATIONS = 100_000
FEWEST = 3


def correlate(x: np.ndarray, y: np.ndarray, coefficient: Coefficient) -> np.ndarray:
    """Correlate `x` and `y` along their last axis; leading axes broadcast.

    Parameters
    ----------
    x, y : array (..., n)
    coefficient : str
        'Pearson r', 'Spearman rho' or 'Kendall tau-b'.

    Returns
    -------
    array (...)
        NaN where either side does not vary.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if coefficient == "Kendall tau-b":
        left, right = np.triu_indices(x.shape[-1], 1)
        x, y = np.sign(x[..., left] - x[..., right]), np.sign(y[..., left] - y[..., right])
    else:
        if coefficient == "Spearman rho":
            x, y = stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1)
        x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    flat = scale < 1e-12
    return np.asarray(np.where(flat, np.nan, (x * y).sum(axis=-1) / np.where(flat, 1.0, scale)))


def permuted(x: np.ndarray, y: np.ndarray, coefficient: Coefficient, *, seed: int = 0) -> tuple[np.ndarray, bool]:
    """Return the coefficient under orders of `y`, and whether these are all orders: n! up to n = 8, else 100,000 random."""
    n = len(x)
    if n <= EXACT_UP_TO:
        orders = np.array(list(itertools.permutations(range(n))))
        return correlate(x, np.asarray(y)[orders], coefficient), True
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(n), (RANDOM_PERMUTATIONS, 1)), axis=1)
    return correlate(x, np.asarray(y)[orders], coefficient), False


def permutation_p(x: np.ndarray, y: np.ndarray, coefficient: Coefficient, *, seed: int = 0) -> tuple[float, str]:
    """Return the two-sided permutation p of a coefficient and how it was computed.

    All n! orders up to n = 8; beyond, 100,000 random ones with p = (1 + b) / (1 + B).
    """
    values, every = permuted(x, y, coefficient, seed=seed)
    return share_reached(values, float(correlate(x, y, coefficient)), every, seed=seed)


def share_reached(values: np.ndarray, observed: float, every: bool, *, seed: int = 0) -> tuple[float, str]:
    """Return the share of orders whose coefficient is at least as far from 0 as the observed one, and of which orders."""
    reached = np.abs(values) >= abs(observed) - 1e-10
    if every:
        return float(reached.mean()), f"exact, all {len(values):,} orders"
    return float((1 + reached.sum()) / (1 + len(values))), f"{len(values):,} random orders, seed {seed}"


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that an exact permutation test of `n` untied values can reach: 2 / n!."""
    return 2 / math.factorial(n)


@registered("analysis", version=1, citation="arXiv:2112.04417")
def link(
    scores: pd.DataFrame,
    utilities: pd.DataFrame,
    *,
    samples: Mapping[str, np.ndarray] | None = None,
    reliability: Reliability | None = None,
    level: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Result:
    """Correlate each metric's scores with Utility over the methods that have both.

    Parameters
    ----------
    scores : DataFrame
        A bench score table: `label` (or `method`), `metric`, `direction`, `value`; one network, one image set, one row a
        method and metric.
    utilities : DataFrame
        `condition`, `utility`; a condition bears the label of its method.
    samples : mapping of array (draws,), optional
        Resampled Utilities by condition (participants resampled), for the second interval.
    reliability : Reliability, optional
        Of Utility, as `split_half_utility` gives it from the trials; by default from the column `low` and `high` of `utilities`.
    level : float
        Level of the intervals.
    bootstrap : int
        Resamples of methods.
    seed : int
        Seed of the resampling and of random permutations.

    Returns
    -------
    Result
        Quantities are the three coefficients, labels the metrics; each estimate carries the exact permutation p, the
        interval over methods, and in `extra` the interval over participants, the leave-one-method-out range and the method
        that moves it most, the smallest possible p, the central part of the permutation null, and how many methods such a
        coefficient takes for power .8 (with the number at both ends of the interval); of Pearson's r also the exact interval
        for bivariate normal points, and the value corrected for the measurement error of both sides. Scores are signed so that a positive coefficient means: the better
        the score, the more useful. `points` has every point.
    """
    points = _points(scores, utilities)
    estimates: list[Estimate] = []
    for metric, rows in points.groupby("metric", sort=True):
        for index, coefficient in enumerate(COEFFICIENTS):
            rng = np.random.default_rng([seed, index])
            item = _coefficient(str(metric), rows, coefficient, samples or {}, level, bootstrap, rng)
            if coefficient == "Pearson r" and np.isfinite(item.value):
                item = _corrected(item, rows, reliability)
            estimates.append(item)
    estimates = _family(estimates)
    n = points["condition"].nunique()
    return Result(
        name="link", title="Do the automatic scores predict what helps people?", role="secondary",
        method=_method(level, bootstrap, seed, bool(samples)), estimates=tuple(estimates), points=points,
        flags=("too_few_methods",) if n < FEWEST else (),
        facts={"methods": n, "smallest_p": smallest_p(n) if n >= 2 else None, "conditions": sorted(points["condition"].unique())},
    )  # fmt: skip


def _points(scores: pd.DataFrame, utilities: pd.DataFrame) -> pd.DataFrame:
    label = "label" if "label" in scores.columns else "method"
    table = scores.assign(condition=scores[label]).rename(columns={"low": "score_low", "high": "score_high"})
    kept = [name for name in ("score_low", "score_high") if name in table.columns]
    table = table[["condition", "metric", "direction", "value", *kept]]
    theirs = [name for name in ("low", "high") if name in utilities.columns]
    joined = table.merge(utilities[["condition", "utility", *theirs]], on="condition", how="inner")
    joined = joined[joined["direction"].isin(["up", "down"]) & joined["value"].notna() & joined["utility"].notna()]
    signed = np.where(joined["direction"] == "down", -joined["value"], joined["value"])
    return joined.assign(signed=signed).sort_values(["metric", "condition"]).reset_index(drop=True)


def _coefficient(
    metric: str, rows: pd.DataFrame, coefficient: Coefficient, samples: Mapping[str, np.ndarray], level: float, bootstrap: int,
    rng: np.random.Generator,
) -> Estimate:  # fmt: skip
    x, y, names = rows["signed"].to_numpy(), rows["utility"].to_numpy(), list(rows["condition"])
    n = len(x)
    if n < FEWEST:
        return Estimate(quantity=coefficient, label=metric, value=NAN, n=n, unit="methods", flags=("too_few_methods",))
    value = float(correlate(x, y, coefficient))
    if math.isnan(value):
        return Estimate(quantity=coefficient, label=metric, value=NAN, n=n, unit="methods", flags=("no_variation",))
    chance, every = permuted(x, y, coefficient)
    p, how = share_reached(chance, value, every)
    null_low, null_high = map(float, np.nanquantile(chance, [(1 - level) / 2, (1 + level) / 2]))
    low, high, degenerate = _over_methods(x, y, coefficient, level, bootstrap, rng)
    extra: dict[str, Any] = {"permutation": how, "smallest_p": smallest_p(n), "degenerate_resamples": degenerate}
    extra |= {"null": 0.0, "null_low": null_low, "null_high": null_high} | _needed(value, low, high, coefficient)
    extra |= _leave_one_out(x, y, names, coefficient) | _over_participants(x, names, samples, coefficient, level)
    return Estimate(
        quantity=coefficient, label=metric, value=value, low=low, high=high, level=level, n=n, unit="methods",
        interval="bootstrap over methods", p=p, extra=extra,
    )  # fmt: skip


def _needed(value: float, low: float, high: float, coefficient: Coefficient) -> dict[str, float]:
    """Say how many methods a coefficient takes for power .8; at the ends of its interval the most is taken inside it."""
    ends = [needed_n(one, coefficient=coefficient) for one in (low, high)]
    most = math.inf if low <= 0 <= high else max(ends)
    return {
        "methods_for_power": needed_n(value, coefficient=coefficient),
        "methods_for_power_low": min(ends),
        "methods_for_power_high": most,
    }


def _corrected(item: Estimate, rows: pd.DataFrame, utility: Reliability | None) -> Estimate:
    """Add the exact interval, and the correlation that scores and Utility without measurement error would have."""
    exact = exact_interval(item.value, item.n, item.level)
    first = interval_reliability(rows, "value", ("score_low", "score_high"))
    second = utility or interval_reliability(rows, "utility", ("low", "high"))
    extra: dict[str, Any] = {"exact_low": exact[0], "exact_high": exact[1]}
    extra |= {"reliability_scores": first.value, "reliability_utility": second.value, "reliability_how": second.how}
    extra |= {"reliability_utility_low": second.low, "reliability_utility_high": second.high}
    extra["ceiling"] = math.sqrt(first.value * second.value) if first.value * second.value > 0 else NAN
    for name, value in (("corrected", item.value), ("corrected_low", exact[0]), ("corrected_high", exact[1])):
        extra[name] = disattenuated(value, first, second)
    return replace(item, extra={**item.extra, **extra})


def interval_reliability(rows: pd.DataFrame, value: str, ends: tuple[str, str], level: float = 0.95) -> Reliability:
    """Estimate a reliability from the width of each method's interval, taken as normal."""
    if not all(name in rows.columns for name in ends):
        return Reliability(NAN, NAN, NAN, len(rows), "not known: no intervals were given")
    low, high = (rows[name].to_numpy(dtype=float) for name in ends)
    errors = (high - low) / (2 * float(stats.norm.ppf((1 + level) / 2)))
    return error_reliability(rows[value].to_numpy(dtype=float), errors)


def _over_methods(
    x: np.ndarray, y: np.ndarray, coefficient: Coefficient, level: float, draws: int, rng: np.random.Generator
) -> tuple[float, float, int]:
    picks = rng.integers(0, len(x), size=(draws, len(x)))
    values = correlate(x[picks], y[picks], coefficient)
    good = values[~np.isnan(values)]
    if len(good) < draws / 2:
        return NAN, NAN, draws - len(good)
    low, high = np.quantile(good, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), draws - len(good)


def _over_participants(
    x: np.ndarray, names: list[str], samples: Mapping[str, np.ndarray], coefficient: Coefficient, level: float
) -> dict[str, float | str]:
    if not all(name in samples for name in names):
        return {"participants_low": NAN, "participants_high": NAN}
    values = correlate(x, np.column_stack([samples[name] for name in names]), coefficient)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"participants_low": float(low), "participants_high": float(high)}


def _leave_one_out(x: np.ndarray, y: np.ndarray, names: list[str], coefficient: Coefficient) -> dict[str, float | str]:
    if len(x) <= FEWEST:
        return {"leave_one_out_low": NAN, "leave_one_out_high": NAN, "most_influential": ""}
    whole = float(correlate(x, y, coefficient))
    keep: Callable[[int], np.ndarray] = lambda i: np.arange(len(x)) != i  # noqa: E731
    values = np.array([float(correlate(x[keep(i)], y[keep(i)], coefficient)) for i in range(len(x))])
    if np.isnan(values).all():
        return {"leave_one_out_low": NAN, "leave_one_out_high": NAN, "most_influential": ""}
    return {
        "leave_one_out_low": float(np.nanmin(values)),
        "leave_one_out_high": float(np.nanmax(values)),
        "most_influential": names[int(np.nanargmax(np.abs(values - whole)))],
    }


def _family(estimates: list[Estimate]) -> list[Estimate]:
    adjusted: dict[int, float] = {}
    for coefficient in COEFFICIENTS:
        members = [i for i, item in enumerate(estimates) if item.quantity == coefficient]
        adjusted |= dict(zip(members, holm(estimates[i].p for i in members), strict=True))
    return [replace(item, adjustment="Holm over metrics", p_adjusted=adjusted[i]) for i, item in enumerate(estimates)]


def _method(level: float, bootstrap: int, seed: int, participants: bool) -> str:
    text = (
        "Each metric's mean score of a method beside the Utility (ratio_of_means) of the condition that showed it. Scores of "
        "metrics where lower is better change sign, so a positive coefficient always means: the better the score, the more "
        "useful to people. Pearson's r, Spearman's rho and Kendall's tau-b with permutation p (all orders up to 8 methods), "
        "Holm-adjusted over the metrics of one coefficient. The range without one method names the method whose removal moves "
        f"the coefficient most. The {level:.0%} interval over methods ({bootstrap:,} resamples, seed {seed}) speaks of new methods"
    )
    if participants:
        text += "; the one over participants holds the methods fixed and shows the error of measuring Utility"
    return text + (
        ". The exact interval of Pearson's r and the number of methods it takes (power .8, two-sided .05) hold for bivariate "
        "normal points; the numbers for rank coefficients are large-sample ones. The corrected r divides by the root of both reliabilities, which are taken as known; it may exceed 1."
    )
