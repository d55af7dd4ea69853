"""Fit a cumulative logit mixed model of ordered answers with crossed random effects by the Laplace approximation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special
from threadpoolctl import threadpool_limits

from bench.registry import LimenError

from .blocks import conditional
from .fit import MixedFit, check_full_rank, check_groups, positive, tables, vanished, without
from .ordered_laplace import Ordered, OrderedLaplace
from .terms import Layout, RandomTerm

FARTHEST = 10.0
"""Log-odds beyond which an effect counts as infinite: answers that do not overlap."""
STARTS = (0.5, 0.2, 1.0)


def fit_ordered(
    design: pd.DataFrame, answers: np.ndarray, terms: Sequence[RandomTerm], *, inference: bool = True
) -> MixedFit:
    """Fit logit P(answer > k) = design b + random terms - threshold_k by the Laplace approximation.

    Parameters
    ----------
    design : DataFrame (N, p)
        Fixed effects without an intercept, of full rank beside one; a positive effect means higher answers.
    answers : array (N,)
        Ordered values; those that occur are the levels.
    terms : sequence of RandomTerm
        Crossed or nested.
    inference : bool
        False leaves out the Hessian (standard errors are NaN): for likelihood ratios.

    Returns
    -------
    MixedFit
        `params` holds the thresholds, named 'a|b' by the answers on either side, then the effects; all conditional on the
        groupings. Its `converged` must be looked at before any number is printed.

    Raises
    ------
    LimenError
        If there are fewer than two levels, the design is not of full rank, or a grouping has one level.

    References
    ----------
    McCullagh 1980, doi:10.1111/j.2517-6161.1980.tb01109.x; Tutz and Hennevogl 1996, doi:10.1016/0167-9473(96)00004-7.
    """
    levels, code = np.unique(np.asarray(answers), return_inverse=True)
    if len(levels) < 2:
        raise LimenError(f"ordered mixed model: given {len(levels)} level of answers, allowed are two or more.")
    x = design.to_numpy(dtype=float)
    names = [f"{low:g}|{high:g}" for low, high in itertools.pairwise(levels)]
    names += [str(name) for name in design.columns]
    check_full_rank(np.column_stack([np.ones(len(x)), x]), ["intercept", *names[len(levels) - 1 :]])
    layout = Layout(terms)
    check_groups(layout)
    model = OrderedLaplace(Ordered(x, code, len(levels)), layout)
    # The matrices are small: more threads would cost time and could change the last digit.
    with threadpool_limits(limits=1, user_api="blas"):
        fixed, theta, deviance, gradient = _optimise(model)
        return _result(model, names, (fixed, theta, deviance, gradient), inference)


def _start(data: Ordered) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds of the answers' shares with no effects, and the rough error of each."""
    n, k = len(data.code), data.levels
    cuts = special.logit(np.cumsum(np.bincount(data.code, minlength=k))[:-1] / n)
    spread = data.x.std(axis=0)
    scale = 2 / np.sqrt(n) / np.concatenate([np.ones(k - 1), np.where(spread > 0, spread, 1.0)])
    return np.concatenate([cuts, np.zeros(data.x.shape[1])]), scale


