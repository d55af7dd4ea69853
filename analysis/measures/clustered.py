"""Means and comparisons of answers that come in clusters: each person's answers count as one draw of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.registry import LimenError


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """A value with its standard error over clusters; NaN where there are fewer than two clusters."""

    value: float
    standard_error: float
    df: float
    clusters: int
    n: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the t interval."""
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.standard_error if self.df > 0 else np.nan
        return self.value - half, self.value + half

    def logit_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the t interval of a share made on the scale of log-odds; the plain one, within 0 and 1, at 0 and 1."""
        inside = self.value * (1 - self.value)
        if not inside > 0:
            return tuple(float(np.clip(bound, 0, 1)) for bound in self.interval(level))  # type: ignore[return-value]
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.standard_error / inside if self.df > 0 else np.nan
        centre = np.log(self.value / (1 - self.value))
        return float(1 / (1 + np.exp(half - centre))), float(1 / (1 + np.exp(-half - centre)))


def clustered_mean(values: np.ndarray, clusters: np.ndarray) -> Clustered:
    """Return the mean of all values with a standard error over clusters (linearised ratio).

    Parameters
    ----------
    values : float (n,)
    clusters : (n,), whom each is from
    """
    x = np.asarray(values, dtype=float)
    codes, names = _codes(clusters)
    g = len(names)
    mean = float(x.mean()) if len(x) else float("nan")
    sums = np.bincount(codes, x - mean, g)
    error = float(np.sqrt(g / (g - 1) * (sums**2).sum()) / len(x)) if g > 1 else float("nan")
    return Clustered(value=mean, standard_error=error, df=float(g - 1), clusters=g, n=len(x))


def superiority(
    first: np.ndarray, second: np.ndarray, first_clusters: np.ndarray, second_clusters: np.ndarray
) -> Clustered:
    """Return P(first > second) + P(first = second) / 2 of two answers drawn at random, with its error over clusters.

    A cluster may have answers on both sides (people who met both conditions).

    Parameters
    ----------
    first, second : float (n,), (m,)
    first_clusters, second_clusters : whom each answer is from

    Raises
    ------
    LimenError
        If one side is empty.

    References
    ----------
    Obuchowski 1997, doi:10.2307/2533958.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not len(a) or not len(b):
        raise LimenError(f"superiority: given {len(a)} and {len(b)} answers, allowed are one or more of each.")
    placed_a, placed_b = _placements(a, b), 1 - _placements(b, a)
    value = float(placed_a.mean())
    codes, names = _codes(
        np.concatenate([np.asarray(first_clusters, dtype=object), np.asarray(second_clusters, dtype=object)])
    )
    ours, theirs = codes[: len(a)], codes[len(a) :]
    g = len(names)
    one = np.bincount(ours, placed_a - value, g) / len(a)
    other = np.bincount(theirs, placed_b - value, g) / len(b)
    sizes = [len(np.unique(part)) for part in (ours, theirs)]
    if min(sizes) < 2:
        return Clustered(value=value, standard_error=np.nan, df=0.0, clusters=g, n=len(a) + len(b))
    parts = [size / (size - 1) * float((part**2).sum()) for size, part in zip(sizes, (one, other), strict=True)]
    variance = sum(parts) + 2 * g / (g - 1) * float((one * other).sum())
    shared = len(np.intersect1d(ours, theirs))
    df = float(g - 1) if shared else _welch(parts, sizes)
    return Clustered(
        value=value, standard_error=float(np.sqrt(max(variance, 0.0))), df=df, clusters=g, n=len(a) + len(b)
    )


def _placements(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return, for each value, the share of the others below it, ties by half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(ordered)))


def _welch(parts: list[float], sizes: list[int]) -> float:
    whole = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    return float(sum(parts) ** 2 / whole) if whole > 0 else float(min(sizes) - 1)


def _codes(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    names, codes = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    return codes, names
