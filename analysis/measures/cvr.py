"""Sample efficiency of visual rules: the area under the curve of accuracy over training sizes, the SES, and rules solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.registry import LimenError

REGIMES = (20, 50, 100, 200, 500, 1000)
"""Training problems a rule."""
SOLVED = 0.8
"""Accuracy from which a rule counts as solved."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with a percentile bootstrap interval over rules, NaN where there are fewer than two.

    Attributes
    ----------
    samples : float (draws,), the bootstrap values
    """

    value: float
    low: float
    high: float
    n: int
    samples: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Efficiency:
    """Scores of one observer over rules and training sizes.

    Attributes
    ----------
    sizes : training problems, ascending
    accuracy : mean over rules at each size
    auc, ses : area under the curve and sample-efficiency score
    solved : share of rules solved at each size; times `rules` is their number
    rules : number of rules
    """

    sizes: tuple[int, ...]
    accuracy: tuple[Interval, ...]
    auc: Interval
    ses: Interval
    solved: tuple[Interval, ...]
    rules: int


def weights(sizes: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return w = 1 / (1 + ln n) of each training size n, natural logarithm.

    Raises
    ------
    LimenError
        If a size is below 1.
    """
    n = np.asarray(sizes, dtype=float)
    if n.size == 0 or not np.isfinite(n).all() or (n < 1).any():
        raise LimenError(f"sample efficiency, sizes: given {list(np.atleast_1d(n))}, allowed are numbers of 1 or more.")
    return np.asarray(1 / (1 + np.log(n)))


def area(accuracy: np.ndarray) -> np.ndarray:
    """Return the AUC: the plain mean over the last axis, one value a training size."""
    return np.asarray(np.mean(np.asarray(accuracy, dtype=float), axis=-1))


def sample_efficiency(accuracy: np.ndarray, sizes: Sequence[float] = REGIMES) -> np.ndarray:
    """Return the SES = sum(a w) / sum(w) over the last axis, w = 1 / (1 + ln n): few samples count more.

    Parameters
    ----------
    accuracy : array (..., sizes)
    sizes : numbers of training problems

    Raises
    ------
    LimenError
        If the last axis is not as long as `sizes`, or a size is below 1.

    References
    ----------
    Zerroug et al.: A Benchmark for Compositional Visual Reasoning, arXiv:2206.05379.
    """
    values, weight = np.asarray(accuracy, dtype=float), weights(sizes)
    _check_sizes(values, sizes)
    return np.asarray((values * weight).sum(axis=-1) / weight.sum())


def rules_solved(accuracy: np.ndarray, threshold: float = SOLVED) -> np.ndarray:
    """Count the rules (first axis) with an accuracy of at least the threshold."""
    # 0.8 may have been summed from answers: a rounding error must not unsolve a rule.
    return np.asarray((np.asarray(accuracy, dtype=float) >= threshold - 1e-9).sum(axis=0))


def efficiency(
    accuracy: np.ndarray, sizes: Sequence[int] = REGIMES, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Efficiency:
    """Score an observer over rules, with percentile bootstrap intervals that resample the rules.

    Parameters
    ----------
    accuracy : array (rules, sizes)
        Accuracy in [0, 1] after training on each number of problems.
    sizes
        Training problems, as the columns.
    draws, seed, level
        Of the bootstrap.

    Raises
    ------
    LimenError
        If the shapes do not fit, a value is not an accuracy, or a size is below 1.
    """
    values = _checked(accuracy, sizes)
    picks = _picks(len(values), draws, seed)

    def interval(score: Callable[[np.ndarray], np.ndarray]) -> list[Interval]:
        """`score` maps (..., rules, sizes) to (..., k)."""
        return _intervals(score(values), np.array([score(values[pick]) for pick in picks]), len(values), level)

    solved = values >= SOLVED - 1e-9
    shares = np.array([solved[pick].mean(axis=0) for pick in picks])
    return Efficiency(
        sizes=tuple(int(n) for n in sizes),
        accuracy=tuple(interval(lambda a: a.mean(axis=0))),
        auc=interval(lambda a: np.atleast_1d(area(a.mean(axis=0))))[0],
        ses=interval(lambda a: np.atleast_1d(sample_efficiency(a.mean(axis=0), sizes)))[0],
        solved=tuple(_intervals(solved.mean(axis=0), shares, len(values), level)),
        rules=len(values),
    )


def transfer(
    scratch: np.ndarray,
    pretrained: np.ndarray,
    sizes: Sequence[int] = REGIMES,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the gain in SES by training on other rules first, paired by rule, with its bootstrap interval.

    In the curriculum condition elementary rules come first and compositions are scored; in the reverse one it is the
    other way round.

    Parameters
    ----------
    scratch, pretrained : array (rules, sizes)
        Accuracy of the same rules without and with the training before.

    Raises
    ------
    LimenError
        If the shapes do not fit, or a value is not an accuracy.
    """
    without, after = _checked(scratch, sizes), _checked(pretrained, sizes)
    if without.shape != after.shape:
        raise LimenError(
            f"sample efficiency, transfer: given accuracies of shape {without.shape} and {after.shape}; "
            "they must be of the same rules and sizes."
        )
    gains = sample_efficiency(after, sizes) - sample_efficiency(without, sizes)
    samples = np.array([[gains[pick].mean()] for pick in _picks(len(gains), draws, seed)])
    return _intervals(np.array([gains.mean()]), samples, len(gains), level)[0]


def _picks(rules: int, draws: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, rules, (draws, rules))


def _intervals(values: np.ndarray, samples: np.ndarray, n: int, level: float) -> list[Interval]:
    tail = (1 - level) / 2
    found = []
    for column, value in enumerate(values):
        low, high = np.quantile(samples[:, column], [tail, 1 - tail]) if n > 1 else (np.nan, np.nan)
        found.append(Interval(value=float(value), low=float(low), high=float(high), n=n, samples=samples[:, column]))
    return found


def _checked(accuracy: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    values = np.asarray(accuracy, dtype=float)
    if values.ndim != 2 or not len(values):
        raise LimenError(f"sample efficiency, accuracy: given shape {values.shape}, allowed is (rules, sizes).")
    _check_sizes(values, sizes)
    weights(sizes)
    if not ((values >= 0) & (values <= 1)).all():
        raise LimenError("sample efficiency, accuracy: given values outside 0 to 1 or missing; allowed are shares.")
    return values


def _check_sizes(values: np.ndarray, sizes: Sequence[float]) -> None:
    if values.ndim == 0 or values.shape[-1] != len(sizes):
        raise LimenError(
            f"sample efficiency, accuracy: given shape {values.shape} for {len(sizes)} sizes; the last axis is the sizes."
        )
