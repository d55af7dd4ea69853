"""The cumulative logit model of ordered answers, with standard errors clustered by participants and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special

from bench.registry import LimenError

FARTHEST = 15.0
"""Log-odds beyond which an effect counts as infinite: levels that do not overlap."""


@dataclass(frozen=True, kw_only=True)
class Cumulative:
    """A fit of logit P(answer > k) = x b - threshold_k; a positive effect means higher answers.

    Attributes
    ----------
    effects, errors : Series (p,)
    covariance : array (p, p), of the effects, clustered
    thresholds : array (K - 1,), increasing
    log_likelihood : float
    clusters : sizes of the groupings the errors are clustered by
    converged : False gives no test and no interval
    repaired : whether a covariance of two groupings had negative eigenvalues, set to 0
    """

    effects: pd.Series
    errors: pd.Series
    covariance: np.ndarray
    thresholds: np.ndarray
    log_likelihood: float
    clusters: tuple[int, ...]
    converged: bool
    repaired: bool

    @property
    def df(self) -> float:
        """Degrees of freedom of a t reference: the smaller number of clusters less 1."""
        return float(min(self.clusters) - 1)

    def shares(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each answer at rows of the design, (n, K)."""
        above = special.expit(np.atleast_2d(x) @ self.effects.to_numpy()[:, None] - self.thresholds)
        edges = np.column_stack([np.ones(len(above)), above, np.zeros(len(above))])
        return np.asarray(edges[:, :-1] - edges[:, 1:])


def cumulative_logit(x: pd.DataFrame, answers: np.ndarray, clusters: Sequence[np.ndarray]) -> Cumulative:
    """Fit by maximum likelihood; standard errors by the sandwich over one grouping, or two at once.

    Parameters
    ----------
    x : DataFrame (n, p), without an intercept
    answers : (n,), ordered values; those that occur are the levels
    clusters : one or two groupings (n,); people, and items

    Raises
    ------
    LimenError
        If there are fewer than two levels, or more effects than answers allow.

    References
    ----------
    McCullagh 1980; Cameron, Gelbach and Miller 2011, doi:10.1198/jbes.2010.07136.
    """
    levels, code = np.unique(np.asarray(answers), return_inverse=True)
    k, design = len(levels), x.to_numpy(dtype=float)
    if k < 2 or len(code) <= design.shape[1] + k - 1:
        raise LimenError(
            f"ordered answers: given {len(code)} of {k} levels, allowed are two or more levels and more answers."
        )
    share = np.cumsum(np.bincount(code, minlength=k))[:-1] / len(code)
    start = np.concatenate([special.logit(share[:1]), np.log(np.diff(special.logit(share))), np.zeros(design.shape[1])])
    found = optimize.minimize(
        _loss, start, args=(design, code, k), jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 500}
    )
    values = _thresholds_first(found.x, k)
    scores = _scores(values, design, code, k)
    hessian = _hessian(values, design, code, k)
    ok = np.abs(scores.sum(axis=0)).max() < 1e-4 * len(code) and np.linalg.eigvalsh(hessian).min() > 0
    ok = bool(ok and (np.abs(values[k - 1 :]) < FARTHEST).all())
    covariance, repaired = _sandwich(scores, hessian, clusters) if ok else (np.full_like(hessian, np.nan), False)
    inside = covariance[k - 1 :, k - 1 :]
    return Cumulative(
        effects=pd.Series(values[k - 1 :], index=x.columns), errors=pd.Series(np.sqrt(np.diag(inside)), index=x.columns),
        covariance=inside, thresholds=values[: k - 1], log_likelihood=float(-found.fun),
        clusters=tuple(len(np.unique(np.asarray(group).astype(str))) for group in clusters), converged=ok, repaired=repaired,
    )  # fmt: skip


def _thresholds_first(free: np.ndarray, k: int) -> np.ndarray:
    """Turn the first threshold and the logarithms of the steps after it into thresholds."""
    return np.concatenate([np.cumsum(np.concatenate([free[:1], np.exp(free[1 : k - 1])])), free[k - 1 :]])


def _edges(values: np.ndarray, x: np.ndarray, code: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each answer's upper and lower threshold from its linear predictor, (n,), (n,)."""
    cuts = np.concatenate([[-np.inf], values[: k - 1], [np.inf]])
    linear = x @ values[k - 1 :]
    return cuts[code + 1] - linear, cuts[code] - linear


def _scores(values: np.ndarray, x: np.ndarray, code: np.ndarray, k: int) -> np.ndarray:
    """Return each answer's derivative of the log likelihood in thresholds and effects, (n, K - 1 + p)."""
    upper, lower = _edges(values, x, code, k)
    high, low = special.expit(upper), special.expit(lower)
    inside = np.maximum(high - low, 1e-300)
    up, down = high * (1 - high) / inside, low * (1 - low) / inside
    found = np.zeros((len(code), k - 1 + x.shape[1]))
    rows = np.arange(len(code))
    top, bottom = code < k - 1, code > 0
    found[rows[top], code[top]] += up[top]
    found[rows[bottom], code[bottom] - 1] -= down[bottom]
    found[:, k - 1 :] = -(up - down)[:, None] * x
    return found


def _loss(free: np.ndarray, x: np.ndarray, code: np.ndarray, k: int) -> tuple[float, np.ndarray]:
    values = _thresholds_first(free, k)
    upper, lower = _edges(values, x, code, k)
    loss = -np.log(np.maximum(special.expit(upper) - special.expit(lower), 1e-300)).sum()
    slope = -_scores(values, x, code, k).sum(axis=0)
    turned = slope.copy()
    turned[0] = slope[: k - 1].sum()
    for step in range(1, k - 1):
        turned[step] = slope[step : k - 1].sum() * np.exp(free[step])
    return float(loss), turned


def _hessian(values: np.ndarray, x: np.ndarray, code: np.ndarray, k: int) -> np.ndarray:
    """Return the observed information by central differences of the analytic derivative."""
    size = len(values)
    found = np.zeros((size, size))
    for place in range(size):
        step = np.zeros(size)
        step[place] = 1e-5
        found[place] = -(_scores(values + step, x, code, k) - _scores(values - step, x, code, k)).sum(axis=0) / 2e-5
    return (found + found.T) / 2


def _sandwich(scores: np.ndarray, hessian: np.ndarray, clusters: Sequence[np.ndarray]) -> tuple[np.ndarray, bool]:
    groups = [np.unique(np.asarray(group).astype(str), return_inverse=True)[1] for group in clusters]
    meat = sum(_meat(scores, group) for group in groups)
    if len(groups) == 2:
        meat = meat - _meat(scores, groups[0] * (int(groups[1].max()) + 1) + groups[1])
    bread = np.linalg.inv(hessian)
    covariance = bread @ meat @ bread
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values.min() >= -1e-12 * max(values.max(), 1e-300):
        return np.asarray(covariance), False
    return np.asarray((vectors * np.clip(values, 0, None)) @ vectors.T), True


def _meat(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    names, group = np.unique(codes, return_inverse=True)
    sums = np.zeros((len(names), scores.shape[1]))
    np.add.at(sums, group, scores)
    n, p, g = len(scores), scores.shape[1], len(names)
    return np.asarray(g / (g - 1) * (n - 1) / (n - p) * sums.T @ sums)
