"""Fit a logistic mixed model with crossed random effects by the Laplace approximation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special
from threadpoolctl import threadpool_limits

from .fit import MixedFit, check_full_rank, check_groups
from .laplace import Binomial, Laplace
from .optimum import optimise, told
from .terms import Layout, RandomTerm


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
        best, errors = optimise(model, start, scale), scale if inference else None
        return told(model, best, names, errors, family="binomial", effects_from=0, rows=int(n.sum()))


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
