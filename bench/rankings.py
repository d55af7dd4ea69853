"""Methods compared over data sets: mean ranks, Friedman's test, and which methods cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from .registry import LimenError, unknown

Groups = Literal["wilcoxon", "nemenyi"]
FEWEST = 6
"""Data sets below which only ranks are given: with 5 the smallest Wilcoxon p is .0625."""


@dataclass(frozen=True, kw_only=True)
class CriticalDifference:
    """Mean ranks with the tests behind a critical-difference diagram.

    Attributes
    ----------
    ranks : Series of mean ranks, best (1) first
    chi2, chi2_p : Friedman's statistic, corrected for ties
    chi2_plain : the textbook statistic, not corrected
    f, f_df, f_p : Iman and Davenport's F of the textbook statistic
    pairs : DataFrame, one row a pair: `first`, `second`, `p` (Wilcoxon signed-rank), `p_holm`
    difference : Nemenyi's critical difference of mean ranks, NaN where Wilcoxon groups were asked for
    cliques : tuples of methods that cannot be told apart, each maximal
    datasets : int
    note : what was left out, and why
    """

    ranks: pd.Series
    chi2: float
    chi2_p: float
    chi2_plain: float
    f: float
    f_df: tuple[int, int]
    f_p: float
    pairs: pd.DataFrame
    difference: float
    cliques: tuple[tuple[str, ...], ...]
    datasets: int
    note: str = ""


def critical_difference(
    scores: pd.DataFrame, *, higher_is_better: bool = True, groups: Groups = "wilcoxon", alpha: float = 0.05
) -> CriticalDifference:
    """Rank methods on each data set and find the groups that cannot be told apart.

    Parameters
    ----------
    scores : DataFrame (datasets, methods), nothing missing
    groups : 'wilcoxon' (pairwise signed-rank tests, Holm) or 'nemenyi' (which depends on the other methods in the pool)

    Raises
    ------
    LimenError
        If there are fewer than two methods or data sets, something is missing, or `groups` is unknown.

    References
    ----------
    Demsar 2006, JMLR 7; Benavoli et al. 2016, JMLR 17.
    """
    if groups not in get_args(Groups):
        raise unknown("critical difference, groups", groups, get_args(Groups))
    table = scores.astype(float)
    n, k = table.shape
    if k < 2 or n < 2 or not np.isfinite(table.to_numpy()).all():
        raise LimenError(
            f"critical difference: given {n} data sets and {k} methods, allowed are two or more of each, nothing missing."
        )
    places = table.rank(axis=1, ascending=not higher_is_better)
    ranks = places.mean().sort_values(kind="stable")
    plain = 12 * n / (k * (k + 1)) * (float((ranks**2).sum()) - k * (k + 1) ** 2 / 4)
    chi2 = _friedman(places.to_numpy())
    rest = n * (k - 1) - plain
    f = (n - 1) * plain / rest if rest > 1e-9 else float("inf")
    df = (k - 1, (k - 1) * (n - 1))
    few = n < FEWEST
    pairs = _pairs(table) if not few else pd.DataFrame(columns=["first", "second", "p", "p_holm"])
    difference = float("nan")
    cliques: tuple[tuple[str, ...], ...] = ()
    if not few and groups == "nemenyi":
        difference = float(
            stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
        )
        cliques = _intervals(ranks, difference)
    elif not few:
        told = pairs[pairs["p_holm"] < alpha]
        apart = {frozenset((str(a), str(b))) for a, b in zip(told["first"], told["second"], strict=True)}
        cliques = _cliques(list(map(str, ranks.index)), apart)
    note = f"{n} data sets: fewer than {FEWEST}, so ranks alone are given" if few else ""
    return CriticalDifference(
        ranks=ranks, chi2=chi2, chi2_p=float(stats.chi2.sf(chi2, k - 1)), chi2_plain=plain, f=f, f_df=df,
        f_p=float(stats.f.sf(f, *df)), pairs=pairs, difference=difference, cliques=cliques, datasets=n, note=note,
    )  # fmt: skip


def _friedman(places: np.ndarray) -> float:
    n, k = places.shape
    ties = sum(
        float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in places)
    )
    correction = 1 - ties / (n * k * (k**2 - 1))
    sums = places.sum(axis=0)
    plain = 12 / (n * k * (k + 1)) * float((sums**2).sum()) - 3 * n * (k + 1)
    return plain / correction if correction > 0 else float("nan")


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for first, second in combinations(table.columns, 2):
        gap = (table[first] - table[second]).to_numpy()
        p = 1.0 if not gap.any() else float(stats.wilcoxon(gap, zero_method="pratt").pvalue)
        rows.append({"first": str(first), "second": str(second), "p": p})
    found = pd.DataFrame(rows)
    return found.assign(p_holm=multipletests(found["p"], method="holm")[1])


def _intervals(ranks: pd.Series, difference: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of ranks within the critical difference."""
    values, names = ranks.to_numpy(), list(map(str, ranks.index))
    ends = [int(np.flatnonzero(values - value < difference)[-1]) for value in values]
    runs = [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or ends[i - 1] < end)]
    return tuple(tuple(names[i : end + 1]) for i, end in runs)


def _cliques(names: Sequence[str], apart: set[frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the maximal runs of neighbouring ranks in which no pair is told apart."""
    runs: list[tuple[int, int]] = []
    for i in range(len(names)):
        end = i
        while end + 1 < len(names) and all(
            frozenset((names[j], names[end + 1])) not in apart for j in range(i, end + 1)
        ):
            end += 1
        if end > i and (not runs or runs[-1][1] < end):
            runs.append((i, end))
    return tuple(tuple(names[i : end + 1]) for i, end in runs)
