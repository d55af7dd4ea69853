"""The classical tests of papers as estimates: each block takes answers or people's means and says what it treats as fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from bench.registry import LimenError

from ..measures.comparisons import difference, equivalence, kruskal_conover
from ..measures.mixed_anova import mixed_anova, repeated_anova
from ..mixed_models import MixedResults, mixedlm
from ..results import NAN, Estimate, holm
from ._people_gaps import gap
from .cluster_glm import fit_logistic

EFFECTS = ("eta2", "partial_eta2", "generalised_eta2", "omega2")
DENOMINATORS = {
    "eta2": "SS effect / SS total",
    "partial_eta2": "SS effect / (SS effect + SS of its own error) = df1 F / (df1 F + df2)",
    "generalised_eta2": "SS effect / (SS effect + all SS of participants and errors)",
    "omega2": "df1 (F - 1) / (df1 (F - 1) + N)",
}
MODELS = {
    "null": "1",
    "condition": "condition",
    "condition + session": "condition + session",
    "condition x session": "condition * session",
}


def anovas(trials: pd.DataFrame, *, within: bool) -> list[Estimate]:
    """Return the mixed ANOVA, condition x session, or where people met all conditions that of repeated measures."""
    try:
        if within:
            found = repeated_anova(trials, value="correct", participant="participant_id", within="condition")
            kind, names = "repeated-measures ANOVA", {"within": "condition"}
        elif "session" in trials.columns and trials["session"].nunique() > 1:
            found = mixed_anova(
                trials, value="correct", participant="participant_id", between="condition", within="session"
            )
            kind = "mixed ANOVA"
            names = {"between": "condition", "within": "session", "interaction": "condition x session"}
        else:
            return []
    except LimenError:
        return []
    estimates = []
    for row, name in names.items():
        cell = {str(key): float(number) for key, number in found.table.loc[row].to_dict().items()}
        extra = {effect: cell[effect] for effect in EFFECTS} | {
            "p_greenhouse_geisser": cell["p_gg"], "p_huynh_feldt": cell["p_hf"], "left_out": found.left_out
        }  # fmt: skip
        known = math.isfinite(cell["F"])
        estimates.append(
            Estimate(
                quantity=kind, label=name, value=NAN, statistic="F", statistic_value=cell["F"], p=cell["p"],
                df=(cell["df1"], cell["df2"]), n=found.participants, extra=extra,
                flags=() if known else ("no_spread",),
            )
        )  # fmt: skip
    return estimates


def against_chance(
    table: pd.DataFrame, trials: pd.DataFrame, names: Sequence[str], chance: float, level: float
) -> list[Estimate]:
    """Hold each condition against chance: t and signed ranks of people's means, binomial of the answers as independent."""
    found: list[Estimate] = []
    for name in names:
        values = table[name].dropna().to_numpy()
        shared: dict[str, Any] = {"label": name, "level": level, "extra": {"null": chance}}
        if len(values) > 1 and np.ptp(values) > 1e-12:
            test = stats.ttest_1samp(values, chance)
            bounds = test.confidence_interval(level)
            found.append(Estimate(quantity="one-sample t", value=float(values.mean()), low=float(bounds.low), high=float(bounds.high),
                                  interval="t", statistic="t", statistic_value=float(test.statistic), df=(float(test.df),),
                                  p=float(test.pvalue), n=len(values), **shared))  # fmt: skip
            signed = stats.wilcoxon(values - chance, zero_method="pratt")
            found.append(Estimate(quantity="Wilcoxon signed-rank", value=float(np.median(values)), statistic="W", n=len(values),
                                  statistic_value=float(signed.statistic), p=float(signed.pvalue), **shared))  # fmt: skip
        answers = trials.loc[trials["condition"] == name, "correct"]
        binomial = stats.binomtest(int(answers.sum()), len(answers), chance)
        exact = binomial.proportion_ci(level, method="exact")
        found.append(Estimate(quantity="binomial", value=float(answers.mean()), low=float(exact.low), high=float(exact.high),
                              interval="Clopper-Pearson (answers as independent)", p=float(binomial.pvalue), n=len(answers),
                              unit="answers", **shared))  # fmt: skip
    return found


def pairwise(table: pd.DataFrame, names: Sequence[str], margin: float, level: float, *, within: bool) -> list[Estimate]:
    """Compare each condition's people with the baseline's: t, ranks, effect sizes, and equivalence within a margin."""
    found = []
    for name in names[1:]:
        one = gap(table, name, names[0], "t test", level)
        found.append(one)
        if not one.interval:
            continue
        found += _paired(table, name, names[0]) if within else _ranks(table, name, names[0])
        same = (
            equivalence(one.value, one.extra["standard_error"], one.df[0], margin)
            if one.extra["standard_error"] > 0
            else None
        )
        if same:
            found.append(
                Estimate(
                    quantity="equivalence (TOST)", label=one.label, value=one.value, low=same.low_90, high=same.high_90, level=0.9,
                    interval="t, 90 %: inside the margin is equivalent", p=same.p, n=one.n, df=one.df,
                    extra={"margin": margin, "verdict": same.verdict, "p_difference": same.p_difference},
                )
            )  # fmt: skip
    return found