def _optimise(model: OrderedLaplace) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Minimise D over the first threshold, the logarithms of the steps after it, the effects and theta."""
    layout, k = model.layout, model.data.levels
    fixed, scale = _start(model.data)
    p = len(fixed)
    scale = np.concatenate([scale, np.full(len(layout.entries), 0.1)])
    free = fixed.copy()
    free[1 : k - 1] = np.log(np.diff(fixed[: k - 1]))

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        values = scaled * scale
        deviance, in_fixed, in_theta = model.evaluate(_thresholds_first(values[:p], k), values[p:])
        turned = in_fixed.copy()
        for step in range(k - 1):
            turned[step] = in_fixed[step : k - 1].sum() * (np.exp(values[step]) if step else 1.0)
        return deviance, np.concatenate([turned, in_theta]) * scale

    best: tuple[np.ndarray, np.ndarray, float, float] | None = None
    for diagonal in STARTS:
        theta = np.zeros(len(layout.entries))
        theta[layout.diagonal()] = diagonal
        found = optimize.minimize(
            objective, np.concatenate([free, theta]) / scale, jac=True, method="L-BFGS-B",
            options={"maxcor": 20, "ftol": 1e-13, "gtol": 1e-5, "maxiter": 300},
        )  # fmt: skip
        values = found.x * scale
        this = (_thresholds_first(values[:p], k), values[p:], float(found.fun), float(np.abs(found.jac).max()))
        if best is None or this[2] < best[2] - 1e-7:
            best = this
        if best[3] < 1e-3:
            break
    assert best is not None
    return best[0], positive(layout, best[1]), best[2], best[3]


def _thresholds_first(free: np.ndarray, k: int) -> np.ndarray:
    """Turn the first threshold and the logarithms of the steps after it into thresholds."""
    return np.concatenate([np.cumsum(np.concatenate([free[:1], np.exp(free[1 : k - 1])])), free[k - 1 :]])


def _hessian(model: OrderedLaplace, fixed: np.ndarray, theta: np.ndarray, free: Sequence[int]) -> np.ndarray:
    """Difference the exact gradient around the optimum, over the fixed part and the free entries of theta."""
    p = len(fixed)
    steps = np.concatenate([0.01 * _start(model.data)[1], np.full(len(theta), 0.001)])
    kept = [*range(p), *(p + i for i in free)]
    whole = np.concatenate([fixed, theta])
    found = np.zeros((len(kept), len(kept)))
    for column, index in enumerate(kept):
        sides = []
        for sign in (1, -1):
            moved = whole.copy()
            moved[index] += sign * steps[index]
            _, in_fixed, in_theta = model.evaluate(moved[:p], moved[p:])
            sides.append(np.concatenate([in_fixed, in_theta])[kept])
        found[:, column] = (sides[0] - sides[1]) / (2 * steps[index])
    return (found + found.T) / 2


def _result(
    model: OrderedLaplace, names: list[str], best: tuple[np.ndarray, np.ndarray, float, float], inference: bool
) -> MixedFit:
    layout, (fixed, theta, deviance, gradient) = model.layout, best
    zero, p = vanished(layout, theta), len(fixed)
    free = [i for i, (t, _, low) in enumerate(layout.entries) if (t, low) not in zero]
    hessian = _hessian(model, fixed, theta, free) if inference else None
    definite = hessian is None or bool(np.isfinite(hessian).all() and np.linalg.eigvalsh(hessian).min() > 0)
    separated = bool((np.abs(fixed[model.data.levels - 1 :]) > FARTHEST).any())
    converged = definite and gradient < 1e-3 and not separated
    told = (("singular", bool(zero)), ("separation", separated), ("not_converged", not converged))
    covariance = np.full((p, p), np.nan)
    if converged and hessian is not None:
        covariance = 2 * np.linalg.inv(hessian)[:p, :p]
    theta = without(layout, theta, zero)
    effects: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    if converged and inference:
        effects, variances = conditional(layout, theta, *model.modes(fixed, theta))
    return MixedFit(
        family="cumulative", params=pd.Series(fixed if converged else np.full(p, np.nan), index=names),
        bse=pd.Series(np.sqrt(np.diag(covariance)), index=names),
        covariance=pd.DataFrame(covariance, index=names, columns=names), covariances=tables(layout, theta), theta=theta,
        log_likelihood=-deviance / 2 if converged else float("nan"), converged=converged,
        flags=tuple(flag for flag, on in told if on), levels=dict(layout.levels), rows=len(model.data.code),
        gradient=gradient, effects=effects, variances=variances,
    )  # fmt: skip
