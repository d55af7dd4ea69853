"""The Laplace deviance of a cumulative logit model of ordered answers with crossed random effects, and its exact gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from .blocks import Effects, Factored, at_rows, factor, gather, leverage, products, spread
from .terms import Layout

FLOOR = 1e-12
TOLERANCE = 1e-12
CONVERGED = 1e-23
FAR = 700.0
"""Largest distance of two thresholds in log-odds before an exponential would overflow."""


@dataclass(frozen=True)
class Ordered:
    """The data of a model: `x` (N, p) without an intercept, `code` (N,) from 0 to `levels` - 1."""

    x: np.ndarray
    code: np.ndarray
    levels: int


@dataclass(frozen=True)
class Answers:
    """Each answer's log-likelihood and its derivatives, at distances of its thresholds from the linear predictor.

    F(upper) - F(lower) = F(upper) F(-lower) (1 - exp(lower - upper)), so nothing cancels. In the linear predictor the first
    derivative is F(upper) + F(lower) - 1 and the second -(f(upper) + f(lower)), never positive.
    """

    upper: np.ndarray
    lower: np.ndarray

    @property
    def log_likelihood(self) -> np.ndarray:
        inside = -np.expm1(-self._gap)
        found = special.log_expit(self.upper) + special.log_expit(-self.lower) + np.log(np.maximum(inside, 1e-300))
        return np.asarray(found)

    @property
    def residual(self) -> np.ndarray:
        """First derivative in the linear predictor."""
        return np.asarray(special.expit(self.upper) - special.expit(-self.lower))

    @property
    def weight(self) -> np.ndarray:
        """Second derivative in the linear predictor, its sign turned."""
        return _density(self.upper) + _density(self.lower)

    @property
    def weight_slope(self) -> np.ndarray:
        """Derivative of the weight in the linear predictor."""
        return -_curve(self.upper) - _curve(self.lower)

    def in_thresholds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivatives of the log-likelihood in the upper and in the lower threshold."""
        shared = 1 / np.maximum(np.expm1(self._gap), 1e-300)
        return special.expit(-self.upper) + shared, -special.expit(self.lower) - shared

    @property
    def _gap(self) -> np.ndarray:
        return np.minimum(self.upper - self.lower, FAR)


def _density(z: np.ndarray) -> np.ndarray:
    return np.asarray(special.expit(z) * special.expit(-z))


def _curve(z: np.ndarray) -> np.ndarray:
    return np.asarray(_density(z) * (1 - 2 * special.expit(z)))


class OrderedLaplace:
    """D(thresholds, beta, theta) = min_u P(u) + log |H(u)|, minus twice the Laplace log-likelihood.

    P(u) = -2 sum log [F(threshold_y - eta) - F(threshold_(y-1) - eta)] + u'u with eta = X beta + M u and F the logistic
    distribution; H = M' W M + I.

    References
    ----------
    McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x; Tutz and Hennevogl 1996, doi:10.1016/0167-9473(96)00004-7.
    """

    def __init__(self, data: Ordered, layout: Layout) -> None:
        self.data = data
        self.layout = layout
        self.warm: Effects = self._zero()

    def _zero(self) -> Effects:
        return np.zeros((self.layout.q0, len(self.layout.inner))), np.zeros(self.layout.r)

    def evaluate(self, fixed: np.ndarray, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return D and its gradient in the fixed part (thresholds, then beta) and in theta."""
        layout, rows = self.layout, self.layout.row_values(theta)
        u, at, penalised, factored = self._mode(fixed, rows)
        w, r = at.weight, at.residual
        h, selected = leverage(layout, rows, factored)
        a = h * at.weight_slope
        s = factored.solve(gather(layout, rows, a))
        ms = spread(layout, rows, s)
        in_linear = -2 * r + a - w * ms
        in_fixed = np.concatenate([self._in_thresholds(at, h, ms), self.data.x.T @ in_linear])
        u_rows, s_rows = at_rows(layout, u), at_rows(layout, s)
        place = {(slot.term, slot.column): i for i, slot in enumerate(layout.slots)}
        in_theta = np.zeros(len(layout.entries))
        for index, (t, k, low) in enumerate(layout.entries):
            v, i = layout.terms[t].values[:, k], place[t, low]
            in_theta[index] = in_linear @ (v * u_rows[i]) + 2 * (w * v) @ selected[i] + (s_rows[i] * v) @ r
        return penalised + factored.log_determinant, in_fixed, in_theta

    def modes(self, fixed: np.ndarray, theta: np.ndarray) -> tuple[Effects, Factored]:
        """Return the spherical random effects at their mode, and H there."""
        u, _, _, factored = self._mode(fixed, self.layout.row_values(theta))
        return u, factored

    def _in_thresholds(self, at: Answers, h: np.ndarray, ms: np.ndarray) -> np.ndarray:
        """Sum what each threshold changes: the fit, the weights in H, and the mode, whose residuals move with it."""
        up, down = at.in_thresholds()
        upper = -2 * up + h * _curve(at.upper) + ms * _density(at.upper)
        lower = -2 * down + h * _curve(at.lower) + ms * _density(at.lower)
        code, k = self.data.code, self.data.levels
        return np.bincount(code, upper, k)[:-1] + np.bincount(code, lower, k)[1:]

    def _mode(self, fixed: np.ndarray, rows: list[np.ndarray]) -> tuple[Effects, Answers, float, Factored]:
        u = self.warm
        at, penalised = self._penalised(fixed, rows, u)
        if not np.isfinite(penalised):
            u = self._zero()
            at, penalised = self._penalised(fixed, rows, u)
        for _ in range(100):
            factored = factor(products(self.layout, rows, np.maximum(at.weight, FLOOR)))
            inner, outer = gather(self.layout, rows, at.residual)
            g = (inner - u[0], outer - u[1])
            step = factored.solve(g)
            if float((g[0] * step[0]).sum() + g[1] @ step[1]) < CONVERGED * (1 + abs(penalised)):
                break
            size = 1.0
            for _ in range(30):
                moved = (u[0] + size * step[0], u[1] + size * step[1])
                at, value = self._penalised(fixed, rows, moved)
                if value <= penalised + TOLERANCE * (1 + abs(penalised)):
                    break
                size /= 2
            u, penalised = moved, value
        self.warm = u
        return u, at, penalised, factored

    def _penalised(self, fixed: np.ndarray, rows: list[np.ndarray], u: Effects) -> tuple[Answers, float]:
        k = self.data.levels
        cuts = np.concatenate([[-np.inf], fixed[: k - 1], [np.inf]])
        eta = self.data.x @ fixed[k - 1 :] + spread(self.layout, rows, u)
        at = Answers(cuts[self.data.code + 1] - eta, cuts[self.data.code] - eta)
        return at, float(-2 * at.log_likelihood.sum() + (u[0] ** 2).sum() + (u[1] ** 2).sum())
