"""Utility: how much better people with an explanation predict the model than people without one, as a ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import registered, unknown

from ..people import conditions_of, person_sessions, session_ends
from ..results import NAN, Estimate, Result

Formula = Literal["ratio_of_means", "mean_of_ratios", "trapezoid"]
FORMULAS: tuple[Formula, ...] = get_args(Formula)


def session_weights(formula: Formula, k_seen: Sequence[float]) -> np.ndarray:
    """Return the weight of each session in a Utility, summing to 1.

    `trapezoid` weighs by the trapezoid rule over the number of training examples seen; the others weigh equally.
    """
    ends = np.asarray(k_seen, dtype=float)
    if formula != "trapezoid" or len(ends) < 2:
        return np.full(len(ends), 1 / len(ends))
    steps = np.diff(ends)
    weights = np.zeros(len(ends))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights / weights.sum()


def utility_value(condition: np.ndarray, baseline: np.ndarray, formula: Formula, k_seen: Sequence[float]) -> np.ndarray:
    """Compute Utility from mean accuracies by session.

    Parameters
    ----------
    condition, baseline : array (..., K)
        Mean accuracy after each of K sessions.
    formula : str
        `ratio_of_means`, `mean_of_ratios` or `trapezoid`.
    k_seen : sequence of float
        Training examples seen by the end of each session.

    Returns
    -------
    array (...)
        1 = as accurate as the baseline.

    References
    ----------
    arXiv:2112.04417; `ratio_of_means` is what its Table 1 prints most nearly.
    """
    if formula not in FORMULAS:
        raise unknown("Utility, formula", formula, FORMULAS)
    weights = session_weights(formula, k_seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        if formula == "ratio_of_means":
            return np.asarray((condition @ weights) / (baseline @ weights))
        return np.asarray((condition / baseline) @ weights)


@dataclass(frozen=True)
class Group:
    """Session accuracies of the participants of one condition, (n, K)."""

    sessions: np.ndarray

    @property
    def n(self) -> int:
        return len(self.sessions)

    @property
    def mean(self) -> np.ndarray:
        """Mean accuracy by session, (K,)."""
        return np.asarray(self.sessions.mean(axis=0))

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the mean vector, (K, K)."""
        centred = self.sessions - self.mean
        return np.asarray(centred.T @ centred / (self.n - 1) / self.n)


