"""Comparisons of groups without a model of items: Welch, ranks, several groups at once, equivalence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep

from bench.registry import LimenError


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of two groups of independent units, first less second.

    Attributes
    ----------
    difference, low, high : of the means, Welch's 95 % interval
    t, df, p : Welch's test
    d, g : difference over the pooled standard deviation of the units (ddof 1), and corrected for small samples
    cliff, cliff_low, cliff_high : 2 P(first > second) - 1, ties by half, with the interval of Brunner and Munzel
    brunner_munzel_p, mann_whitney_p : float
    n : sizes of the groups
    """

    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float
    d: float
    g: float
    cliff: float
    cliff_low: float
    cliff_high: float
    brunner_munzel_p: float
    mann_whitney_p: float
    n: tuple[int, int]


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compare two groups, one value a unit.

    Raises
    ------
    LimenError
        If a group has fewer than two finite values, or nothing varies.
    """
    a, b = _group("first", first), _group("second", second)
    if np.ptp(np.concatenate([a, b])) == 0:
        raise LimenError("difference: all values of both groups are the same; allowed are values that vary.")
    test = stats.ttest_ind(a, b, equal_var=False)
    gap = float(a.mean() - b.mean())
    inside = test.confidence_interval(0.95)
    df = len(a) + len(b) - 2
    pooled = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / df)
    d = gap / pooled if pooled > 0 else float("nan")
    ranks = rank_compare_2indep(a, b)
    low, high = ranks.conf_int()
    return Difference(
        difference=gap, low=float(inside.low), high=float(inside.high), t=float(test.statistic), df=float(test.df),
        p=float(test.pvalue), d=float(d), g=float(d * (1 - 3 / (4 * df - 1))), cliff=float(2 * ranks.prob1 - 1),
        cliff_low=float(2 * low - 1), cliff_high=float(2 * high - 1), brunner_munzel_p=float(ranks.pvalue),
        mann_whitney_p=float(stats.mannwhitneyu(a, b).pvalue), n=(len(a), len(b)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Kruskal and Wallis's test with Conover's comparisons of all pairs, Holm-adjusted.

    `pairs` has one row a pair: `first`, `second`, `t`, `p`, `p_holm`.
    """

    h: float
    df: int
    p: float
    pairs: pd.DataFrame


def kruskal_conover(groups: Mapping[str, np.ndarray]) -> Ranks:
    """Compare several groups of independent units by ranks.

    Raises
    ------
    LimenError
        If there are fewer than two groups, one has fewer than two finite values, or nothing varies.

    References
    ----------
    Conover and Iman 1979, LA-7677-MS.
    """
    values = {name: _group(name, group) for name, group in groups.items()}
    if len(values) < 2 or np.ptp(np.concatenate(list(values.values()))) == 0:
        raise LimenError(f"kruskal: given {len(values)} groups, allowed are two or more, with values that vary.")
    h, p = stats.kruskal(*values.values())
    ranks = stats.rankdata(np.concatenate(list(values.values())))
    parts = np.split(ranks, np.cumsum([len(group) for group in values.values()])[:-1])
    n, k = len(ranks), len(values)
    spread = ((ranks**2).sum() - n * (n + 1) ** 2 / 4) / (n - 1)
    scale = spread * (n - 1 - h) / (n - k)
    rows = []
    for (one, a), (other, b) in combinations(zip(values, parts, strict=True), 2):
        t = float((a.mean() - b.mean()) / np.sqrt(scale * (1 / len(a) + 1 / len(b))))
        rows.append({"first": one, "second": other, "t": t, "p": float(2 * stats.t.sf(abs(t), n - k))})
    pairs = pd.DataFrame(rows)
    return Ranks(
        h=float(h), df=k - 1, p=float(p), pairs=pairs.assign(p_holm=multipletests(pairs["p"], method="holm")[1])
    )


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two one-sided tests beside the two-sided one: `verdict` is 'different', 'equivalent', 'both' or 'inconclusive'."""

    estimate: float
    low_90: float
    high_90: float
    margin: float
    p: float
    p_difference: float
    verdict: str


def equivalence(
    estimate: float, standard_error: float, df: float, margin: float, *, alpha: float = 0.05
) -> Equivalence:
    """Ask whether an estimate lies within a margin of zero, by two one-sided t tests.

    Parameters
    ----------
    estimate, standard_error, df : of a difference, from whatever model
    margin : what counts as no difference, from the plan; the interval that must lie inside has coverage 1 - 2 alpha

    Raises
    ------
    LimenError
        If the margin or the standard error is not positive.

    References
    ----------
    Schuirmann 1987, doi:10.1007/BF01068419.
    """
    if not margin > 0 or not standard_error > 0:
        raise LimenError(
            f"equivalence: given the margin {margin} and the standard error {standard_error}, allowed are positive numbers."
        )
    below = float(stats.t.sf((estimate + margin) / standard_error, df))
    above = float(stats.t.cdf((estimate - margin) / standard_error, df))
    apart = float(2 * stats.t.sf(abs(estimate) / standard_error, df))
    half = float(stats.t.ppf(1 - alpha, df)) * standard_error
    within, differs = max(below, above) < alpha, apart < alpha
    verdict = ("both" if differs else "equivalent") if within else ("different" if differs else "inconclusive")
    return Equivalence(
        estimate=estimate, low_90=estimate - half, high_90=estimate + half, margin=margin, p=max(below, above),
        p_difference=apart, verdict=verdict,
    )  # fmt: skip


def _group(name: str, values: np.ndarray) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    if len(found) < 2:
        raise LimenError(f"group '{name}': given {len(found)} finite values, allowed are two or more.")
    return found
