"""The exact deviance of a linear mixed model, ML or REML, and its gradient, from cross-products made once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .blocks import Factored, factor, flat, gather, products
from .terms import Layout

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Solution:
    """What a value of theta leads to.

    Attributes
    ----------
    beta : array (p,)
    rss : float
        Penalised residual sum of squares at the optimum.
    modes : array (q0, c0), (r,)
        Spherical random effects, relative to sigma.
    information : array (p, p)
        `X' V^-1 X` times sigma squared; its inverse times sigma squared is the covariance of beta.
    log_determinant : float
        Of H.
    """

    beta: np.ndarray
    rss: float
    modes: tuple[np.ndarray, np.ndarray]
    information: np.ndarray
    log_determinant: float


class Gaussian:
    """D(theta) of `y = offset + X beta + M u + e`, with u and e of variance sigma squared, so theta is relative to sigma.

    Every evaluation works on `[V, X, y]' [V, X, y]`, so its cost does not depend on the number of rows.

    Parameters
    ----------
    x : array (N, p)
    y : array (N,), the offset taken off
    layout : Layout
    weights : array (N,) or None
        Prior weights: the variance of a row is sigma squared over its weight.
    reml : bool

    References
    ----------
    Bates et al. 2015, doi:10.18637/jss.v067.i01.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, layout: Layout, weights: np.ndarray | None, *, reml: bool) -> None:
        self.layout, self.reml = layout, reml
        self.n, self.p = x.shape
        w = np.ones(self.n) if weights is None else weights
        self._log_weights = float(np.log(w).sum())
        values = [slot.values for slot in layout.slots]
        self._c00, self._c10, self._c11 = products(layout, values, w)
        # What the fixed effects explain by themselves is taken off: the sums of squares would cancel to noise.
        root = np.sqrt(w)
        self._first = np.linalg.lstsq(x * root[:, None], y * root, rcond=None)[0]
        columns = np.column_stack([x, y - x @ self._first])
        found = [gather(layout, values, w * column) for column in columns.T]
        self._inner = np.stack([part[0] for part in found], axis=2)
        self._outer = np.stack([part[1] for part in found], axis=1)
        self._gram = columns.T @ (w[:, None] * columns)
        self.nu = self.n - self.p if reml else self.n

    def solve(self, theta: np.ndarray) -> tuple[Solution, Factored]:
        """Return the best beta and u at `theta`."""
        inner, outer = self._factors(theta)
        h10 = np.einsum("rja,ab->rjb", _left(self._c10, outer, self.layout), inner)
        h11 = _right(_left(self._c11, outer, self.layout), outer, self.layout)
        factored = factor((inner.T @ self._c00 @ inner, h10, h11))
        a0, a1 = np.einsum("ba,jbc->jac", inner, self._inner), _left(self._outer, outer, self.layout)
        s0, s1 = _solve_many(factored, a0, a1)
        gram = self._gram - np.einsum("jac,jad->cd", a0, s0) - a1.T @ s1
        p = self.p
        information = (gram[:p, :p] + gram[:p, :p].T) / 2
        beta = linalg.cho_solve(linalg.cho_factor(information, lower=True), gram[:p, p])
        rss = float(gram[p, p] - gram[:p, p] @ beta)
        modes = s0[:, :, p] - s0[:, :, :p] @ beta, s1[:, p] - s1[:, :p] @ beta
        return Solution(beta + self._first, rss, modes, information, factored.log_determinant), factored

    def deviance(self, theta: np.ndarray, sigma: float | None = None) -> float:
        """Return D, sigma profiled out or given."""
        found, _ = self.solve(theta)
        total = found.log_determinant - self._log_weights
        if self.reml:
            total += float(np.linalg.slogdet(found.information)[1])
        if sigma is None:
            return total + self.nu * (1 + LOG_2PI + float(np.log(found.rss / self.nu)))
        return total + self.nu * (LOG_2PI + 2 * float(np.log(sigma))) + found.rss / sigma**2

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return D, sigma profiled out, and its gradient in theta (K,)."""
        found, factored = self.solve(theta)
        layout, p = self.layout, self.p
        inner, outer = self._factors(theta)
        total = found.log_determinant - self._log_weights + self.nu * (1 + LOG_2PI + float(np.log(found.rss / self.nu)))
        y00, y11 = self._trace_blocks(factored, inner, outer)
        u = found.modes
        b0, b1 = _solve_many(factored, np.einsum("ba,jbc->jac", inner, self._inner), _left(self._outer, outer, layout))
        e0, e1 = self._residual_products(b0, b1, inner, outer)
        beta = np.append(self._first - found.beta, 1.0)
        r0, r1 = e0 @ beta, e1 @ beta
        share = 2 * self.nu / found.rss
        inverse = np.zeros((p, p))
        if self.reml:
            total += float(np.linalg.slogdet(found.information)[1])
            inverse = np.linalg.inv(found.information)
        f0, f1 = e0[:, :, :p] @ inverse, e1[:, :p] @ inverse
        gradient = np.zeros(len(layout.entries))
        for index, (t, k, low) in enumerate(layout.entries):
            here, there = layout.place(t, k), layout.place(t, low)
            if layout.terms[t].group == layout.eliminated:
                value = 2 * y00[:, here, there].sum() - share * (r0[:, here] @ u[0][:, there])
                value -= 2 * float((f0[:, here] * b0[:, there, :p]).sum())
            else:
                value = 2 * np.trace(y11[here, there]) - share * (r1[here] @ u[1][there])
                value -= 2 * float((f1[here] * b1[there, :p]).sum())
            gradient[index] = value
        return total, gradient

    def _factors(self, theta: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the factor of the eliminated grouping (c0, c0), all its terms on the diagonal, and one a dense term."""
        found = self.layout.factors(theta)
        ours = [f for f, term in zip(found, self.layout.terms, strict=True) if term.group == self.layout.eliminated]
        return linalg.block_diag(*ours), found

    def _trace_blocks(
        self, factored: Factored, inner: np.ndarray, outer: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks of `V'V Lambda H^-1` that the derivatives of the factors meet: (q0, c0, c0) and (r, r)."""
        r = len(self._c11)
        c10_l0 = np.einsum("rja,ab->rjb", self._c10, inner)
        l1_c10 = _left(self._c10, outer, self.layout)
        p = linalg.cho_solve((factored.schur, True), np.eye(r)) if r else np.zeros((0, 0))
        reduced = factored.reduced
        pr = (p @ flat(reduced)).reshape(reduced.shape)
        corner = factored.block_inverse + np.einsum("rja,rjb->jab", reduced, pr)
        y00 = self._c00 @ inner @ corner - np.einsum("rja,rjb->jab", l1_c10, pr)
        c11_l1 = _right(self._c11, outer, self.layout)
        y11 = (c11_l1 - flat(c10_l0) @ flat(reduced).T) @ p
        return y00, y11

    def _residual_products(
        self, b0: np.ndarray, b1: np.ndarray, inner: np.ndarray, outer: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `V' ([X, y] - M H^-1 M' [X, y])`, (q0, c0, p + 1) and (r, p + 1)."""
        l0, l1 = np.einsum("ab,jbc->jac", inner, b0), _apply(b1, outer, self.layout)
        e0 = self._inner - self._c00 @ l0 - np.einsum("rja,rc->jac", self._c10, l1)
        e1 = self._outer - np.einsum("rja,jac->rc", self._c10, l0) - self._c11 @ l1
        return e0, e1


def _solve_many(factored: Factored, inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute H^-1 g of several columns: (q0, c0, m) and (r, m)."""
    r, m = outer.shape
    stacked = inner.reshape(-1, m)
    x1 = linalg.cho_solve((factored.schur, True), outer - flat(factored.reduced) @ stacked) if r else outer
    left = (stacked - flat(factored.cross).T @ x1).reshape(inner.shape) if r else inner
    return factored.block_inverse @ left, x1


def _dense_terms(outer: list[np.ndarray], layout: Layout) -> list[tuple[slice, np.ndarray]]:
    return [(layout.span(t), f) for t, f in enumerate(outer) if layout.terms[t].group != layout.eliminated]


def _left(matrix: np.ndarray, outer: list[np.ndarray], layout: Layout) -> np.ndarray:
    """Compute Lambda' X of the dense effects, X (r, ...)."""
    found = np.empty_like(matrix)
    for span, f in _dense_terms(outer, layout):
        part = matrix[span].reshape(-1, len(f), *matrix.shape[1:])
        found[span] = np.einsum("ba,qb...->qa...", f, part).reshape(matrix[span].shape)
    return found


def _apply(matrix: np.ndarray, outer: list[np.ndarray], layout: Layout) -> np.ndarray:
    """Compute Lambda X of the dense effects, X (r, ...)."""
    return _left(matrix, [f.T for f in outer], layout)


def _right(matrix: np.ndarray, outer: list[np.ndarray], layout: Layout) -> np.ndarray:
    """Compute X Lambda of the dense effects, X (..., r)."""
    return _left(np.ascontiguousarray(matrix.T), outer, layout).T
