"""A correlation of few points: its exact interval, its power, what n it takes, and what measurement error takes away."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from bench.registry import LimenError

from .agreement import intraclass_correlations

NAN = float("nan")
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
MOST = 100_000
"""Largest sample that `needed_n` looks for."""


def correlation_cdf(r: float, rho: float, n: int) -> float:
    """Return P(R <= r) of the correlation of n draws from a bivariate normal whose correlation is rho.

    References
    ----------
    Hotelling 1953, Journal of the Royal Statistical Society B 15, 193-232, for the density.
    """
    if n < 3:
        raise LimenError(f"correlation, distribution: given {n} points, allowed are 3 or more.")
    # In z = atanh r the density is smooth with tails like exp(-(n - 2) |z|), so a finite range holds all of it.
    centre, reach = math.atanh(rho), max(14 / math.sqrt(n), 40 / (n - 2))
    end = math.atanh(min(max(r, -1 + 1e-15), 1 - 1e-15))
    if end <= centre - reach:
        return 0.0
    if end <= centre:
        return min(1.0, _mass(centre - reach, end, rho, n))
    return max(0.0, 1.0 - _mass(end, max(centre + reach, end), rho, n))


def _mass(low: float, high: float, rho: float, n: int) -> float:
    z = (high - low) / 2 * _NODES + (high + low) / 2
    r = np.tanh(z)
    squared = 2 * (math.log(2) - np.abs(z) - np.log1p(np.exp(-2 * np.abs(z))))  # log(1 - r^2), exact near 1
    logs = (
        math.log(n - 2) + special.gammaln(n - 1) - 0.5 * math.log(2 * math.pi) - special.gammaln(n - 0.5)
        + (n - 1) / 2 * math.log1p(-(rho**2)) + (n - 2) / 2 * squared - (n - 1.5) * np.log1p(-rho * r)
    )  # fmt: skip
    density = np.exp(logs) * special.hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2)
    return float((high - low) / 2 * (_WEIGHTS @ density))


def exact_interval(r: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a product-moment correlation, for bivariate normal points.

    Parameters
    ----------
    r : float
    n : int, of 3 or more
    level : float

    Returns
    -------
    float, float
        The two rho at which so large, or so small, a correlation has probability (1 - level) / 2.
    """
    if not abs(r) < 1 - 1e-12:
        return (NAN, NAN) if math.isnan(r) else (r, r)
    tail = (1 - level) / 2

    def solve(target: float) -> float:
        gap = lambda z: correlation_cdf(r, math.tanh(z), n) - target  # noqa: E731
        start, width = math.atanh(r), 1.0
        while gap(start - width) < 0 or gap(start + width) > 0:
            width *= 2
            if width > 16:
                return math.copysign(1.0, 0.5 - target)
        return math.tanh(float(optimize.brentq(gap, start - width, start + width, xtol=1e-10)))

    return solve(1 - tail), solve(tail)


def fisher_variance(value: float, n: int, coefficient: str) -> float:
    """Return the large-sample variance of atanh of a coefficient; infinite where n is too small.

    References
    ----------
    Fisher 1921; for Spearman's rho Bonett and Wright 2000, Psychometrika 65, 23-28; for Kendall's tau Fieller, Hartley and
    Pearson 1957, Biometrika 44, 470-481.
    """
    if coefficient == "Kendall tau-b":
        return 0.437 / (n - 4) if n > 4 else math.inf
    if n <= 3:
        return math.inf
    return (1 + value**2 / 2) / (n - 3) if coefficient == "Spearman rho" else 1 / (n - 3)


def power_of_correlation(rho: float, n: int, alpha: float = 0.05) -> float:
    """Return the exact power of the two-sided t test of a product-moment correlation, for bivariate normal points."""
    if n < 3 or math.isnan(rho):
        return NAN
    t = float(stats.t.isf(alpha / 2, n - 2))
    critical = t / math.sqrt(n - 2 + t**2)
    return 1 - correlation_cdf(critical, rho, n) + correlation_cdf(-critical, rho, n)


def needed_n(value: float, power: float = 0.8, alpha: float = 0.05, *, coefficient: str = "Pearson r") -> float:
    """Return the smallest n with which a correlation is found with a stated power; infinite beyond 100,000.

    Exact for Pearson's r of bivariate normal points; of the rank coefficients by the large-sample variance of their atanh.
    """
    if math.isnan(value):
        return NAN
    size = abs(value)
    if size >= 1:
        return 5.0 if coefficient == "Kendall tau-b" else 4.0
    if size < 0.008:
        return math.inf  # more than 100,000
    reach = float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) / math.atanh(size)
    if coefficient == "Kendall tau-b":
        return _counted(4 + 0.437 * reach**2, 5)
    if coefficient == "Spearman rho":
        return _counted(3 + (1 + size**2 / 2) * reach**2, 4)
    n = int(min(max(4, math.ceil(reach**2 + 3)), 2 * MOST))
    if n > MOST:
        return math.inf
    while n > 4 and power_of_correlation(size, n - 1, alpha) >= power:
        n -= 1
    while power_of_correlation(size, n, alpha) < power:
        n += 1
    return float(n)


