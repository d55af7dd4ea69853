"""Fit a linear mixed model with crossed random effects, exactly: ML or REML, with Satterthwaite degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize
from threadpoolctl import threadpool_limits

from bench.registry import LimenError

from .blocks import conditional
from .fit import MixedFit, check_full_rank, check_groups, positive, tables, vanished, without
from .gaussian import Gaussian
from .terms import Layout, RandomTerm

STARTS = (1.0, 0.3, 3.0)
_STEP = 1e-4


def fit_lmm(
    design: pd.DataFrame,
    response: np.ndarray,
    terms: Sequence[RandomTerm],
    *,
    reml: bool = True,
    weights: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    eliminate: str | None = None,
    inference: bool = True,
) -> MixedFit:
    """Fit `response ~ design + random terms` with normal errors.

    Parameters
    ----------
    design : DataFrame (N, p)
        Fixed-effect columns, the intercept included, of full rank.
    response : array (N,)
    terms : sequence of RandomTerm
        Crossed or nested; the factor with the most effects is eliminated unless `eliminate` names another.
    reml : bool
        Restricted likelihood (for estimates and tests) or maximum likelihood (to compare fixed parts).
    weights : array (N,) or None
        Prior weights: a row's variance is sigma squared over its weight.
    inference : bool
        False leaves out the effects of each level and the Hessian: for likelihood ratios.

    Returns
    -------
    MixedFit
        Its `converged` must be looked at before any number is printed.

    Raises
    ------
    LimenError
        If the design is not of full rank (names the redundant columns), a grouping has one level or as many as there
        are rows, or the response does not vary about the design.

    References
    ----------
    Bates et al. 2015, doi:10.18637/jss.v067.i01.
    """
    x, names = design.to_numpy(dtype=float), [str(name) for name in design.columns]
    check_full_rank(x, names)
    y = np.asarray(response, dtype=float) - (0.0 if offset is None else np.asarray(offset, dtype=float))
    layout = Layout(terms, eliminate)
    check_groups(layout)
    for group, levels in layout.levels.items():
        if levels >= len(y):
            raise LimenError(
                f"mixed model, grouping '{group}': it has {levels} levels for {len(y)} rows; with one row a level its "
                "effect cannot be told from the residual."
            )
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    if residual @ residual <= 1e-20 * max(y @ y, 1e-300):
        raise LimenError("mixed model, response: the fixed effects give it exactly; there is nothing left to model.")
    with threadpool_limits(limits=1, user_api="blas"):
        model = Gaussian(x, y, layout, weights, reml=reml)
        theta, deviance, gradient = _optimise(model)
        return _result(model, names, theta, deviance, gradient, inference)


def _optimise(model: Gaussian) -> tuple[np.ndarray, float, float]:
    layout = model.layout
    best: tuple[np.ndarray, float, float] | None = None
    for diagonal in STARTS:
        theta = np.zeros(len(layout.entries))
        theta[layout.diagonal()] = diagonal
        found = optimize.minimize(
            model.evaluate, theta, jac=True, method="L-BFGS-B",
            options={"maxcor": 20, "ftol": 1e-14, "gtol": 1e-5, "maxiter": 500},
        )  # fmt: skip
        this = found.x, float(found.fun), float(np.abs(found.jac).max())
        if best is None or this[1] < best[1] - 1e-7:
            best = this
        if best[2] < 1e-3:
            break
    assert best is not None
    return positive(layout, best[0]), best[1], best[2]


def _hessian(model: Gaussian, theta: np.ndarray, free: list[int]) -> np.ndarray:
    found = np.zeros((len(free), len(free)))
    for column, index in enumerate(free):
        step = np.zeros(len(theta))
        step[index] = _STEP
        up, down = (model.evaluate(theta + sign * step)[1][free] for sign in (1, -1))
        found[:, column] = (up - down) / (2 * _STEP)
    return (found + found.T) / 2


def _result(
    model: Gaussian, names: list[str], theta: np.ndarray, deviance: float, gradient: float, inference: bool
) -> MixedFit:
    layout, p = model.layout, len(names)
    zero = vanished(layout, theta)
    free = [i for i, (t, _, low) in enumerate(layout.entries) if (t, low) not in zero]
    converged = gradient < 1e-2
    if inference and free:
        curvature = _hessian(model, theta, free)
        converged = converged and bool(np.isfinite(curvature).all() and np.linalg.eigvalsh(curvature).min() > 0)
    theta = without(layout, theta, zero)
    solution, factored = model.solve(theta)
    variance = solution.rss / model.nu
    covariance = np.full((p, p), np.nan)
    if converged:
        covariance = variance * np.linalg.inv(solution.information)
    effects: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    if inference and converged:
        effects, variances = conditional(layout, theta, solution.modes, factored, variance)
    flags = [flag for flag, on in (("singular", bool(zero)), ("not_converged", not converged)) if on]
    return MixedFit(
        family="gaussian",
        params=pd.Series(solution.beta if converged else np.full(p, np.nan), index=names),
        bse=pd.Series(np.sqrt(np.diag(covariance)), index=names),
        covariance=pd.DataFrame(covariance, index=names, columns=names),
        covariances=tables(layout, theta, variance),
        theta=theta,
        log_likelihood=-deviance / 2 if converged else float("nan"),
        converged=converged,
        flags=tuple(flags),
        levels=dict(layout.levels),
        rows=model.n,
        gradient=gradient,
        sigma=float(np.sqrt(variance)),
        reml=model.reml,
        effects=effects,
        variances=variances,
    )


def satterthwaite(model: Gaussian, fit: MixedFit, contrast: np.ndarray) -> float:
    """Return the Satterthwaite degrees of freedom of a contrast (p,) of a linear mixed model.

    Variances at zero are held there.

    References
    ----------
    Kuznetsova et al. 2017, doi:10.18637/jss.v082.i13.
    """
    layout = model.layout
    zero = vanished(layout, fit.theta)
    free = [i for i, (t, _, low) in enumerate(layout.entries) if (t, low) not in zero]
    start = np.append(fit.theta[free], fit.sigma)

    def theta_of(values: np.ndarray) -> np.ndarray:
        theta = fit.theta.copy()
        theta[free] = values[:-1]
        return theta

    def deviance(values: np.ndarray) -> float:
        return model.deviance(theta_of(values), values[-1])

    def variance(values: np.ndarray) -> float:
        information = model.solve(theta_of(values))[0].information
        return float(values[-1] ** 2 * contrast @ np.linalg.solve(information, contrast))

    steps = np.diag(np.append(np.full(len(free), _STEP), _STEP * fit.sigma))
    slope = np.array([(variance(start + h) - variance(start - h)) / (2 * h.sum()) for h in steps])
    middle = deviance(start)
    curvature = np.empty((len(start), len(start)))
    for i, a in enumerate(steps):
        curvature[i, i] = (deviance(start + a) - 2 * middle + deviance(start - a)) / a.sum() ** 2
        for j, b in enumerate(steps[:i]):
            mixed = (
                deviance(start + a + b) - deviance(start + a - b) - deviance(start - a + b) + deviance(start - a - b)
            )
            curvature[i, j] = curvature[j, i] = mixed / (4 * a.sum() * b.sum())
    return float(2 * variance(start) ** 2 / (slope @ np.linalg.solve(curvature / 2, slope)))