def _ranks(table: pd.DataFrame, name: str, base: str) -> list[Estimate]:
    first, second = (table[column].dropna().to_numpy() for column in (name, base))
    label, n = f"{name} - {base}", len(first) + len(second)
    if first.min() > second.max() or first.max() < second.min():
        return [Estimate(quantity="Cliff's delta", label=label, value=float(np.sign(first.min() - second.min())), n=n,
                         flags=("no_spread",), extra={"null": 0.0})]  # fmt: skip
    one = difference(first, second)
    return [
        Estimate(quantity="Cliff's delta", label=label, value=one.cliff, low=one.cliff_low, high=one.cliff_high, n=n,
                 interval="Brunner-Munzel", p=one.brunner_munzel_p, extra={"null": 0.0, "mann_whitney_p": one.mann_whitney_p}),
        Estimate(quantity="Cohen's d", label=label, value=one.d, n=n,
                 extra={"hedges_g": one.g, "denominator": "pooled standard deviation of people's means (ddof 1)"}),
    ]  # fmt: skip


def _paired(table: pd.DataFrame, name: str, base: str) -> list[Estimate]:
    both = table[[name, base]].dropna()
    gaps = (both[name] - both[base]).to_numpy()
    test = stats.wilcoxon(gaps, zero_method="pratt")
    label, n = f"{name} - {base}", len(gaps)
    return [
        Estimate(quantity="Wilcoxon, paired", label=label, value=float(np.median(gaps)), statistic="W",
                 statistic_value=float(test.statistic), p=float(test.pvalue), n=n),
        Estimate(quantity="d_z", label=label, value=float(gaps.mean() / gaps.std(ddof=1)), n=n,
                 extra={"denominator": "standard deviation of people's differences (ddof 1)"}),
    ]  # fmt: skip


def kruskal(groups: Mapping[str, np.ndarray]) -> list[Estimate]:
    """Return Kruskal and Wallis's test with Conover's comparisons of all pairs."""
    try:
        found = kruskal_conover(groups)
    except LimenError:
        return []
    n = sum(len(values) for values in groups.values())
    whole = Estimate(quantity="Kruskal-Wallis", label="condition", value=NAN, statistic="H", statistic_value=found.h,
                     df=(float(found.df),), p=found.p, n=n)  # fmt: skip
    pairs = [
        Estimate(quantity="Conover, Holm", label=f"{first} - {second}", value=NAN, statistic="t", statistic_value=float(t),
                 df=(float(n - len(groups)),), p=float(p), p_adjusted=float(adjusted), adjustment="Holm",
                 n=len(groups[first]) + len(groups[second]))
        for first, second, t, p, adjusted in zip(*(found.pairs[c].tolist() for c in ("first", "second", "t", "p", "p_holm")), strict=True)
    ]  # fmt: skip
    return [whole, *pairs]


def odds_ratios(trials: pd.DataFrame, names: Sequence[str], level: float) -> list[Estimate]:
    """Return each condition's odds ratio from a logistic regression that takes all answers as independent."""
    x = pd.DataFrame(
        {"one": np.ones(len(trials))} | {name: (trials["condition"] == name).to_numpy() * 1.0 for name in names[1:]}
    )
    rows = np.arange(len(trials))
    fit = fit_logistic(x, trials["correct"].to_numpy(dtype=float), rows, rows)
    if not fit.converged:
        return []
    mean = 1 / (1 + np.exp(-x.to_numpy() @ fit.coefficients))
    errors = np.sqrt(np.diag(np.linalg.inv((x.to_numpy() * (mean * (1 - mean))[:, None]).T @ x.to_numpy())))
    z = stats.norm.ppf((1 + level) / 2)
    found = []
    for name, value, error in zip(names[1:], fit.coefficients[1:], errors[1:], strict=True):
        low, high = math.exp(value - z * error), math.exp(value + z * error)
        found.append(Estimate(quantity="odds ratio, answers as independent", label=f"{name} - {names[0]}", value=math.exp(value),
                              low=low, high=high, level=level, interval="Wald, z", statistic="z", statistic_value=float(value / error),
                              p=float(2 * stats.norm.sf(abs(value / error))), n=len(trials), unit="answers",
                              extra={"null": 1.0}))  # fmt: skip
    return found


