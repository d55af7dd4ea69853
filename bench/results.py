"""A score that is never alone: values beside their null and ceiling, with intervals, and its row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import Tensor

from .engine import Cost, Engine
from .records import Measurement
from .registry import LimenError, MetricCard

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples with its 95 % bootstrap interval; the limits are NaN below two samples."""

    mean: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` cannot be excluded; an interval that is not known excludes nothing."""
        return not (value < self.low or value > self.high)


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """A score that is never alone.

    Attributes
    ----------
    metric : registered name, or the function's
    card : what the metric is, its direction and bounds
    values, null, ceiling : (N,) float64; the ceiling is NaN where none exists
    convention : score type, baseline, normalisation, AUC rule
    samples : names of the samples where they are not images
    curve_x, curve_y : (T,), (N, T) or None
    extra : further named arrays (N,)
    cost : what measuring `values` cost; the null is not in it
    seed : seed of the metric's draws and of the bootstrap
    """

    metric: str
    card: MetricCard
    values: np.ndarray
    null: np.ndarray
    ceiling: np.ndarray
    convention: str
    samples: tuple[str, ...] = ()
    curve_x: np.ndarray | None = None
    curve_y: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    seed: int = 0

    @property
    def direction(self) -> Literal["up", "down", "none"]:
        return self.card.direction

    @cached_property
    def gains(self) -> np.ndarray:
        """Value minus null of each sample, signed so that larger is better ('none': as it is)."""
        difference = self.values - self.null
        return -difference if self.direction == "down" else difference

    @cached_property
    def value(self) -> Interval:
        return bootstrap(self.values, seed=self.seed)

    @cached_property
    def null_value(self) -> Interval:
        return bootstrap(self.null, seed=self.seed)

    @cached_property
    def gain(self) -> Interval:
        return bootstrap(self.gains, seed=self.seed)

    @property
    def at_null(self) -> bool:
        """True if the interval of the gain holds 0: this score cannot be told from chance."""
        return self.gain.holds(0.0)

    @property
    def n(self) -> int:
        """Samples with a finite value."""
        return int(np.isfinite(self.values).sum())


def bootstrap(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95) -> Interval:
    """Return the mean of the finite values with its percentile bootstrap interval over samples.

    Parameters
    ----------
    values : (N,)
    seed : int
    resamples : int
    level : coverage of the interval
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size < 2:
        return Interval(float(finite.mean()) if finite.size else float("nan"), float("nan"), float("nan"))
    draws = np.random.default_rng(seed)
    means = [finite[draws.integers(finite.size, size=finite.size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(finite.mean()), float(low), float(high))


def summarise(scored: ScoreResult) -> dict[str, Any]:
    """Return the fields of `bench.records.Score` that a result knows; the caller adds what was scored, and its cost."""
    value, null, gain = scored.value, scored.null_value, scored.gain
    ceiling = scored.ceiling[np.isfinite(scored.ceiling)]
    return {
        "direction": scored.direction,
        "value": value.mean,
        "low": value.low,
        "high": value.high,
        "null": null.mean,
        "null_low": null.low,
        "null_high": null.high,
        "gain": gain.mean,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "at_null": scored.at_null,
        "ceiling": float(ceiling.mean()) if ceiling.size else float("nan"),
        "n": scored.n,
        "convention": scored.convention,
    }


def result(
    name: str, card: MetricCard, engine: Engine | None, measured: Measurement, null: Any, cost: Cost, seed: int
) -> ScoreResult:
    """Put a measurement and its null together, in numpy."""
    values, floor = as_numpy(engine, measured.values), as_numpy(engine, null)
    if floor.ndim and floor.shape != values.shape:
        raise LimenError(
            f"metric '{name}', null: given {floor.shape[0]} values for {values.shape[0]} samples; they must be the same."
        )
    ceiling = np.nan if measured.ceiling is None else as_numpy(engine, measured.ceiling)
    return ScoreResult(
        metric=name,
        card=card,
        values=values,
        null=np.broadcast_to(floor, values.shape).copy(),
        ceiling=np.broadcast_to(ceiling, values.shape).copy(),
        convention=measured.convention,
        samples=measured.samples,
        curve_x=optional(engine, measured.curve_x),
        curve_y=optional(engine, measured.curve_y),
        extra={key: as_numpy(engine, column) for key, column in measured.extra.items()},
        cost=cost,
        seed=seed,
    )


def as_numpy(engine: Engine | None, values: Any) -> np.ndarray:
    """Return numbers on any device as float64."""
    plain = engine.numpy(values) if engine is not None and isinstance(values, Tensor) else values
    return np.asarray(plain, dtype=np.float64)


def optional(engine: Engine | None, values: Any) -> np.ndarray | None:
    """Return a curve as float64, or None where there is none."""
    return None if values is None else as_numpy(engine, values)
