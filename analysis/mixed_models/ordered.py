"""Fit a cumulative logit mixed model of ordered answers with crossed random effects by the Laplace approximation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import special
from threadpoolctl import threadpool_limits

from bench.registry import LimenError

from .fit import MixedFit, check_full_rank, check_groups
from .optimum import optimise, told
from .ordered_laplace import Ordered, OrderedLaplace
from .terms import Layout, RandomTerm


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
        fixed, scale = _start(model.data)
        fixed[1 : len(levels) - 1] = np.log(np.diff(fixed[: len(levels) - 1]))
        best = optimise(_Free(model), fixed, scale)
        best = replace(best, fixed=_thresholds_first(best.fixed, len(levels)))
        errors = scale if inference else None
        return told(model, best, names, errors, family="cumulative", effects_from=len(levels) - 1, rows=len(code))


def _start(data: Ordered) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds of the answers' shares with no effects, and the rough error of each."""
    n, k = len(data.code), data.levels
    cuts = special.logit(np.cumsum(np.bincount(data.code, minlength=k))[:-1] / n)
    spread = data.x.std(axis=0)
    scale = 2 / np.sqrt(n) / np.concatenate([np.ones(k - 1), np.where(spread > 0, spread, 1.0)])
    return np.concatenate([cuts, np.zeros(data.x.shape[1])]), scale


class _Free:
    """The deviance by the first threshold, the logarithms of the steps after it, and the effects: free of any order."""

    def __init__(self, model: OrderedLaplace) -> None:
        self.layout, self._model, self._k = model.layout, model, model.data.levels

    def evaluate(self, free: np.ndarray, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        k = self._k
        deviance, in_fixed, in_theta = self._model.evaluate(_thresholds_first(free, k), theta)
        turned = in_fixed.copy()
        for step in range(k - 1):
            turned[step] = in_fixed[step : k - 1].sum() * (np.exp(free[step]) if step else 1.0)
        return deviance, turned, in_theta


def _thresholds_first(free: np.ndarray, k: int) -> np.ndarray:
    """Turn the first threshold and the logarithms of the steps after it into thresholds."""
    return np.concatenate([np.cumsum(np.concatenate([free[:1], np.exp(free[1 : k - 1])])), free[k - 1 :]])
