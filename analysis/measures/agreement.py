"""How far observers agree, and how reliable a measurement is: kappa, alpha, intraclass correlations, split halves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, unknown

Level = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A coefficient with its 95 % interval; NaN where it is undefined, and `note` says why.

    `null` is what chance gives, where the coefficient does not already take it off.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    interval: str
    null: float = float("nan")
    note: str = ""


def krippendorff_alpha(
    ratings: np.ndarray, level: Level = "nominal", *, resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Return Krippendorff's alpha of ratings by several observers, with a bootstrap interval over units.

    Parameters
    ----------
    ratings : float (units, observers)
        NaN where an observer did not rate; categories as numbers.
    level : 'nominal', 'ordinal', 'interval' or 'ratio'
        What a difference of two values means.

    Raises
    ------
    LimenError
        If the level is unknown, or no unit has two ratings.

    References
    ----------
    Krippendorff 2011, Computing Krippendorff's alpha-reliability.
    """
    if level not in get_args(Level):
        raise unknown("krippendorff alpha, level", level, get_args(Level))
    table = np.asarray(ratings, dtype=float)
    kept = table[np.isfinite(table).sum(axis=1) >= 2]
    if table.ndim != 2 or not len(kept):
        raise LimenError(f"krippendorff alpha: given ratings {table.shape}, allowed are two or more of some unit.")
    values, counts = _counts(kept)
    whole = _alpha(values, counts, level)
    draws = np.random.default_rng(seed)
    made = np.array(
        [_alpha(values, counts[draws.integers(len(counts), size=len(counts))], level) for _ in range(resamples)]
    )
    made = made[np.isfinite(made)]
    low, high = np.quantile(made, [0.025, 0.975]) if len(made) and np.isfinite(whole) else (np.nan, np.nan)
    note = "" if np.isfinite(whole) else "all ratings are the same, so chance agreement is complete: undefined"
    return Agreement(
        name=f"Krippendorff's alpha ({level})", value=whole, low=float(low), high=float(high), n=len(kept), unit="units",
        interval="bootstrap over units", note=note,
    )  # fmt: skip


