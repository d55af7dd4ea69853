"""The curve of power over effects, fitted to simulated rejections: which effect has a stated power, and how surely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats
from statsmodels.stats.proportion import proportion_confint

from ..results import NAN

SMALLEST, LARGEST = 1e-3, 64.0
"""Multiples of the assumed effect between which a detectable one is looked for."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Rejections among simulated studies of one effect; a failed fit is none."""

    scale: float
    n: int
    rejected: int
    failed: int

    @property
    def rate(self) -> float:
        """Share of all studies in which the null was rejected."""
        return self.rejected / self.n

    def interval(self) -> tuple[float, float]:
        """Return the exact 95 % interval of the rate (Clopper and Pearson)."""
        low, high = proportion_confint(self.rejected, self.n, method="beta")
        return float(low), float(high)


@dataclass(frozen=True)
class Curve:
    """Power of a z test, `Phi(b s - c) + Phi(-b s - c)` at the effect s, of a one-sided test `Phi(b s - c)`.

    `c` is fitted rather than taken from alpha, so that a test that rejects too often or too seldom bends it.
    """

    sides: int
    alpha: float

    @property
    def critical(self) -> float:
        """The value of c of an exact z test."""
        return float(stats.norm.isf(self.alpha / self.sides))

    def power(self, scale: np.ndarray, b: float, c: float) -> np.ndarray:
        """Return the power at multiples of the effect."""
        upper = special.ndtr(b * scale - c)
        return np.asarray(upper + special.ndtr(-b * scale - c) if self.sides == 2 else upper)

    def steepness(self, target: float, scale: float, c: float) -> float:
        """Return the b with which the power at `scale` is `target`."""
        gap = lambda b: float(self.power(np.array([scale]), b, c)[0]) - target  # noqa: E731
        return float(optimize.brentq(gap, 0.0, (c + 10) / scale)) if gap(0.0) < 0 else 0.0

    def deviance(self, points: Sequence[Point], b: float, c: float) -> float:
        """Return minus twice the log-likelihood of the rejections."""
        scale = np.array([one.scale for one in points])
        hits, n = np.array([one.rejected for one in points]), np.array([one.n for one in points])
        p = np.clip(self.power(scale, b, c), 1e-12, 1 - 1e-12)
        return float(-2 * (hits * np.log(p) + (n - hits) * np.log1p(-p)).sum())

    def profile(self, points: Sequence[Point], target: float, scale: float) -> float:
        """Return the least deviance of the curves that have power `target` at `scale`."""
        top = self.critical + 2.0
        best = optimize.minimize_scalar(
            lambda c: self.deviance(points, self.steepness(target, scale, c), c), bounds=(0.05, top), method="bounded"
        )
        return float(best.fun)

    def best(self, points: Sequence[Point], target: float) -> float:
        """Return the effect that most likely has power `target`."""
        grid = np.geomspace(SMALLEST, LARGEST, 40)
        values = [self.profile(points, target, one) for one in grid]
        place = int(np.argmin(values))
        low, high = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
        found = optimize.minimize_scalar(
            lambda s: self.profile(points, target, math.exp(s)), bounds=(math.log(low), math.log(high)), method="bounded"
        )  # fmt: skip
        return math.exp(float(found.x))

    def next_scale(self, points: Sequence[Point], target: float) -> float:
        """Return the effect to try next: the best guess, turned aside from effects tried already."""
        rates = {one.scale: one.rate for one in points if one.scale > 0}
        if min(rates.values()) > 0.97:
            return min(rates) / 2
        if max(rates.values()) < 0.3:
            return min(max(rates) * 2, LARGEST / 2)
        best = self.best(points, target)
        close = [scale for scale in rates if abs(math.log(scale / best)) < 0.08]
        if not close:
            return best
        return best * (0.8 if len([scale for scale in rates if scale < best]) <= len(rates) / 2 else 1.2)


def detectable(points: Sequence[Point], curve: Curve, target: float) -> tuple[float, float, float]:
    """Return the effect with power `target` and its 95 % likelihood interval, in multiples of the assumed effect.

    Returns
    -------
    float, float, float
        NaN where no simulated effect brought power near the target; an infinite or zero end where the data have no end.
    """
    rates = [one.rate for one in points if one.scale > 0]
    if not rates or max(rates) < target - 0.3 or min(rates) > 0.97:
        return NAN, NAN, NAN
    best = curve.best(points, target)
    least = curve.profile(points, target, best)
    cut = least + float(stats.chi2.ppf(0.95, 1))

    def end(edge: float) -> float:
        gap = lambda s: curve.profile(points, target, math.exp(s)) - cut  # noqa: E731
        if gap(math.log(edge)) < 0:
            return 0.0 if edge < best else math.inf
        return math.exp(float(optimize.brentq(gap, *sorted((math.log(best), math.log(edge))), xtol=1e-4)))

    return best, end(SMALLEST), end(LARGEST)
