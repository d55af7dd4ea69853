"""Confidence against accuracy: reliability by bins, calibration error with its nulls, and how well confidence tells right answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.registry import LimenError

DRAWS = 2000
"""Draws of the bins' noise behind an interval."""


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """The expected calibration error of some answers, between 0 and 1.

    Attributes
    ----------
    value : float
        Mean over bins of |accuracy - mean confidence|, weighted by answers; never below 0, so biased upwards.
    low, high : interval over people by inverting tests, which takes the bias off, from 0 to 1; it need not hold `value`
    null, null_p : its mean where confidence is shuffled among each person's answers, and the share of shuffles not above it
    floor, floor_high, floor_p : its mean and upper 97.5 % point were every confidence the true probability of being right, and
        the share of such data sets not below it
    n, people : answers, people
    """

    value: float
    low: float
    high: float
    null: float
    null_p: float
    floor: float
    floor_high: float
    floor_p: float
    n: int
    people: int


def calibration_error(
    confidence: np.ndarray,
    correct: np.ndarray,
    people: np.ndarray,
    *,
    bins: int = 10,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> CalibrationError:
    """Return the calibration error of confidences that are probabilities of being right.

    Parameters
    ----------
    confidence : float (n,), 0 to 1
    correct : 0/1 (n,)
    people : (n,), whose answer each is
    bins : of equal width

    Raises
    ------
    LimenError
        If lengths disagree or a value is outside 0 to 1.

    References
    ----------
    Naeini et al. 2015, AAAI 29; Broecker and Smith 2007, doi:10.1175/WAF993.1, for the floor.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if not c.shape == y.shape == np.shape(people) or c.ndim != 1 or not len(c) or not ((c >= 0) & (c <= 1)).all():
        raise LimenError(
            f"calibration: given {c.shape} confidences and {y.shape} answers, allowed are as many, confidences from 0 to 1."
        )
    who = np.unique(np.asarray(people).astype(str), return_inverse=True)[1]
    count, place = int(who.max()) + 1, bin_of(c, bins)
    gap = np.bincount(who * bins + place, y - c, count * bins).reshape(count, bins)
    own = np.bincount(who, minlength=count)
    value = float(np.abs(gap.sum(axis=0)).sum() / len(c))
    draws = np.random.default_rng(seed)
    low, high = _interval(gap, own, level, draws) if count > 1 else (np.nan, np.nan)
    order = np.argsort(who, kind="stable")
    shuffled, calibrated = np.empty(resamples), np.empty(resamples)
    for index in range(resamples):
        mixed = order[np.lexsort((draws.random(len(c)), who[order]))]
        moved = np.empty_like(c)
        moved[order] = c[mixed]
        shuffled[index] = _error(moved, y, bins)
        calibrated[index] = _error(c, (draws.random(len(c)) < c).astype(float), bins)
    return CalibrationError(
        value=value, low=low, high=high,
        null=float(shuffled.mean()), null_p=float((1 + (shuffled <= value).sum()) / (1 + resamples)),
        floor=float(calibrated.mean()), floor_high=float(np.quantile(calibrated, 0.975)),
        floor_p=float((1 + (calibrated >= value).sum()) / (1 + resamples)), n=len(c), people=count,
    )  # fmt: skip


def _interval(gap: np.ndarray, own: np.ndarray, level: float, draws: np.random.Generator) -> tuple[float, float]:
    """Return the errors under which the observed one is no extreme draw, by inverting tests.

    The error is a sum of absolute values, so noise raises it, the more the nearer the bins' true distances are to 0: a
    bootstrap of it covers too seldom, and so do tests that take the observed distances as the true ones, for these are
    already raised. Each end therefore takes the distances that make it the more careful. For the lower end the true error
    stands in few bins, those whose distance exceeds its standard error, and by that excess; for the upper end in all bins,
    in proportion to their standard errors, where noise raises it least, and on the side of their sum unless more than one
    standard error on the other, since what people share moves all bins alike. Draws around them have the bins' covariance over
    people (multivariate t); an end is the true error at which one as extreme as the observed has probability
    (1 - level) / 2.

    Parameters
    ----------
    gap : float (people, bins), each person's sum of correct less confidence; own : answers of each
    """
    count, n = len(own), own.sum()
    mean = gap.sum(axis=0) / n
    centred = gap / n - np.outer(own / n, mean)
    covariance = count / (count - 1) * centred.T @ centred
    values, vectors = np.linalg.eigh(covariance)
    noise = draws.standard_normal((DRAWS, len(values))) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    noise /= np.sqrt(draws.chisquare(count - 1, DRAWS) / (count - 1))[:, None]
    errors, side = np.sqrt(np.diag(covariance)), -1.0 if mean.sum() < 0 else 1.0
    value, tail = float(np.abs(mean).sum()), (1 - level) / 2
    few = np.sign(mean) * np.maximum(np.abs(mean) - errors, 0)
    every = np.where(mean * side < -errors, -side, side) * errors
    if not errors.any():
        return value, value
    return _least(few, noise, value, tail) if few.any() else 0.0, min(_least(every, noise, value, 1 - tail), 1.0)


def _least(pattern: np.ndarray, noise: np.ndarray, value: float, chance: float) -> float:
    """Return the least true error, spread over bins as `pattern`, at which one of `value` or more has at least a chance."""
    shape = pattern / np.abs(pattern).sum()

    def above(error: float) -> float:
        return float((np.abs(error * shape + noise).sum(axis=1) >= value * (1 - 1e-12)).mean())

    if above(0.0) >= chance:
        return 0.0
    most = max(value, 1e-6)
    while above(most) < chance:
        most *= 2
    return _root(lambda error: above(error) - chance, 0.0, most)


def _root(rise: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising step function crosses zero, by halving."""
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rise(middle) < 0 else (low, middle)
    return (low + high) / 2


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each confidence, equal widths from 0 to 1, the last one closed, (n,)."""
    return np.minimum((np.asarray(confidence) * bins + 1e-9).astype(int), bins - 1)


def _error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    return float(np.abs(np.bincount(bin_of(confidence, bins), correct - confidence, bins)).sum() / len(correct))


def type_two(confidence: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Return how well confidence tells right answers from wrong ones: the type-2 AUC and Goodman and Kruskal's gamma.

    The AUC is the probability that a right answer has the higher confidence, ties by half (null .5); gamma leaves ties out
    (null 0). NaN where all answers are right or all wrong; gamma also where every pair is tied.

    References
    ----------
    Fleming and Lau 2014, doi:10.3389/fnhum.2014.00443; Nelson 1984, doi:10.1037/0033-2909.95.1.109.
    """
    c, y = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float) == 1
    right, wrong = c[y], np.sort(c[~y])
    if not len(right) or not len(wrong):
        return float("nan"), float("nan")
    below = np.searchsorted(wrong, right, side="left").sum()
    above = (len(wrong) - np.searchsorted(wrong, right, side="right")).sum()
    pairs = len(right) * len(wrong)
    auc = float((below + (pairs - below - above) / 2) / pairs)
    return auc, float((below - above) / (below + above)) if below + above else float("nan")