def log_delta(
    group: Group, base: Group, formula: Formula, k_seen: Sequence[float], level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of Utility by the delta method on its logarithm, t with n_c + n_b - 2 degrees of freedom."""
    value = float(utility_value(group.mean, base.mean, formula, k_seen))
    weights = session_weights(formula, k_seen)
    a, b = group.mean, base.mean
    if formula == "ratio_of_means":
        slope_a, slope_b = weights / (b @ weights), -value * weights / (b @ weights)
    else:
        slope_a, slope_b = weights / b, -weights * a / b**2
    variance = (slope_a @ group.covariance @ slope_a + slope_b @ base.covariance @ slope_b) / value**2
    half = float(stats.t.ppf((1 + level) / 2, group.n + base.n - 2)) * math.sqrt(variance)
    return value * math.exp(-half), value * math.exp(half)


def fieller(group: Group, base: Group, level: float = 0.95) -> tuple[float, float]:
    """Return Fieller's interval of the ratio of means; (-inf, inf) where the baseline mean is too uncertain.

    References
    ----------
    Fieller 1954, Journal of the Royal Statistical Society B 16, 175-185.
    """
    top, bottom = group.sessions.mean(axis=1), base.sessions.mean(axis=1)
    m_c, m_b = top.mean(), bottom.mean()
    v_c, v_b = top.var(ddof=1) / group.n, bottom.var(ddof=1) / base.n
    t = float(stats.t.ppf((1 + level) / 2, group.n + base.n - 2))
    q = t**2 * v_b / m_b**2
    if q >= 1:
        return -math.inf, math.inf
    ratio = m_c / m_b
    centre = ratio / (1 - q)
    half = t / (m_b * (1 - q)) * math.sqrt(v_c * (1 - q) + ratio**2 * v_b)
    return float(centre - half), float(centre + half)


def bootstrap_utilities(
    groups: dict[str, Group], baseline: str, formula: Formula, k_seen: Sequence[float], *, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Resample participants within each condition and within the baseline (one resampled baseline for all).

    Returns
    -------
    dict of array (draws,)
        Utility of each condition but the baseline.
    """
    means = {}
    for name, child in zip(groups, np.random.SeedSequence(seed).spawn(len(groups)), strict=True):
        group = groups[name]
        picks = np.random.default_rng(child).integers(0, group.n, size=(draws, group.n))
        means[name] = group.sessions[picks].mean(axis=1)
    base = means.pop(baseline)
    return {name: utility_value(mean, base, formula, k_seen) for name, mean in means.items()}


def groups_of(trials: pd.DataFrame, baseline: str) -> tuple[dict[str, Group], list[float], int]:
    """Collect session accuracies by condition; people without an answer in every session are left out and counted."""
    table = person_sessions(trials)
    whole = table.dropna()
    seen = session_ends(trials)
    groups = {}
    for name in conditions_of(trials, baseline):
        rows = whole[whole.index.get_level_values("condition") == name]
        groups[name] = Group(rows.to_numpy(dtype=float))
    return groups, [seen[float(session)] for session in table.columns], len(table) - len(whole)


@registered("analysis", version=1, citation="arXiv:2112.04417")
def utility(
    trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95, bootstrap: int = 2000, seed: int = 0
) -> Result:
    """Compute Utility by its three formulas, each with its intervals.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `session`, `correct` (0/1), `k_seen`.
    baseline : str
        The condition without explanation.
    level : float
        Level of the intervals.
    bootstrap : int
        Resamples of participants for the bootstrap interval; 0 leaves it out.
    seed : int
        Seed of the resampling.

    Returns
    -------
    Result
        Quantities 'utility (<formula>)'; `interval` says which of 'log-delta', 'Fieller' and
        'bootstrap over participants' an estimate carries. The log-delta one comes first.
    """
    groups, k_seen, incomplete = groups_of(trials, baseline)
    if baseline not in trials["condition"].unique():
        raise unknown("Utility, baseline", baseline, sorted(trials["condition"].unique()))
    flags = ("incomplete_sessions",) if incomplete else ()
    estimates: list[Estimate] = []
    for formula in FORMULAS:
        samples = (
            bootstrap_utilities(groups, baseline, formula, k_seen, draws=bootstrap, seed=seed)
            if bootstrap and min(group.n for group in groups.values()) > 1
            else {}
        )
        for name, group in groups.items():
            if name != baseline:
                estimates += _intervals(name, group, groups[baseline], formula, k_seen, level, samples.get(name))
    return Result(
        name="utility", title="Utility", role="secondary", method=_method(level, bootstrap, seed, incomplete, k_seen),
        estimates=tuple(estimates), flags=flags, points=_points(groups, k_seen),
        facts={"k_seen": k_seen, "incomplete": incomplete, "bootstrap": bootstrap, "seed": seed, "default": "ratio_of_means"},
    )  # fmt: skip


def _intervals(
    name: str,
    group: Group,
    base: Group,
    formula: Formula,
    k_seen: list[float],
    level: float,
    samples: np.ndarray | None,
) -> list[Estimate]:
    quantity = f"utility ({formula})"
    fault = _fault(group, base)
    if fault:
        value = float(utility_value(group.mean, base.mean, formula, k_seen)) if group.n and base.n else NAN
        value = value if math.isfinite(value) else NAN
        return [Estimate(quantity=quantity, label=name, value=value, interval="log-delta", n=group.n, flags=(fault,))]
    value = float(utility_value(group.mean, base.mean, formula, k_seen))

    def estimate(kind: str, bounds: tuple[float, float], flags: tuple[str, ...] = ()) -> Estimate:
        return Estimate(
            quantity=quantity, label=name, value=value, low=bounds[0], high=bounds[1], level=level, interval=kind,
            n=group.n, flags=flags, extra={"n_baseline": base.n},
        )  # fmt: skip

    found = [estimate("log-delta", log_delta(group, base, formula, k_seen, level))]
    if formula == "ratio_of_means":
        bounds = fieller(group, base, level)
        found.append(estimate("Fieller", bounds, () if math.isfinite(bounds[0]) else ("unbounded",)))
    if samples is not None:
        tail = (1 - level) / 2
        low, high = np.quantile(samples, [tail, 1 - tail])
        found.append(estimate("bootstrap over participants", (float(low), float(high))))
    return found


def _fault(group: Group, base: Group) -> str:
    if not group.n or not base.n:
        return "undefined"
    if min(group.n, base.n) < 2:
        return "one_participant"
    if (base.mean <= 0).any() or group.mean.sum() <= 0:
        return "not_positive"
    spread: Callable[[Group], float] = lambda g: float(np.abs(g.covariance).max())  # noqa: E731
    return "no_spread" if spread(group) < 1e-15 or spread(base) < 1e-15 else ""


def _points(groups: dict[str, Group], k_seen: list[float]) -> pd.DataFrame:
    rows = [
        {"condition": name, "k_seen": seen, "accuracy": float(value)}
        for name, group in groups.items() if group.n
        for seen, value in zip(k_seen, group.mean, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["condition", "k_seen", "accuracy"])


def _method(level: float, bootstrap: int, seed: int, incomplete: int, k_seen: list[float]) -> str:
    text = (
        f"With a(K) the mean accuracy of a condition and b(K) that of the baseline after K = "
        f"{', '.join(f'{k:g}' for k in k_seen)} training examples, Utility is mean a / mean b (ratio_of_means, the default), "
        "the mean of a/b (mean_of_ratios), or the area under a/b over K divided by the range of K (trapezoid). "
        f"Intervals of {level:.0%}: delta method on log Utility with a t reference (default), Fieller's for the ratio of means"
    )
    if bootstrap:
        text += f", and a percentile bootstrap over participants ({bootstrap:,} resamples, seed {seed})"
    text += ". All treat the images as fixed: they speak of new people on these images, not of new images."
    if incomplete:
        text += f" {incomplete} participant(s) without an answer in every session were left out."
    return text
