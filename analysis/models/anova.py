"""The literature's analysis of participant means: one-way ANOVA, Welch, and every contrast with the baseline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import registered, unknown

from ..people import conditions_of, person_means
from ..results import NAN, Estimate, Result, holm


@registered("analysis", version=1, citation="arXiv:2112.04417")
def anova(trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95, seed: int = 0) -> Result:
    """Compare the conditions' participant means as earlier studies did.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `correct` (0/1).
    baseline : str
        The condition of Dunnett's comparisons.
    level : float
        Level of the simultaneous intervals.
    seed : int
        Seed of the numerical integral behind Dunnett's p.

    Returns
    -------
    Result
        Quantities 'omnibus' (labels 'one-way ANOVA', 'Welch ANOVA'), 'Tukey HSD' (all pairs), 'Dunnett' and
        'Welch t, Holm' (against the baseline). Differences are of accuracies, first named minus second.
    """
    people = person_means(trials)
    names = conditions_of(trials, baseline)
    if baseline not in set(people["condition"]):
        raise unknown("ANOVA, baseline", baseline, sorted(people["condition"].unique()))
    return anova_of_means({name: people.loc[people["condition"] == name, "accuracy"].to_numpy() for name in names},
                          baseline=baseline, level=level, seed=seed)  # fmt: skip


def anova_of_means(groups: Mapping[str, np.ndarray], *, baseline: str, level: float = 0.95, seed: int = 0) -> Result:
    """Do the work of `anova` from participants' means, one array a condition.

    A group of one person, or one without any spread, is left out of every test and flagged.
    """
    arrays = {name: np.asarray(values, dtype=float) for name, values in groups.items()}
    alone = [name for name, values in arrays.items() if len(values) < 2]
    constant = [name for name, values in arrays.items() if name not in alone and np.ptp(values) < 1e-12]
    flags = [flag for flag, names in (("one_participant", alone), ("no_spread", constant)) if names]
    usable = {name: values for name, values in arrays.items() if name not in alone and name not in constant}
    if len(usable) < 2:
        return _refused(flags or ["undefined"])
    estimates, facts = _omnibus(usable)
    facts["left_out"] = alone + constant
    estimates += _tukey(usable, level)
    if baseline in usable:
        estimates += _dunnett(usable, baseline, level, seed) + _welch_t(usable, baseline, level)
    return Result(
        name="anova", title="ANOVA on participant means", role="as published", method=_method(level, seed),
        estimates=tuple(estimates), facts=facts, flags=tuple(flags),
    )  # fmt: skip


def _refused(flags: list[str]) -> Result:
    return Result(
        name="anova", title="ANOVA on participant means", role="as published", flags=tuple(flags),
        method="No analysis of variance was possible: fewer than two conditions have two people whose means differ.",
    )  # fmt: skip


def _omnibus(groups: Mapping[str, np.ndarray]) -> tuple[list[Estimate], dict[str, object]]:
    values = np.concatenate(list(groups.values()))
    n, k = len(values), len(groups)
    between = sum(len(g) * (g.mean() - values.mean()) ** 2 for g in groups.values())
    within = sum(((g - g.mean()) ** 2).sum() for g in groups.values())
    df = (float(k - 1), float(n - k))
    f = (between / df[0]) / (within / df[1])
    effect = {
        "eta_squared": between / (between + within),
        "partial_eta_squared": df[0] * f / (df[0] * f + df[1]),
        "omega_squared": df[0] * (f - 1) / (df[0] * (f - 1) + n),
    }
    denominators = {
        "eta_squared": "SS condition / SS total",
        "partial_eta_squared": "SS condition / (SS condition + SS within); equals eta squared in a one-way design",
        "omega_squared": "df1 (F - 1) / (df1 (F - 1) + N)",
    }
    found = [
        Estimate(
            quantity="omnibus", label="one-way ANOVA", value=NAN, statistic="F", statistic_value=float(f), df=df,
            p=float(stats.f.sf(f, *df)), n=n, extra=effect,
        )
    ]  # fmt: skip
    found.append(_welch(groups, n))
    return found, {"effect_sizes": effect, "denominators": denominators, "within_sd": math.sqrt(within / df[1])}


def _welch(groups: Mapping[str, np.ndarray], n: int) -> Estimate:
    sizes = np.array([len(g) for g in groups.values()], dtype=float)
    means = np.array([g.mean() for g in groups.values()])
    weights = sizes / np.array([g.var(ddof=1) for g in groups.values()])
    k, total = len(sizes), weights.sum()
    grand = (weights * means).sum() / total
    lack = (((1 - weights / total) ** 2) / (sizes - 1)).sum()
    top = (weights * (means - grand) ** 2).sum() / (k - 1)
    f = top / (1 + 2 * (k - 2) / (k**2 - 1) * lack)
    df = (float(k - 1), float((k**2 - 1) / (3 * lack)))
    return Estimate(
        quantity="omnibus", label="Welch ANOVA", value=NAN, statistic="F", statistic_value=float(f), df=df,
        p=float(stats.f.sf(f, *df)), n=n,
    )  # fmt: skip


def _tukey(groups: Mapping[str, np.ndarray], level: float) -> list[Estimate]:
    names = list(groups)
    result = stats.tukey_hsd(*groups.values())
    bounds = result.confidence_interval(level)
    found = []
    for i, j in itertools.combinations(range(len(names)), 2):
        found.append(
            Estimate(
                quantity="Tukey HSD", label=f"{names[j]} - {names[i]}", value=float(-result.statistic[i, j]),
                low=float(-bounds.high[i, j]), high=float(-bounds.low[i, j]), level=level, interval="Tukey-Kramer",
                adjustment="Tukey HSD", p_adjusted=float(result.pvalue[i, j]),
                n=len(groups[names[i]]) + len(groups[names[j]]),
                extra={"first": names[j], "second": names[i]},
            )
        )  # fmt: skip
    return found


def _dunnett(groups: Mapping[str, np.ndarray], baseline: str, level: float, seed: int) -> list[Estimate]:
    names = [name for name in groups if name != baseline]
    result = stats.dunnett(*(groups[name] for name in names), control=groups[baseline], rng=np.random.default_rng(seed))
    bounds = result.confidence_interval(level)
    df = float(sum(len(g) for g in groups.values()) - len(groups))
    return [
        Estimate(
            quantity="Dunnett", label=f"{name} - {baseline}", value=float(groups[name].mean() - groups[baseline].mean()),
            low=float(bounds.low[i]), high=float(bounds.high[i]), level=level, interval="Dunnett",
            statistic="t", statistic_value=float(result.statistic[i]), df=(df,),
            adjustment="Dunnett", p_adjusted=float(result.pvalue[i]), n=len(groups[name]) + len(groups[baseline]),
            extra={"first": name, "second": baseline},
        )
        for i, name in enumerate(names)
    ]  # fmt: skip


def _welch_t(groups: Mapping[str, np.ndarray], baseline: str, level: float) -> list[Estimate]:
    base, found = groups[baseline], []
    for name, values in groups.items():
        if name == baseline:
            continue
        test = stats.ttest_ind(values, base, equal_var=False)
        bounds = test.confidence_interval(level)
        found.append((name, values, test, bounds))
    adjusted = holm(float(item[2].pvalue) for item in found)
    return [
        Estimate(
            quantity="Welch t, Holm", label=f"{name} - {baseline}", value=float(values.mean() - base.mean()),
            low=float(bounds.low), high=float(bounds.high), level=level, interval="Welch t, not adjusted",
            statistic="t", statistic_value=float(test.statistic), df=(float(test.df),), p=float(test.pvalue),
            adjustment="Holm", p_adjusted=p, n=len(values) + len(base), extra={"first": name, "second": baseline},
        )
        for (name, values, test, bounds), p in zip(found, adjusted, strict=True)
    ]  # fmt: skip


def _method(level: float, seed: int) -> str:
    return (
        "For comparison with earlier work, not the recommended analysis: one-way analysis of variance on one mean accuracy a "
        "participant, which treats the images as fixed; Welch's version for unequal variances; all pairs by Tukey's HSD "
        f"(Tukey-Kramer); each condition against the baseline by Dunnett's test (integral seeded with {seed}) and by Welch's t "
        f"with Holm's adjustment. Intervals of Tukey and Dunnett are simultaneous at {level:.0%}."
    )
