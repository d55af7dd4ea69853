"""Logistic regression with standard errors clustered by participant and by item: a marginal model, both kinds sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from bench.registry import registered, unknown

from ..people import conditions_of
from ..results import NAN, Estimate, Result, holm
from ..separation import adjust, exact_estimate, exponentiate, separated_conditions

MAX_LOG_ODDS = 10.0


@dataclass(frozen=True)
class Fit:
    """A fitted logistic regression with a cluster-robust covariance.

    Attributes
    ----------
    coefficients : array (p,)
    covariance : array (p, p)
        Sandwich covariance; NaN if the fit failed.
    df : float
        Smallest number of clusters over the dimensions, less 1: the t reference.
    converged : bool
        Newton's method ended with a gradient of zero and no coefficient beyond 10 in size.
    """

    names: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    df: float
    clusters: tuple[int, ...]
    converged: bool
    flags: tuple[str, ...]

    @property
    def standard_errors(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))


def fit_logistic(design: pd.DataFrame, correct: np.ndarray, *clusters: np.ndarray) -> Fit:
    """Fit a Bernoulli GLM with the logit link and cluster its covariance in one or two ways.

    Parameters
    ----------
    design : DataFrame (N, p)
        Fixed-effect columns, intercept included, of full rank.
    correct : array (N,)
        0 or 1.
    *clusters : array (N,)
        One or two groupings (participants, items), of any values.

    Returns
    -------
    Fit

    References
    ----------
    Cameron, Gelbach and Miller 2011, doi:10.1198/jbes.2010.07136.
    """
    x, y = design.to_numpy(dtype=float), np.asarray(correct, dtype=float)
    codes = [pd.factorize(np.asarray(grouping, dtype=object))[0] for grouping in clusters]
    sizes = tuple(int(code.max()) + 1 for code in codes)
    names = tuple(map(str, design.columns))
    beta, converged = _newton(x, y)
    if not converged:
        empty = np.full((x.shape[1], x.shape[1]), np.nan)
        return Fit(names, np.full(x.shape[1], np.nan), empty, NAN, sizes, False, ("not_converged",))
    mean = special.expit(x @ beta)
    bread = np.linalg.inv((x * (mean * (1 - mean))[:, None]).T @ x)
    scores = x * (y - mean)[:, None]
    meat = sum(_meat(scores, code) for code in codes)
    if len(codes) == 2:
        pair = pd.factorize(codes[0] * sizes[1] + codes[1])[0]
        meat = meat - _meat(scores, pair)
    covariance, repaired = _semi_definite(bread @ meat @ bread)
    flags = [flag for flag, on in (("repaired_covariance", repaired), ("few_clusters", min(sizes) < 30)) if on]
    return Fit(names, beta, covariance, float(min(sizes) - 1), sizes, True, tuple(flags))


def _newton(x: np.ndarray, y: np.ndarray, steps: int = 50) -> tuple[np.ndarray, bool]:
    beta = np.zeros(x.shape[1])
    for _ in range(steps):
        mean = special.expit(x @ beta)
        gradient = x.T @ (y - mean)
        information = (x * (mean * (1 - mean))[:, None]).T @ x
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            return beta, False
        beta = beta + step
        if not np.isfinite(beta).all() or np.abs(beta).max() > 3 * MAX_LOG_ODDS:
            return beta, False
        if gradient @ step < 1e-16 * len(y):
            return beta, bool(np.abs(beta).max() <= MAX_LOG_ODDS and np.linalg.cond(information) < 1e12)
    return beta, False


def _meat(scores: np.ndarray, code: np.ndarray) -> np.ndarray:
    n, k = scores.shape
    groups = int(code.max()) + 1
    sums = np.column_stack([np.bincount(code, weights=column, minlength=groups) for column in scores.T])
    return np.asarray(groups / (groups - 1) * (n - 1) / (n - k) * sums.T @ sums)


def _semi_definite(covariance: np.ndarray) -> tuple[np.ndarray, bool]:
    symmetric = (covariance + covariance.T) / 2
    values, vectors = np.linalg.eigh(symmetric)
    if values.min() >= -1e-12 * max(values.max(), 0.0):
        return symmetric, False
    return (vectors * np.clip(values, 0, None)) @ vectors.T, True


@registered("analysis", version=1, citation="doi:10.1198/jbes.2010.07136")
def cluster_glm(
    trials: pd.DataFrame,
    *,
    baseline: str = "baseline",
    level: float = 0.95,
    role: Literal["primary", "companion"] = "primary",
) -> Result:
    """Compare each condition with the baseline by a logistic regression clustered by participant and item.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `condition`, `session`, `correct` (0/1).
    baseline : str
        Reference of every contrast.
    level : float
        Level of the intervals, not adjusted.
    role : str
        'companion' once a mixed model is the primary analysis.

    Returns
    -------
    Result
        Quantities 'accuracy difference' (model-based, averaged over sessions), 'odds ratio' (marginal) and 'accuracy'.
        A condition whose answers are all right or all wrong is left out of the fit, flagged `separation`, and gets
        an exact interval of its accuracy only.
    """
    names = conditions_of(trials, baseline)
    if baseline not in set(trials["condition"]):
        raise unknown("GLM, baseline", baseline, sorted(trials["condition"].unique()))
    separated = separated_conditions(trials, names)
    aside = [exact_estimate(trials, name, level) for name in separated]
    kept = trials[~trials["condition"].isin(separated)]
    used = [name for name in names if name not in separated]
    if baseline in separated or len(used) < 2:
        return _result(aside, ("separation",), role, level, [], ())
    if min(kept["participant_id"].nunique(), kept["item_id"].nunique()) < 2:
        return _result(aside, ("undefined",), role, level, [], ())
    design, cells = _design(kept, used)
    fit = fit_logistic(
        design, kept["correct"].to_numpy(), kept["participant_id"].to_numpy(), kept["item_id"].to_numpy()
    )
    if not fit.converged:
        return _result(aside, fit.flags, role, level, list(design.columns), fit.clusters)
    estimates = [*_contrasts(fit, cells, used, level, len(kept)), *aside]
    return _result(estimates, fit.flags, role, level, list(design.columns), fit.clusters)


def _design(trials: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Build an intercept, one dummy a condition, and centred sessions; return also each condition's rows, one a session."""
    columns: dict[str, np.ndarray] = {"intercept": np.ones(len(trials))}
    for name in names[1:]:
        columns[f"condition[{name}]"] = (trials["condition"] == name).to_numpy(dtype=float)
    sessions = np.sort(trials["session"].unique())
    shares = [float((trials["session"] == session).mean()) for session in sessions]
    for session, share in zip(sessions[1:], shares[1:], strict=True):
        columns[f"session[{session:g}]"] = (trials["session"] == session).to_numpy(dtype=float) - share
    design = pd.DataFrame(columns)
    cells = {}
    for index, name in enumerate(names):
        rows = np.zeros((len(sessions), design.shape[1]))
        rows[:, 0] = 1.0
        if index:
            rows[:, index] = 1.0
        for j in range(1, len(sessions)):
            rows[:, len(names) + j - 1] = np.where(np.arange(len(sessions)) == j, 1.0, 0.0) - shares[j]
        cells[name] = rows
    return design, cells


