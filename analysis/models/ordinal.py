"""Ratings: shares of each answer, the probability of superiority, and cumulative logit models, mixed and marginal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered

from ..measures.clustered import clustered_mean, superiority
from ..measures.cumulative import Cumulative, cumulative_logit
from ..people import conditions_of
from ..results import NAN, Estimate, Result, holm
from ..separation import adjust, exponentiate
from ._ordinal_mixed import conditional_ratios, mixed_method, mixed_ratings

TITLE = "Ratings"
COLUMNS = ("rating", "response", "confidence")
MOST = 11
"""Levels above which answers are a number and no rating."""


@registered("analysis", version=1, citation="doi:10.1016/j.jesp.2018.08.009")
def ordinal(
    trials: pd.DataFrame,
    *,
    answer: str | None = None,
    factor: str = "condition",
    baseline: str = "baseline",
    level: float = 0.95,
) -> Result:
    """Compare ratings between conditions as ordered answers, without taking the steps of the scale as equal.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, the factor, the answer's column, and `item_id` where items were rated.
    answer : str, optional
        Column of the rating, numbers whose order counts; the first of rating, response and confidence that holds 2 to 11
        different numbers where none is given.
    factor : str
        Whose levels are compared; between or within people.
    baseline : str
        The level others are compared with; the first by name if it does not occur.
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'probability of superiority' over the baseline (null .5), 'odds ratio' of a higher answer (cumulative logit mixed model,
        conditional on people and items; none where it failed or nobody answered twice), 'marginal odds ratio' (the same without
        random effects, clustered errors), 'share of answers' (label '<level>: <answer>'), 'term' (an F test of all levels at
        once).

    Raises
    ------
    LimenError
        If a column is missing, or a named answer's column holds no rating.
    """
    lacking = [name for name in ("participant_id", factor, *([answer] if answer else [])) if name not in trials.columns]
    if lacking:
        raise LimenError(f"ratings: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}.")
    column = answer or next((name for name in COLUMNS if _is_rating(trials, name)), None)
    if column is None:
        return _result(
            (), ("undefined",), f"No column of {', '.join(COLUMNS)} holds ratings: 2 to {MOST} different numbers."
        )
    if not _is_rating(trials, column):
        raise LimenError(f"ratings, column '{column}': allowed are 2 to {MOST} different numbers.")
    data = trials.assign(rating=pd.to_numeric(trials[column], errors="coerce")).dropna(subset=["rating", factor])
    data = data.assign(**{factor: data[factor].astype(str)})
    names = _levels(data, factor, baseline)
    shares = _shares(data, factor, names, level)
    points = data.groupby([factor, "participant_id"])["rating"].median().rename("median").reset_index()
    said = _said(column, data, level)
    if len(names) < 2 or data["participant_id"].nunique() < 2:
        few = ("one_participant",) if data["participant_id"].nunique() < 2 else ()
        return _result(shares, few, said, points=points)
    above = _superiorities(data, factor, names, level)
    groups = [data["participant_id"].to_numpy()]
    if "item_id" in data.columns and data["item_id"].nunique() > 1:
        groups.append(data["item_id"].to_numpy())
    x = pd.DataFrame({name: (data[factor] == name).to_numpy(dtype=float) for name in names[1:]})
    fit = cumulative_logit(x, data["rating"].to_numpy(), groups)
    if not fit.converged:
        text = " Odds ratios are not given: the answers of some levels do not overlap."
        return _result([*shares, *above], ("separation",), said + text, points=points)
    flags = [
        flag for flag, on in (("few_clusters", min(fit.clusters) < 30), ("repaired_covariance", fit.repaired)) if on
    ]
    facts = {"thresholds": list(fit.thresholds), "log_likelihood": fit.log_likelihood, "clusters": list(fit.clusters),
             "log_odds_at_each_split": _splits(data, factor, names)}  # fmt: skip
    mixed = mixed_ratings(data, factor, names)
    conditional, text = [], ""
    if mixed is not None:
        flags += [flag for flag in mixed.fit.flags if flag not in flags]
        if mixed.fit.converged:
            conditional, text = conditional_ratios(mixed, names, level), mixed_method(mixed)
            facts |= {"mixed": {"df": mixed.df, "sd": mixed.sds, "steps": list(mixed.steps), "terms": [*mixed.sds],
                                "log_likelihood": mixed.fit.log_likelihood, "params": dict(mixed.fit.params)}}  # fmt: skip
        else:
            text = "The mixed model did not converge, so there are no odds ratios conditional on people and items. "
    joint = [] if conditional else [_joint(fit, len(data))]
    estimates = [*above, *conditional, *_ratios(fit, names, level, len(data)), *shares, *joint]
    return _result(estimates, tuple(flags), said + text + _method(fit), facts, points)


def _is_rating(trials: pd.DataFrame, column: str) -> bool:
    if column not in trials.columns:
        return False
    values = pd.to_numeric(trials[column], errors="coerce")
    whole = trials[column].notna() & (trials[column].astype(str) != "")
    return bool(values.notna().sum() == whole.sum() and 2 <= values.nunique() <= MOST)


def _levels(data: pd.DataFrame, factor: str, baseline: str) -> list[str]:
    if factor == "condition":
        return [name for name in conditions_of(data, baseline) if name in set(data[factor])]
    names = sorted(data[factor].unique())
    return [*([baseline] if baseline in names else []), *(name for name in names if name != baseline)]


def _shares(data: pd.DataFrame, factor: str, names: Sequence[str], level: float) -> list[Estimate]:
    found = []
    for name in names:
        mine = data[data[factor] == name]
        for value in sorted(data["rating"].unique()):
            one = clustered_mean((mine["rating"] == value).to_numpy(dtype=float), mine["participant_id"].to_numpy())
            low, high = one.logit_interval(level)
            known = one.clusters > 1 and 0 < one.value < 1
            found.append(
                Estimate(
                    quantity="share of answers", label=f"{name}: {value:g}", value=one.value, low=low if known else NAN,
                    high=high if known else NAN, level=level, n=one.clusters, df=(one.df,) if known else (),
                    interval="t on log-odds, clustered by participant" if known else "",
                    flags=() if known else ("no_spread" if one.clusters > 1 else "one_participant",),
                    extra={"level": name, "answer": float(value), "answers": one.n},
                )
            )  # fmt: skip
    return found


def _superiorities(data: pd.DataFrame, factor: str, names: Sequence[str], level: float) -> list[Estimate]:
    base = data[data[factor] == names[0]]
    found = []
    for name in names[1:]:
        mine = data[data[factor] == name]
        sides = [part[column].to_numpy() for column in ("rating", "participant_id") for part in (mine, base)]
        one = superiority(*sides)
        low, high = one.logit_interval(level)
        known = one.standard_error > 0 and 0 < one.value < 1
        t = (one.value - 0.5) / one.standard_error if known else NAN
        found.append(
            Estimate(
                quantity="probability of superiority", label=f"{name} over {names[0]}", value=one.value,
                low=low if known else NAN, high=high if known else NAN, level=level,
                interval="t on log-odds, clustered by participant" if known else "", statistic="t" if known else "",
                statistic_value=t, df=(one.df,) if known else (), p=float(2 * stats.t.sf(abs(t), one.df)) if known else NAN,
                n=one.clusters, flags=() if known else ("no_spread",),
                extra={"null": 0.5, "standard_error": one.standard_error, "cliff_delta": 2 * one.value - 1},
            )
        )  # fmt: skip
    return [adjust(item, p) for item, p in zip(found, holm(item.p for item in found), strict=True)]


def _ratios(fit: Cumulative, names: Sequence[str], level: float, rows: int) -> list[Estimate]:
    width = float(stats.t.ppf((1 + level) / 2, fit.df))
    found = []
    for name, value, error in zip(names[1:], fit.effects, fit.errors, strict=True):
        t = value / error if error > 0 else NAN
        item = Estimate(
            quantity="marginal odds ratio", label=f"{name} - {names[0]}", value=float(value), low=value - width * error,
            high=value + width * error, level=level, interval="clustered sandwich, t", statistic="t", statistic_value=float(t),
            df=(fit.df,), p=float(2 * stats.t.sf(abs(t), fit.df)), n=rows, unit="answers",
            extra={"standard_error": float(error), "null": 1.0},
        )  # fmt: skip
        told = exponentiate(item)
        found.append(replace(told, extra={**told.extra, "null": 1.0}))
    return [adjust(item, p) for item, p in zip(found, holm(item.p for item in found), strict=True)]


def _joint(fit: Cumulative, rows: int) -> Estimate:
    """Test all effects at once, with the F reference of as many clusters (Hotelling's scaling)."""
    q, g = len(fit.effects), min(fit.clusters)
    wald = float(fit.effects @ np.linalg.pinv(fit.covariance) @ fit.effects)
    f = wald * (g - q) / (q * (g - 1)) if g > q else NAN
    known = math.isfinite(f)
    return Estimate(
        quantity="term", label="all levels are alike", value=f, statistic="F", statistic_value=f, n=rows, unit="answers",
        df=(float(q), float(g - q)), p=float(stats.f.sf(f, q, g - q)) if known else NAN, flags=() if known else ("undefined",),
    )  # fmt: skip


def _splits(data: pd.DataFrame, factor: str, names: Sequence[str]) -> dict[str, list[float]]:
    """Return each level's log-odds ratio at each split of the scale (half an answer added): alike where odds are proportional."""
    values = sorted(data["rating"].unique())[1:]
    odds = {
        name: [np.log((part >= value).sum() + 0.5) - np.log((part < value).sum() + 0.5) for value in values]
        for name, part in ((name, data.loc[data[factor] == name, "rating"]) for name in names)
    }
    return {name: [float(a - b) for a, b in zip(odds[name], odds[names[0]], strict=True)] for name in names[1:]}


def _said(column: str, data: pd.DataFrame, level: float) -> str:
    return (
        f"{len(data):,} answers ('{column}', {data['rating'].nunique()} levels) of {data['participant_id'].nunique()} people. "
        f"Shares of each answer have {level:.0%} t intervals on the scale of log-odds, clustered by participant. The "
        "probability of superiority is that of a higher answer than under the baseline, ties by half, with an interval over "
        "participants (Obuchowski); it takes the items as fixed. No mean is given: the steps of the scale need not be equal. "
    )


def _method(fit: Cumulative) -> str:
    of = f"{fit.clusters[0]} participants" + (f" and {fit.clusters[1]} items at once" if len(fit.clusters) > 1 else "")
    return (
        "Marginal odds ratios of a higher answer are from a cumulative logit model by maximum likelihood, over people and "
        f"items, with a sandwich covariance clustered by {of}, t on {fit.df:g} degrees of freedom, adjusted by Holm's rule. Odds "
        "ratios take the odds as proportional: the log-odds ratio at each split of the scale is listed, and should be alike."
    )


def _result(
    estimates: Sequence[Estimate], flags: tuple[str, ...], method: str, facts: dict[str, object] | None = None,
    points: pd.DataFrame | None = None,
) -> Result:  # fmt: skip
    return Result(name="ordinal", title=TITLE, role="secondary", method=method, estimates=tuple(estimates), flags=flags,
                  facts=facts or {}, points=points)  # fmt: skip
