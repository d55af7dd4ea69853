"""The Laplace deviance of a binomial model with crossed random effects, and its exact gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from .blocks import Effects, Factored, at_rows, factor, gather, leverage, products, spread
from .terms import Layout

FLOOR = 1e-12
TOLERANCE = 1e-12
CONVERGED = 1e-23


@dataclass(frozen=True)
class Binomial:
    """The data of a model: `x` (N, p), `successes` of `trials` (N,), `offset` (N,)."""

    x: np.ndarray
    successes: np.ndarray
    trials: np.ndarray
    offset: np.ndarray


class Laplace:
    """D(beta, theta) = min_u P(u) + log |H(u)|, minus twice the Laplace log-likelihood.

    P(u) = -2 sum [y eta - n log(1 + exp eta)] + u'u with eta = offset + X beta + M u, and H = M' W M + I. Binomial
    coefficients are left out, so rows collapsed into successes and trials give the same value.

    References
    ----------
    Bates et al. 2015, doi:10.18637/jss.v067.i01, for the spherical random effects.
    """

    def __init__(self, data: Binomial, layout: Layout) -> None:
        self.data = data
        self.layout = layout
        self.warm: Effects = self._zero()

    def _zero(self) -> Effects:
        return np.zeros((self.layout.q0, len(self.layout.inner))), np.zeros(self.layout.r)

    def deviance(self, beta: np.ndarray, theta: np.ndarray) -> float:
        """Return D alone."""
        rows = self.layout.row_values(theta)
        _, _, penalised, factored = self._mode(beta, rows)
        return penalised + factored.log_determinant

    def evaluate(self, beta: np.ndarray, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return D and its gradient in beta (p,) and theta (K,)."""
        rows = self.layout.row_values(theta)
        u, eta, penalised, factored = self._mode(beta, rows)
        mean = special.expit(eta)
        w = self.data.trials * mean * (1 - mean)
        r = self.data.successes - self.data.trials * mean
        h, selected = leverage(self.layout, rows, factored)
        a = h * w * (1 - 2 * mean)
        s = factored.solve(gather(self.layout, rows, a))
        ms = spread(self.layout, rows, s)
        in_beta = self.data.x.T @ (-2 * r + a - w * ms)
        u_rows, s_rows = at_rows(self.layout, u), at_rows(self.layout, s)
        place = {(slot.term, slot.column): i for i, slot in enumerate(self.layout.slots)}
        in_theta = np.zeros(len(self.layout.entries))
        for index, (t, k, low) in enumerate(self.layout.entries):
            v, i = self.layout.terms[t].values[:, k], place[t, low]
            z = v * u_rows[i]
            in_theta[index] = (-2 * r + a - w * ms) @ z + 2 * (w * v) @ selected[i] + (s_rows[i] * v) @ r
        return penalised + factored.log_determinant, in_beta, in_theta

    def modes(self, beta: np.ndarray, theta: np.ndarray) -> tuple[Effects, Factored]:
        """Return the spherical random effects at their mode, and H there."""
        u, _, _, factored = self._mode(beta, self.layout.row_values(theta))
        return u, factored

    def _mode(self, beta: np.ndarray, rows: list[np.ndarray]) -> tuple[Effects, np.ndarray, float, Factored]:
        fixed = self.data.offset + self.data.x @ beta
        u = self.warm
        eta, penalised = self._penalised(fixed, rows, u)
        if not np.isfinite(penalised):
            u = self._zero()
            eta, penalised = self._penalised(fixed, rows, u)
        for _ in range(100):
            mean = special.expit(eta)
            weights = np.maximum(self.data.trials * mean * (1 - mean), FLOOR)
            factored = factor(products(self.layout, rows, weights))
            inner, outer = gather(self.layout, rows, self.data.successes - self.data.trials * mean)
            g = (inner - u[0], outer - u[1])
            step = factored.solve(g)
            if float((g[0] * step[0]).sum() + g[1] @ step[1]) < CONVERGED * (1 + abs(penalised)):
                break
            u, eta, penalised = self._move(fixed, rows, u, step, penalised)
        self.warm = u
        return u, eta, penalised, factored

    def _move(
        self, fixed: np.ndarray, rows: list[np.ndarray], u: Effects, step: Effects, penalised: float
    ) -> tuple[Effects, np.ndarray, float]:
        size = 1.0
        for _ in range(30):
            moved = (u[0] + size * step[0], u[1] + size * step[1])
            eta, value = self._penalised(fixed, rows, moved)
            if value <= penalised + TOLERANCE * (1 + abs(penalised)):
                break
            size /= 2
        return moved, eta, value

    def _penalised(self, fixed: np.ndarray, rows: list[np.ndarray], u: Effects) -> tuple[np.ndarray, float]:
        eta = fixed + spread(self.layout, rows, u)
        fit = self.data.successes @ eta - self.data.trials @ np.logaddexp(0, eta)
        return eta, float(-2 * fit + (u[0] ** 2).sum() + (u[1] ** 2).sum())
