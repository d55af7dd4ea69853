"""Minimise a Laplace deviance with its exact gradient, and tell the fit: what the binomial and the ordered model share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from scipy import optimize

from .blocks import Effects, Factored, conditional
from .fit import MixedFit, positive, tables, vanished, without
from .terms import Layout

STARTS = (0.5, 0.2, 1.0)
FARTHEST = 10.0
"""Log-odds beyond which an effect counts as infinite: answers that do not overlap."""


class Deviance(Protocol):
    """Minus twice a log-likelihood as a function of its fixed part and of theta."""

    @property
    def layout(self) -> Layout: ...

    def evaluate(self, fixed: np.ndarray, theta: np.ndarray, /) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the deviance and its gradient by the fixed part and by theta."""
        ...


class Modal(Deviance, Protocol):
    """A deviance that knows the modes of its random effects; see `blocks.conditional`."""

    def modes(self, fixed: np.ndarray, theta: np.ndarray, /) -> tuple[Effects, Factored]:
        """Return the modes at these parameters, and the factors of their curvature."""
        ...


@dataclass(frozen=True)
class Optimum:
    """Where a deviance is smallest; `gradient` is the largest entry left, in units of the scales."""

    fixed: np.ndarray
    theta: np.ndarray
    deviance: float
    gradient: float


def optimise(model: Deviance, start: np.ndarray, scale: np.ndarray) -> Optimum:
    """Minimise a deviance from several thetas until the gradient is gone.

    Parameters
    ----------
    model : its deviance and gradient
    start, scale : (p,) where the fixed part begins, and the rough error of each entry
    """
    layout, p = model.layout, len(start)
    scale = np.concatenate([scale, np.full(len(layout.entries), 0.1)])

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        values = scaled * scale
        deviance, in_fixed, in_theta = model.evaluate(values[:p], values[p:])
        return deviance, np.concatenate([in_fixed, in_theta]) * scale

    best: Optimum | None = None
    for diagonal in STARTS:
        theta = np.zeros(len(layout.entries))
        theta[layout.diagonal()] = diagonal
        found = optimize.minimize(
            objective, np.concatenate([start, theta]) / scale, jac=True, method="L-BFGS-B",
            options={"maxcor": 20, "ftol": 1e-13, "gtol": 1e-5, "maxiter": 300},
        )  # fmt: skip
        values = found.x * scale
        this = Optimum(values[:p], values[p:], float(found.fun), float(np.abs(found.jac).max()))
        if best is None or this.deviance < best.deviance - 1e-7:
            best = this
        if best.gradient < 1e-3:
            break
    assert best is not None
    return Optimum(best.fixed, positive(layout, best.theta), best.deviance, best.gradient)


def told(
    model: Modal, best: Optimum, names: list[str], scale: np.ndarray | None, *,
    family: Literal["binomial", "cumulative"], effects_from: int, rows: int,
) -> MixedFit:  # fmt: skip
    """Return the fit at an optimum, with standard errors where the scales of the fixed part are given.

    Parameters
    ----------
    effects_from : the first entry of the fixed part that is an effect; those before it are thresholds
    """
    layout, p = model.layout, len(names)
    zero = vanished(layout, best.theta)
    free = [i for i, (t, _, low) in enumerate(layout.entries) if (t, low) not in zero]
    hessian = None if scale is None else _hessian(model, best, scale, free)
    definite = hessian is None or bool(np.isfinite(hessian).all() and np.linalg.eigvalsh(hessian).min() > 0)
    separated = bool((np.abs(best.fixed[effects_from:]) > FARTHEST).any())
    converged = definite and best.gradient < 1e-3 and not separated
    flags = (("singular", bool(zero)), ("separation", separated), ("not_converged", not converged))
    covariance = np.full((p, p), np.nan)
    if converged and hessian is not None:
        covariance = 2 * np.linalg.inv(hessian)[:p, :p]
    theta = without(layout, best.theta, zero)
    effects: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    if converged and scale is not None:
        effects, variances = conditional(layout, theta, *model.modes(best.fixed, theta))
    return MixedFit(
        family=family, params=pd.Series(best.fixed if converged else np.full(p, np.nan), index=names),
        bse=pd.Series(np.sqrt(np.diag(covariance)), index=names),
        covariance=pd.DataFrame(covariance, index=names, columns=names), covariances=tables(layout, theta), theta=theta,
        log_likelihood=-best.deviance / 2 if converged else float("nan"), converged=converged,
        flags=tuple(flag for flag, on in flags if on), levels=dict(layout.levels), rows=rows,
        gradient=best.gradient, effects=effects, variances=variances,
    )  # fmt: skip


def _hessian(model: Deviance, best: Optimum, scale: np.ndarray, free: list[int]) -> np.ndarray:
    """Difference the exact gradient around the optimum, over the fixed part and the free entries of theta."""
    p = len(best.fixed)
    steps = np.concatenate([0.01 * scale, np.full(len(best.theta), 0.001)])
    kept = [*range(p), *(p + i for i in free)]
    whole = np.concatenate([best.fixed, best.theta])
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
