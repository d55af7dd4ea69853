"""Scores beside human Utility on several data sets: each alone, then pooled with data sets as draws from a population."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.registry import LimenError, registered

from ..measures.association import Reliability, fisher_variance
from ..measures.pooling import ENOUGH, Pooled, needed_datasets, random_effects
from ..results import NAN, Estimate, Result, holm
from .link import COEFFICIENTS, Coefficient, correlate, link, share_reached

MOST_ORDERS = 100_000


@dataclass(frozen=True)
class _Block:
    """The methods of one data set under one metric."""

    name: str
    x: np.ndarray
    y: np.ndarray


@registered("analysis", version=1, citation="arXiv:2112.04417")
def link_datasets(
    pairs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    *,
    reliabilities: Mapping[str, Reliability] | None = None,
    level: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Result:
    """Correlate scores with Utility on each data set, and pool the data sets without mixing their levels.

    Parameters
    ----------
    pairs : mapping
        Data set -> (score table, Utilities), each as `link` takes them.
    reliabilities : mapping, optional
        Data set -> reliability of its Utilities.
    level : float
        Level of the intervals.
    bootstrap : int
        Resamples of methods within each data set.
    seed : int
        Of resampling and of random orders.

    Returns
    -------
    Result
        The estimates of `link`, labelled 'METRIC, DATA SET', and for each metric and coefficient: 'pooled COEFFICIENT', of the
        population of data sets (random effects on atanh of the coefficient), with the p of orders permuted within data sets,
        a prediction interval for a new data set and the number of data sets it takes in `extra`; 'spread of COEFFICIENT', the
        standard deviation between data sets on that scale, with its Q-profile interval and Cochran's p; and 'COEFFICIENT
        drawn towards the mean', one a data set. Flag `few_datasets` below 4.

    Raises
    ------
    LimenError
        If no data set is given.
    """
    if not pairs:
        raise LimenError("link: given no data set, allowed are one or more pairs of scores and Utilities.")
    singles = {
        name: link(scores, utilities, reliability=(reliabilities or {}).get(name), level=level, bootstrap=bootstrap, seed=seed)
        for name, (scores, utilities) in pairs.items()
    }  # fmt: skip
    estimates = [
        replace(item, label=f"{item.label}, {name}") for name, one in singles.items() for item in one.estimates
    ]
    points = pd.concat(
        [one.points.assign(dataset=name) for name, one in singles.items() if one.points is not None], ignore_index=True
    )
    pooled: list[Estimate] = []
    for coefficient in COEFFICIENTS:
        pooled += _family(_pooled_metrics(points, coefficient, level, seed))
    flags = ("few_datasets",) if len(pairs) < ENOUGH else ()
    facts = {"datasets": list(pairs), "methods": {name: one.facts["methods"] for name, one in singles.items()}}
    return Result(
        name="link_datasets", title="Do the automatic scores predict what helps people, over data sets?", role="secondary",
        method=_method(next(iter(singles.values())).method, len(pairs), level), estimates=(*estimates, *pooled),
        points=points, flags=flags, facts=facts,
    )  # fmt: skip


def _pooled_metrics(points: pd.DataFrame, coefficient: Coefficient, level: float, seed: int) -> list[Estimate]:
    found: list[Estimate] = []
    for metric, rows in points.groupby("metric", sort=True):
        blocks = [
            _Block(str(name), part["signed"].to_numpy(), part["utility"].to_numpy())
            for name, part in rows.groupby("dataset", sort=True)
        ]
        found += _pooled(str(metric), blocks, coefficient, level, seed)
    return found


def _pooled(
    metric: str, blocks: list[_Block], coefficient: Coefficient, level: float, seed: int
) -> list[Estimate]:  # fmt: skip
    values = {one.name: float(correlate(one.x, one.y, coefficient)) for one in blocks if len(one.x) >= 2}
    usable = [one for one in blocks if _usable(values.get(one.name, NAN), len(one.x), coefficient)]
    left_out = [one.name for one in blocks if one not in usable]
    quantity = f"pooled {coefficient}"
    n = len(usable)
    if n < 2:
        return [
            Estimate(
                quantity=quantity, label=metric, value=NAN, n=n, unit="data sets", flags=("few_datasets",),
                extra={"left_out": ", ".join(left_out)},
            )
        ]  # fmt: skip
    r = np.array([values[one.name] for one in usable])
    variance = np.array([fisher_variance(v, len(one.x), coefficient) for v, one in zip(r, usable, strict=True)])
    found = random_effects(np.arctanh(r), variance, level=level)
    p, how = block_p(usable, coefficient, seed=seed)
    flags = ("few_datasets",) if n < ENOUGH else ()
    extra: dict[str, Any] = {
        "permutation": how, "p_random_effects": found.p, "left_out": ", ".join(left_out), "tau": found.tau,
        "prediction_low": math.tanh(found.prediction_low), "prediction_high": math.tanh(found.prediction_high),
        "datasets_for_power": needed_datasets(found.mean, found.tau, float(variance.mean())), "null": 0.0,
        "points": sum(len(one.x) for one in usable),
    }  # fmt: skip
    whole = Estimate(
        quantity=quantity, label=metric, value=math.tanh(found.mean), low=math.tanh(found.low),
        high=math.tanh(found.high), level=level, interval="t over data sets, on atanh", p=p, n=n,
        unit="data sets", flags=flags, extra=extra,
    )  # fmt: skip
    return [whole, _spread(metric, found, coefficient, level, flags), *_each(metric, found, usable, coefficient, level)]


def _usable(value: float, n: int, coefficient: Coefficient) -> bool:
    return math.isfinite(value) and abs(value) < 1 - 1e-9 and math.isfinite(fisher_variance(value, n, coefficient))


def _spread(metric: str, found: Pooled, coefficient: Coefficient, level: float, flags: tuple[str, ...]) -> Estimate:
    return Estimate(
        quantity=f"spread of {coefficient}", label=metric, value=found.tau, low=found.tau_low, high=found.tau_high,
        level=level, interval="Q profile", statistic="Q", statistic_value=found.q, df=(float(found.k - 1),), p=found.q_p,
        n=found.k, unit="data sets", flags=flags, extra={"scale": "atanh", "null": 0.0},
    )  # fmt: skip


def _each(
    metric: str, found: Pooled, blocks: list[_Block], coefficient: Coefficient, level: float
) -> list[Estimate]:  # fmt: skip
    from scipy import stats

    half = float(stats.norm.ppf((1 + level) / 2)) * found.each_error
    return [
        Estimate(
            quantity=f"{coefficient} drawn towards the mean", label=f"{metric}, {one.name}", value=math.tanh(value),
            low=math.tanh(value - reach), high=math.tanh(value + reach), level=level,
            interval="partial pooling on atanh, given the spread", n=len(one.x), unit="methods",
        )
        for one, value, reach in zip(blocks, found.each, half, strict=True)
    ]  # fmt: skip


def block_p(blocks: list[_Block], coefficient: Coefficient, *, seed: int = 0) -> tuple[float, str]:
    """Return the p of the mean coefficient under orders permuted within each data set.

    Coefficients are weighted by methods less 1. All combinations of orders where there are at most 100,000, else so many
    random ones.
    """
    weights = np.array([len(one.x) - 1 for one in blocks], dtype=float)
    weights /= weights.sum()
    observed = float(weights @ [float(correlate(one.x, one.y, coefficient)) for one in blocks])
    every = math.prod(math.factorial(len(one.x)) for one in blocks) <= MOST_ORDERS
    rng = np.random.default_rng(seed)
    total = np.zeros(1)
    for weight, one in zip(weights, blocks, strict=True):
        n = len(one.x)
        if every:
            orders = np.array(list(itertools.permutations(range(n))))
            total = (total[:, None] + weight * correlate(one.x, one.y[orders], coefficient)).ravel()
        else:
            orders = rng.permuted(np.tile(np.arange(n), (MOST_ORDERS, 1)), axis=1)
            total = total + weight * correlate(one.x, one.y[orders], coefficient)
    p, how = share_reached(total, observed, every, seed=seed)
    return p, f"{how}, within data sets"


def _family(estimates: list[Estimate]) -> list[Estimate]:
    """Adjust the pooled p values over the metrics of one coefficient."""
    members = [i for i, item in enumerate(estimates) if item.quantity.startswith("pooled")]
    adjusted = dict(zip(members, holm(estimates[i].p for i in members), strict=True))
    return [
        replace(item, adjustment="Holm over metrics", p_adjusted=adjusted[i]) if i in adjusted else item
        for i, item in enumerate(estimates)
    ]


def _method(single: str, datasets: int, level: float) -> str:
    text = (
        f"Each data set alone: {single} Pooled: atanh of each data set's coefficient with its sampling variance (1 / (n - 3); "
        "Spearman's and Kendall's by their own large-sample formulas) in a normal random-effects model; the spread by Paule and "
        "Mandel with its Q-profile interval, the mean counts every data set alike, with Student's interval on k - 1 degrees of freedom, which "
        "holds its level however far data sets differ and is wider than need be where their precisions do. p of the pooled "
        "coefficient is from orders permuted within data sets, so levels of data sets never count; Holm-adjusted over metrics. It speaks of these data sets, the interval of others like them. "
        f"Data sets with a coefficient of exactly 1 or too few methods for a variance are left out, by name. Intervals are {level:.0%}."
    )
    if datasets < ENOUGH:
        text += f" {datasets} data sets cannot tell how far data sets differ: read the interval of the spread, not its estimate."
    return text