def nested_models(trials: pd.DataFrame) -> tuple[list[Estimate], list[dict[str, float | str]]]:
    """Return likelihood-ratio tests of nested mixed models with people and items crossed, and the table of AIC and BIC."""
    data = trials.rename(columns={"participant_id": "participant", "item_id": "item"})
    sessions = "session" in data.columns and data["session"].nunique() > 1
    kept = [name for name in MODELS if sessions or "session" not in name]
    data = data.assign(session=data["session"].astype(str)) if sessions else data
    tests: list[Estimate] = []
    table: list[dict[str, float | str]] = []
    before: MixedResults | None = None
    for name in kept:
        try:
            fit = mixedlm(f"correct ~ {MODELS[name]} + (1|participant) + (1|item)", data, family="binomial").fit(
                inference=False
            )
        except LimenError:
            return [], []
        if not fit.converged:
            return [], []
        table.append(
            {"model": name, "log_likelihood": fit.llf, "aic": fit.aic, "bic": fit.bic, "parameters": fit.fit.parameters}
        )
        if before is not None:
            one = fit.lr_test(before)
            tests.append(Estimate(quantity="likelihood ratio", label=f"{name} against {table[-2]['model']}", value=NAN,
                                  statistic="chi2", statistic_value=one.statistic, df=one.df, p=one.p, n=len(data), unit="answers"))  # fmt: skip
        before = fit
    return tests, table


def correlations(trials: pd.DataFrame, level: float) -> list[Estimate]:
    """Correlate people's accuracy with their median time and mean confidence: Pearson, Spearman and Kendall, with n."""
    people = trials.groupby("participant_id")
    found: list[Estimate] = []
    for column, named in (("rt_ms", "median response time"), ("confidence", "mean confidence")):
        if column not in trials.columns or trials[column].notna().sum() == 0:
            continue
        other = people[column].median() if column == "rt_ms" else people[column].mean()
        pair = pd.DataFrame({"accuracy": people["correct"].mean(), "other": other}).dropna()
        if len(pair) < 4 or (pair.nunique() < 2).any():
            continue
        for kind, rule, spread in (
            ("Pearson", stats.pearsonr, 1.0), ("Spearman", stats.spearmanr, None), ("Kendall", stats.kendalltau, 0.437)
        ):  # fmt: skip
            r, p = (float(number) for number in rule(pair["accuracy"], pair["other"]))
            low, high = _fisher(
                r, len(pair), 1 + r**2 / 2 if spread is None else spread, 4 if kind == "Kendall" else 3, level
            )
            found.append(Estimate(quantity=f"{kind} correlation", label=f"accuracy, {named}", value=r, low=low, high=high, level=level,
                                  interval="Fisher z", p=p, n=len(pair), extra={"null": 0.0}))  # fmt: skip
    tested = [item.p for item in found]
    return [replace(item, p_adjusted=p, adjustment="Holm") for item, p in zip(found, holm(tested), strict=True)]


def _fisher(r: float, n: int, spread: float, less: int, level: float) -> tuple[float, float]:
    """Return the interval of a correlation by Fisher's z; the variance of ranks as Bonett and Wright and Fieller give it."""
    if abs(r) >= 1 or n <= less:
        return NAN, NAN
    half = float(stats.norm.ppf((1 + level) / 2) * np.sqrt(spread / (n - less)))
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def kappas(trials: pd.DataFrame, names: Sequence[str], level: float) -> list[Estimate]:
    """Return Cohen's kappa of the answer given with the expected one, all answers as independent."""
    if not {"response", "expected"} <= set(trials.columns):
        return []
    kept = trials[trials["response"].notna() & trials["expected"].notna()].astype({"response": str, "expected": str})
    kept = kept[(kept["response"] != "") & (kept["expected"] != "")]
    found = []
    for name in names:
        mine = kept[kept["condition"] == name]
        levels = sorted({*mine["response"], *mine["expected"]})
        if not 2 <= len(levels) <= 20:
            continue
        counts = (
            pd.crosstab(mine["response"], mine["expected"])
            .reindex(index=levels, columns=levels, fill_value=0)
            .to_numpy()
        )
        one = cohens_kappa(counts)
        half = float(stats.norm.ppf((1 + level) / 2)) * float(one.std_kappa)
        value, known = float(one.kappa), math.isfinite(half)
        found.append(Estimate(quantity="Cohen's kappa", label=name, value=value, low=value - half if known else NAN,
                              high=value + half if known else NAN, level=level, n=len(mine), unit="answers", extra={"null": 0.0},
                              interval="asymptotic, answers as independent" if known else "", p=float(one.pvalue_two_sided)))  # fmt: skip
    return found