def _contrasts(fit: Fit, cells: dict[str, np.ndarray], names: list[str], level: float, rows: int) -> list[Estimate]:
    t = float(stats.t.ppf((1 + level) / 2, fit.df))
    accuracy, slope = {}, {}
    for name in names:
        mean = special.expit(cells[name] @ fit.coefficients)
        accuracy[name] = float(mean.mean())
        slope[name] = ((mean * (1 - mean))[:, None] * cells[name]).mean(axis=0)
    found = [_wald(fit, "accuracy", name, accuracy[name], slope[name], t, level, rows, test=False) for name in names]
    differences, ratios = [], []
    for index, name in enumerate(names[1:], start=1):
        gap, direction = accuracy[name] - accuracy[names[0]], slope[name] - slope[names[0]]
        differences.append(_wald(fit, "accuracy difference", name, gap, direction, t, level, rows, test=False))
        unit = np.zeros(len(fit.names))
        unit[index] = 1.0
        ratios.append(_wald(fit, "odds ratio", name, float(fit.coefficients[index]), unit, t, level, rows, test=True))
    adjusted = holm(item.p for item in ratios)
    ratios = [adjust(exponentiate(item), p) for item, p in zip(ratios, adjusted, strict=True)]
    differences = [adjust(item, r.p_adjusted, r) for item, r in zip(differences, ratios, strict=True)]
    return [*differences, *ratios, *found]


def _wald(
    fit: Fit,
    quantity: str,
    label: str,
    value: float,
    direction: np.ndarray,
    t: float,
    level: float,
    rows: int,
    *,
    test: bool,
) -> Estimate:
    error = math.sqrt(max(float(direction @ fit.covariance @ direction), 0.0))
    known = error > 0
    statistic = value / error if known and test else NAN
    return Estimate(
        quantity=quantity, label=label, value=value, level=level, n=rows, unit="trials", df=(fit.df,),
        low=value - t * error if known else NAN, high=value + t * error if known else NAN,
        interval="two-way cluster-robust, t", statistic="t" if test else "", statistic_value=statistic,
        p=float(2 * stats.t.sf(abs(statistic), fit.df)) if known and test else NAN, extra={"standard_error": error},
        flags=() if known else ("undefined",),
    )  # fmt: skip


def _result(
    estimates: list[Estimate], flags: tuple[str, ...], role: Literal["primary", "companion"], level: float,
    columns: list[str], clusters: tuple[int, ...],
) -> Result:  # fmt: skip
    method = (
        "Logistic regression of each answer on the condition (against the reference) and the session, with a covariance "
        "clustered by participant and by item at once, so that both people and images count as samples; t reference with "
        "the smaller number of clusters less 1 as degrees of freedom. The effect is marginal (averaged over people and "
        f"images). p values are adjusted by Holm's rule over the conditions; intervals are {level:.0%}, not adjusted."
    )
    if clusters:
        method += f" Clusters: {clusters[0]} participants, {clusters[1]} items."
    return Result(
        name="cluster_glm", title="Logistic regression, clustered by participant and item", role=role, method=method,
        estimates=tuple(estimates), flags=flags, facts={"columns": columns, "clusters": list(clusters)},
    )  # fmt: skip