def _counts(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur (V,) and how often each unit got each (units, V)."""
    values = np.unique(table[np.isfinite(table)])
    return values, (table[:, :, None] == values).sum(axis=1).astype(float)


def _alpha(values: np.ndarray, counts: np.ndarray, level: Level) -> float:
    raters = counts.sum(axis=1)
    # Pairs of ratings within a unit, each unit weighing as many ratings as it has.
    weighted = counts / (raters - 1)[:, None]
    observed = weighted.T @ counts - np.diag(weighted.sum(axis=0))
    total = observed.sum(axis=1)
    distance = _distances(values, total, level)
    expected = (np.outer(total, total) * distance).sum()
    return float(1 - (total.sum() - 1) * (observed * distance).sum() / expected) if expected > 0 else float("nan")


def _distances(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    first, second = values[:, None], values[None, :]
    if level == "nominal":
        return (first != second).astype(float)
    if level == "interval":
        return np.asarray((first - second) ** 2)
    if level == "ratio":
        whole = first + second
        return np.asarray(np.divide(first - second, whole, out=np.zeros_like(whole), where=whole != 0) ** 2)
    reached = np.cumsum(totals)
    between = np.abs(reached[:, None] - reached[None, :])
    lower = np.where(values[:, None] <= values[None, :], totals[:, None], totals[None, :])
    # Ratings from the lower value to the higher one, less half of both ends.
    return np.asarray((between + lower - (totals[:, None] + totals[None, :]) / 2) ** 2) * (first != second)


def intraclass_correlations(ratings: np.ndarray) -> pd.DataFrame:
    """Return the six intraclass correlations of complete ratings, with F-based 95 % intervals.

    Parameters
    ----------
    ratings : float (targets, raters), nothing missing

    Returns
    -------
    DataFrame
        One row a form ('ICC(1)', 'ICC(2)', 'ICC(3)' of one rater; 'ICC(1,k)' ... of their mean): `value`, `low`, `high`, `F`,
        `df1`, `df2`, `p`.

    Raises
    ------
    LimenError
        If something is missing, or there are fewer than two targets or raters.

    References
    ----------
    Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420; McGraw and Wong 1996, doi:10.1037/1082-989X.1.1.30.
    """
    table = np.asarray(ratings, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise LimenError(
            f"intraclass correlation: given ratings {table.shape}, allowed are two or more targets by two or more raters, "
            "nothing missing."
        )
    n, k = table.shape
    between = k * table.mean(axis=1).var(ddof=1)
    judges = n * table.mean(axis=0).var(ddof=1)
    within = table.var(axis=1, ddof=1).mean()
    error = (((table - table.mean()) ** 2).sum() - between * (n - 1) - judges * (k - 1)) / ((n - 1) * (k - 1))
    single = {
        "ICC(1)": (_one(between, within, k, n - 1, n * (k - 1)), between / within, n * (k - 1)),
        "ICC(2)": (_two(between, judges, error, n, k), between / error, (n - 1) * (k - 1)),
        "ICC(3)": (_one(between, error, k, n - 1, (n - 1) * (k - 1)), between / error, (n - 1) * (k - 1)),
    }
    rows = {}
    for averaged in (False, True):
        for name, (values, f, df2) in single.items():
            shown = tuple(k * v / (1 + (k - 1) * v) for v in values) if averaged else values
            rows[name.replace(")", ",k)") if averaged else name] = {
                "value": shown[0], "low": shown[1], "high": shown[2], "F": f, "df1": n - 1, "df2": df2,
                "p": float(stats.f.sf(f, n - 1, df2)),
            }  # fmt: skip
    return pd.DataFrame(rows).T


def _one(between: float, rest: float, k: int, df1: int, df2: int) -> tuple[float, float, float]:
    f = between / rest
    low, high = f / stats.f.ppf(0.975, df1, df2), f * stats.f.ppf(0.975, df2, df1)
    return tuple(float((value - 1) / (value + k - 1)) for value in (f, low, high))  # type: ignore[return-value]


def _two(between: float, judges: float, error: float, n: int, k: int) -> tuple[float, float, float]:
    value = (between - error) / (between + (k - 1) * error + k * (judges - error) / n)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    df = (a * judges + b * error) ** 2 / ((a * judges) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    f1, f2 = stats.f.ppf(0.975, n - 1, df), stats.f.ppf(0.975, df, n - 1)
    rest = k * judges + (k * n - k - n) * error
    low = n * (between - f1 * error) / (f1 * rest + n * between)
    high = n * (f2 * between - error) / (rest + n * f2 * between)
    return float(value), float(low), float(high)


def split_half(scores: np.ndarray, *, halves: int = 1000, seed: int = 0) -> Agreement:
    """Return the split-half reliability of row means: random halves of the columns, stepped up by Spearman-Brown.

    Parameters
    ----------
    scores : float (rows, columns)
        Participants by items, or items by participants; NaN where there is no answer. A row that lacks an answer in a half
        is left out of it.
    halves : random splits

    Returns
    -------
    Agreement
        The mean over splits with their 95 % range; `null` is the mean with one half's rows shuffled.

    Raises
    ------
    LimenError
        If there are fewer than three rows or two columns.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or table.shape[0] < 3 or table.shape[1] < 2:
        raise LimenError(
            f"split half: given scores {table.shape}, allowed are three or more rows by two or more columns."
        )
    draws = np.random.default_rng(seed)
    found, shuffled = [], []
    for _ in range(halves):
        order = draws.permutation(table.shape[1])
        first, second = (_row_means(table[:, part]) for part in np.array_split(order, 2))
        found.append(_stepped_up(first, second))
        shuffled.append(_stepped_up(first, draws.permutation(second)))
    values = np.array(found)[np.isfinite(found)]
    note = "" if len(values) else "row means do not vary: undefined"
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (np.nan, np.nan)
    null = np.array(shuffled)[np.isfinite(shuffled)]
    return Agreement(
        name="split-half reliability (Spearman-Brown)", value=float(values.mean()) if len(values) else float("nan"),
        low=float(low), high=float(high), n=table.shape[0], unit="rows", interval=f"95 % range over {halves} random halves",
        null=float(null.mean()) if len(null) else float("nan"), note=note,
    )  # fmt: skip


def _row_means(part: np.ndarray) -> np.ndarray:
    seen = np.isfinite(part)
    return np.divide(
        np.where(seen, part, 0).sum(axis=1), seen.sum(axis=1), out=np.full(len(part), np.nan), where=seen.any(axis=1)
    )


def _stepped_up(first: np.ndarray, second: np.ndarray) -> float:
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3 or np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return float("nan")
    r = float(np.corrcoef(first[both], second[both])[0, 1])
    return 2 * r / (1 + r) if r > -1 else float("nan")


def error_consistency(first: np.ndarray, second: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> Agreement:
    """Return Cohen's kappa of two observers' being right, item by item: do they err on the same items?

    Parameters
    ----------
    first, second : bool or 0/1 (items,)
        Whether each observer, person or network, was right.

    Raises
    ------
    LimenError
        If they are not of one length, or of fewer than two items.

    References
    ----------
    Geirhos et al. 2020, arXiv:2006.16736.
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if (
        one.shape != other.shape
        or one.ndim != 1
        or len(one) < 2
        or not np.isin(np.concatenate([one, other]), (0, 1)).all()
    ):
        raise LimenError(
            f"error consistency: given {one.shape} and {other.shape}, allowed are 0 and 1 for the same two or more items."
        )
    draws = np.random.default_rng(seed)
    picks = draws.integers(len(one), size=(resamples, len(one)))
    made = _kappa(one[picks], other[picks])
    made = made[np.isfinite(made)]
    value = float(_kappa(one[None], other[None])[0])
    defined = np.isfinite(value) and len(made) > 0
    low, high = np.quantile(made, [0.025, 0.975]) if defined else (np.nan, np.nan)
    return Agreement(
        name="error consistency (kappa)", value=value, low=float(low), high=float(high), n=len(one), unit="items",
        interval="bootstrap over items", note="" if defined else "both are always right or always wrong: undefined",
    )  # fmt: skip


def _kappa(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    observed = (one == other).mean(axis=1)
    p, q = one.mean(axis=1), other.mean(axis=1)
    chance = p * q + (1 - p) * (1 - q)
    return np.divide(observed - chance, 1 - chance, out=np.full(len(p), np.nan), where=chance < 1 - 1e-12)
