"""Fit a logistic mixed model with crossed random effects by the Laplace approximation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special
from threadpoolctl import threadpool_limits

from .blocks import conditional
from .fit import MixedFit, check_full_rank, check_groups, positive, tables, vanished, without
from .laplace import Binomial, Laplace
from .terms import Layout, RandomTerm

STARTS = (0.5, 0.2, 1.0)


def fit_glmm(
    design: pd.DataFrame,
    correct: np.ndarray,
    terms: Sequence[RandomTerm],
    *,
    trials: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    eliminate: str | None = None,
    inference: bool = True,
) -> MixedFit:
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
    MixedFit
        Its `converged` must be looked at before any number is printed.

    Raises
    ------
    LimenError
        If the design is not of full rank (names the redundant columns), or a grouping has one level.
    """
    x = design.to_numpy(dtype=float)
    names = [str(name) for name in design.columns]
    check_full_rank(x, names)
    n = np.ones(len(x)) if trials is None else np.asarray(trials, dtype=float)
    o = np.zeros(len(x)) if offset is None else np.asarray(offset, dtype=float)
    layout = Layout(terms, eliminate)
    check_groups(layout)
    model = Laplace(Binomial(x, np.asarray(correct, dtype=float), n, o), layout)
    # The matrices are small: more threads would cost time and could change the last digit.
    with threadpool_limits(limits=1, user_api="blas"):
        start, scale = _naive(x, np.asarray(correct, dtype=float), n, o)
        best = _optimise(model, start, scale)
        return _result(model, names, best, scale if inference else None, int(n.sum()))


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
    return _Optimum(best.beta, positive(layout, best.theta), best.deviance, best.gradient)


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


def _result(model: Laplace, names: list[str], best: _Optimum, scale: np.ndarray | None, rows: int) -> MixedFit:
    layout, p = model.layout, len(names)
    zero = vanished(layout, best.theta)
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
    theta = without(layout, best.theta, zero)
    effects: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    if converged and scale is not None:
        effects, variances = conditional(layout, theta, *model.modes(best.beta, theta))
    return MixedFit(
        family="binomial",
        params=pd.Series(best.beta if converged else np.full(p, np.nan), index=names),
        bse=pd.Series(np.sqrt(np.diag(covariance)), index=names),
        covariance=pd.DataFrame(covariance, index=names, columns=names),
        covariances=tables(layout, theta),
        theta=theta,
        log_likelihood=-best.deviance / 2 if converged else float("nan"),
        converged=converged,
        flags=tuple(flags),
        levels=dict(layout.levels),
        rows=rows,
        gradient=best.gradient,
        effects=effects,
        variances=variances,
    )