def _counted(n: float, least: int) -> float:
    return float(max(least, math.ceil(n))) if n <= MOST else math.inf


@dataclass(frozen=True)
class Reliability:
    """The share of the variance between methods that is not error of measurement.

    Attributes
    ----------
    value, low, high : the reliability and, of split halves, the range of 95 % of the splits (NaN if it is not known)
    n : methods
    how : in words
    """

    value: float
    low: float
    high: float
    n: int
    how: str


def error_reliability(values: np.ndarray, errors: np.ndarray, how: str = "from the intervals") -> Reliability:
    """Estimate a reliability from the standard error of each method's value: 1 - mean error variance / variance.

    Parameters
    ----------
    values, errors : array (methods,)

    Returns
    -------
    Reliability
        NaN where the errors are unknown, or exceed what varies between methods: then the methods cannot be told apart.
    """
    values, errors = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    known = np.isfinite(errors).all() and len(values) > 2
    between = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    value = 1 - float((errors**2).mean()) / between if known and between > 0 else NAN
    return Reliability(value if value > 0 else NAN, NAN, NAN, len(values), how)


def split_half_utility(
    trials: pd.DataFrame, conditions: list[str], *, baseline: str, halves: int = 1000, seed: int = 0
) -> Reliability:
    """Estimate the reliability of Utility: participants in random halves, conditions correlated, Spearman-Brown.

    Parameters
    ----------
    trials : DataFrame
        `participant_id`, `condition`, `correct`.
    conditions : list
        The conditions whose Utilities are compared, three or more; the baseline is split too.
    halves : int
        Random splits of the participants within each condition.

    Returns
    -------
    Reliability
        The mean of the stepped-up correlations and the range of 95 % of the splits.

    Raises
    ------
    LimenError
        If a condition has fewer than four participants.
    """
    people = trials.groupby(["condition", "participant_id"], sort=True)["correct"].mean()
    groups = {name: people[people.index.get_level_values(0) == name].to_numpy() for name in (baseline, *conditions)}
    few = [name for name, values in groups.items() if len(values) < 4]
    if few:
        raise LimenError(
            f"split halves: condition '{few[0]}' has {len(groups[few[0]])} participants, allowed are 4 or more."
        )
    how = f"split halves of participants ({halves:,} splits), Spearman-Brown"
    if len(conditions) < 3:
        return Reliability(NAN, NAN, NAN, len(conditions), how)
    rng = np.random.default_rng(seed)
    first, second = (np.empty((halves, len(conditions) + 1)) for _ in range(2))
    for place, values in enumerate(groups.values()):
        order = rng.permuted(np.tile(values, (halves, 1)), axis=1)
        half = len(values) // 2
        first[:, place], second[:, place] = order[:, :half].mean(axis=1), order[:, half:].mean(axis=1)
    # The ratio to the baseline multiplies all conditions of a half by one number, which a correlation does not see.
    r = np.array([np.corrcoef(a[1:], b[1:])[0, 1] for a, b in zip(first, second, strict=True)])
    stepped = 2 * r / (1 + r)
    mean_r = float(np.nanmean(r))
    value = 2 * mean_r / (1 + mean_r)
    low, high = np.nanquantile(stepped, [0.025, 0.975])
    return Reliability(value if value > 0 else NAN, float(low), float(high), len(conditions), how)


def image_reliability(values: np.ndarray) -> Reliability:
    """Estimate the reliability of mean scores over images: consistency of the average, from methods x images.

    Parameters
    ----------
    values : array (methods, images)
        Per-image scores; every method on the same images.

    Returns
    -------
    Reliability
        ICC(3,k), consistency of the average, with its F-based interval.

    References
    ----------
    Shrout and Fleiss 1979, Psychological Bulletin 86, 420-428.
    """
    values = np.asarray(values, dtype=float)
    value, low, high = map(float, intraclass_correlations(values).loc["ICC(3,k)", ["value", "low", "high"]])
    return Reliability(
        value if value > 0 else NAN, low, high, len(values), f"ICC(3,k) over {values.shape[1]} images"
    )  # fmt: skip


def disattenuated(value: float, first: Reliability, second: Reliability) -> float:
    """Return a correlation corrected for the measurement error of both sides; it may exceed 1, and is not cut.

    References
    ----------
    Spearman 1904, American Journal of Psychology 15, 72-101.
    """
    product = first.value * second.value
    return value / math.sqrt(product) if product > 0 else NAN
