"""Fit a logistic mixed model with crossed random effects by the Laplace approximation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, optimize, special, stats
from threadpoolctl import threadpool_limits

from bench.registry import LimenError

from .laplace import Binomial, Laplace
from .terms import Layout, RandomTerm

SINGULAR = 0.01
STARTS = (0.5, 0.2, 1.0)


@dataclass(frozen=True, kw_only=True)
class GlmmFit:
    """A fitted model.

    Attributes
    ----------
    params, bse : Series (p,)
        Fixed effects (log-odds, conditional on participant and item) and their standard errors; NaN if not converged.
    covariance : DataFrame (p, p)
        Covariance of the fixed effects, the uncertainty of the variances included.
    covariances : list of DataFrame
        Covariance matrix of each random term, in the order given.
    log_likelihood : float
        Laplace; binomial coefficients left out.
    converged : bool
        Scaled gradient below 1e-3 and a positive definite Hessian; else nothing but the flags may be printed.
    flags : tuple of str
        'singular', 'not_converged', 'separation'.
    levels : mapping
        Number of levels of each grouping factor.
    """

    params: pd.Series
    bse: pd.Series
    covariance: pd.DataFrame
    covariances: list[pd.DataFrame]
    theta: np.ndarray
    log_likelihood: float
    converged: bool
    flags: tuple[str, ...]
    levels: dict[str, int]
    rows: int
    gradient: float

    @property
    def aic(self) -> float:
        return -2 * self.log_likelihood + 2 * (len(self.params) + len(self.theta))

    @property
    def bic(self) -> float:
        return -2 * self.log_likelihood + (len(self.params) + len(self.theta)) * float(np.log(self.rows))

    def sd(self, term: int) -> pd.Series:
        """Return the standard deviations of one random term."""
        table = self.covariances[term]
        return pd.Series(np.sqrt(np.diag(table)), index=table.index)

    def t_test(self, contrast: np.ndarray, df: float) -> tuple[float, float, float, float]:
        """Return estimate, standard error, t and two-sided p of a contrast with design-based degrees of freedom."""
        value = float(contrast @ self.params.to_numpy())
        error = float(np.sqrt(contrast @ self.covariance.to_numpy() @ contrast))
        return value, error, value / error, float(2 * stats.t.sf(abs(value / error), df))

    def wald_test(self, contrasts: np.ndarray, df: float) -> tuple[float, float]:
        """Return F and p of several contrasts (k, p) at once, on k and `df` degrees of freedom."""
        values = contrasts @ self.params.to_numpy()
        inner = contrasts @ self.covariance.to_numpy() @ contrasts.T
        f = float(values @ np.linalg.solve(inner, values) / len(contrasts))
        return f, float(stats.f.sf(f, len(contrasts), df))


def fit_glmm(
    design: pd.DataFrame,
    correct: np.ndarray,
    terms: Sequence[RandomTerm],
    *,
    trials: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    eliminate: str | None = None,
    inference: bool = True,
) -> GlmmFit:
    """Fit `correct ~ design + random terms`, binomial with the logit link, by the Laplace approximation.

    Parameters
    ----------
    design : DataFrame (N, p)
        Fixed-effect columns, the intercept included, of full rank.
    correct : array (N,)
        0/1, or successes out of `trials`.
    terms : sequence of RandomTerm
        Crossed or nested; the factor with the most effects is eliminated unless `eliminate` names another.
    inference : bool
        False leaves out the Hessian (standard errors are NaN): for likelihood ratios.

    Returns
    -------
    GlmmFit
        Its `converged` must be looked at before any number is printed.

    Raises
    ------
    LimenError
        If the design is not of full rank (names the redundant columns), or a grouping has one level.
    """
    x = design.to_numpy(dtype=float)
    names = [str(name) for name in design.columns]
    _full_rank(x, names)
    n = np.ones(len(x)) if trials is None else np.asarray(trials, dtype=float)
    o = np.zeros(len(x)) if offset is None else np.asarray(offset, dtype=float)
    layout = Layout(terms, eliminate)
    for group, levels in layout.levels.items():
        if levels < 2:
            raise LimenError(f"mixed model, grouping '{group}': it has one level; a random effect needs at least two.")
    model = Laplace(Binomial(x, np.asarray(correct, dtype=float), n, o), layout)
    # The matrices are small: more threads would cost time and could change the last digit.
    with threadpool_limits(limits=1, user_api="blas"):
        start, scale = _naive(x, np.asarray(correct, dtype=float), n, o)
        best = _optimise(model, start, scale)
        return _result(model, names, best, scale if inference else None, int(n.sum()))


def _full_rank(x: np.ndarray, names: list[str]) -> None:
    _, r, order = linalg.qr(x, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    redundant = [names[column] for column in order[np.flatnonzero(size < 1e-10 * size.max())]]
    if redundant:
        raise LimenError(f"mixed model, design: the columns {', '.join(redundant)} are combinations of the others.")


def _naive(x: np.ndarray, y: np.ndarray, n: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    beta = np.zeros(x.shape[1])
    for _ in range(15):
        mean = special.expit(offset + x @ beta)
        information = (x * (n * np.maximum(mean * (1 - mean), 1e-6))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (y - n * mean))
        beta = np.clip(beta + step, -8, 8)
        if np.abs(step).max() < 1e-8:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


@dataclass(frozen=True)
class _Optimum:
    beta: np.ndarray
    theta: np.ndarray
    deviance: float
    gradient: float


def _optimise(model: Laplace, start: np.ndarray, scale_beta: np.ndarray) -> _Optimum:
    layout, p = model.layout, len(start)
    scale = np.concatenate([scale_beta, np.full(len(layout.entries), 0.1)])

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        values = scaled * scale
        deviance, in_beta, in_theta = model.evaluate(values[:p], values[p:])
        return deviance, np.concatenate([in_beta, in_theta]) * scale

    best: _Optimum | None = None
    for diagonal in STARTS:
        theta = np.zeros(len(layout.entries))
        theta[layout.diagonal()] = diagonal
        found = optimize.minimize(
            objective, np.concatenate([start, theta]) / scale, jac=True, method="L-BFGS-B",
            options={"maxcor": 20, "ftol": 1e-13, "gtol": 1e-5, "maxiter": 300},
        )  # fmt: skip
        values = found.x * scale
        this = _Optimum(values[:p], values[p:], float(found.fun), float(np.abs(found.jac).max()))
        if best is None or this.deviance < best.deviance - 1e-7:
            best = this
        if best.gradient < 1e-3:
            break
    assert best is not None
    return _Optimum(best.beta, _positive(layout, best.theta), best.deviance, best.gradient)


def _positive(layout: Layout, theta: np.ndarray) -> np.ndarray:
    """Flip columns of the factors so that their diagonals are not negative; the deviance is even in each column."""
    signs = {(t, low): -1.0 if theta[i] < 0 else 1.0 for i, (t, k, low) in enumerate(layout.entries) if k == low}
    return np.array([value * signs[t, low] for value, (t, _, low) in zip(theta, layout.entries, strict=True)])


def _hessian(model: Laplace, beta: np.ndarray, theta: np.ndarray, scale: np.ndarray, free: list[int]) -> np.ndarray:
    """Difference the exact gradient around the optimum, over the fixed effects and the free entries of theta."""
    p = len(beta)
    steps = np.concatenate([0.01 * scale, np.full(len(theta), 0.001)])
    kept = [*range(p), *(p + i for i in free)]
    whole = np.concatenate([beta, theta])
    found = np.zeros((len(kept), len(kept)))
    for column, index in enumerate(kept):
        sides = []
        for sign in (1, -1):
            moved = whole.copy()
            moved[index] += sign * steps[index]
            _, in_beta, in_theta = model.evaluate(moved[:p], moved[p:])
            sides.append(np.concatenate([in_beta, in_theta])[kept])
        found[:, column] = (sides[0] - sides[1]) / (2 * steps[index])
    return (found + found.T) / 2


def _result(model: Laplace, names: list[str], best: _Optimum, scale: np.ndarray | None, rows: int) -> GlmmFit:
    layout, p = model.layout, len(names)
    zero = {(t, low) for i, (t, k, low) in enumerate(layout.entries) if k == low and best.theta[i] < SINGULAR}
    free = [i for i, (t, _, low) in enumerate(layout.entries) if (t, low) not in zero]
    hessian = None if scale is None else _hessian(model, best.beta, best.theta, scale, free)
    positive = hessian is None or bool(np.isfinite(hessian).all() and np.linalg.eigvalsh(hessian).min() > 0)
    separated = bool(np.abs(best.beta).max() > 10)
    converged = positive and best.gradient < 1e-3 and not separated
    flags = [
        flag
        for flag, on in (("singular", bool(zero)), ("separation", separated), ("not_converged", not converged))
        if on
    ]
    covariance = np.full((p, p), np.nan)
    if converged and hessian is not None:
        covariance = 2 * np.linalg.inv(hessian)[:p, :p]
    theta = np.array(
        [0.0 if (t, low) in zero else value for value, (t, _, low) in zip(best.theta, layout.entries, strict=True)]
    )
    tables = [
        pd.DataFrame(factor @ factor.T, index=list(term.names), columns=list(term.names))
        for term, factor in zip(layout.terms, layout.factors(theta), strict=True)
    ]
    return GlmmFit(
        params=pd.Series(best.beta if converged else np.full(p, np.nan), index=names),
        bse=pd.Series(np.sqrt(np.diag(covariance)), index=names),
        covariance=pd.DataFrame(covariance, index=names, columns=names),
        covariances=tables,
        theta=theta,
        log_likelihood=-best.deviance / 2 if converged else float("nan"),
        converged=converged,
        flags=tuple(flags),
        levels=dict(layout.levels),
        rows=rows,
        gradient=best.gradient,
    )
