"""The primary test: a logistic mixed model with people and items crossed, random slopes chosen by a printed rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import registered, unknown

from ..mixed_models import MixedFit, RandomTerm, fit_glmm, margins
from ..mixed_models.slopes import choose, told
from ..people import conditions_of
from ..results import NAN, Estimate, Result, holm
from ..separation import adjust, exact_estimate, exponentiate, separated_conditions


@dataclass(frozen=True)
class Part:
    """A random term under a name for the text, whether the rule may drop it, and its value in each session (S,)."""

    name: str
    term: RandomTerm
    slope: bool
    values: np.ndarray

    def __str__(self) -> str:
        return self.name


@registered("analysis", version=1, citation="doi:10.1016/j.jml.2012.11.001")
def mixed_model(trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95) -> Result:
    """Compare each condition with the baseline by a mixed model with participants and items crossed.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `condition`, `session`, `correct` (0/1); one condition a participant.
    baseline : str
        Reference of every contrast.
    level : float
        Level of the intervals, not adjusted.

    Returns
    -------
    Result
        Quantities 'accuracy difference' (of the population, averaged over sessions), 'odds ratio' (conditional on
        participant and item) and 'accuracy'. No estimate at all from a fit that did not converge. A condition whose
        answers are all right or all wrong is set aside, flagged `separation`, with an exact interval of its accuracy.
    """
    names = conditions_of(trials, baseline)
    if baseline not in set(trials["condition"]):
        raise unknown("mixed model, baseline", baseline, sorted(trials["condition"].unique()))
    separated = separated_conditions(trials, names)
    aside = [exact_estimate(trials, name, level) for name in separated]
    kept = trials[~trials["condition"].isin(separated)]
    used = [name for name in names if name not in separated]
    if baseline in separated or len(used) < 2:
        return _refused(aside, "separation")
    if min(kept["participant_id"].nunique(), kept["item_id"].nunique()) < 2:
        return _refused(aside, "undefined")
    contrasts = session_contrasts(kept["session"].nunique())
    design, cells = _design(kept, used, contrasts)
    fit, parts, steps = _by_rule(design, kept, contrasts)
    if not fit.converged:
        return _refused(aside, *fit.flags)
    df = unit_df(kept)
    estimates = [*_contrasts(fit, parts, cells, used, df, level, len(kept)), *aside]
    facts: dict[str, Any] = {"steps": steps, "df": df, "reference": baseline}
    facts |= {"terms": [part.name for part in parts], "sd": _sds(fit, parts)}
    facts |= {"log_likelihood": fit.log_likelihood, "aic": fit.aic, "levels": fit.levels}
    flags = [flag for flag, on in (("singular", "singular" in fit.flags), ("few_levels", min(fit.levels[g] for g in ("participant", "item")) < 30)) if on]  # fmt: skip
    method = _method(parts, steps, fit, baseline, df, level)
    return Result(name="mixed_model", title="Mixed model, participants and items crossed", role="primary", method=method,
                  estimates=tuple(estimates), facts=facts, flags=tuple(flags))  # fmt: skip


def session_contrasts(sessions: int) -> np.ndarray:
    """Return centred contrasts of the sessions, linear (from -0.5 to 0.5) then quadratic, (sessions, 0 to 2)."""
    if sessions < 2:
        return np.zeros((sessions, 0))
    linear = np.linspace(-0.5, 0.5, sessions)
    if sessions == 2:
        return linear[:, None]
    square = linear**2 - (linear**2).mean()
    return np.column_stack([linear, square / np.ptp(square)])


def unit_df(trials: pd.DataFrame) -> float:
    """Return the degrees of freedom of every contrast: least over units of levels less cells of the between-unit factors."""
    found = []
    for unit in ("participant_id", "item_id"):
        between = [f for f in ("condition", "session") if (trials.groupby(unit)[f].nunique() == 1).all()]
        cells = trials[between].drop_duplicates().shape[0] if between else 1
        found.append(trials[unit].nunique() - cells)
    return float(max(min(found), 1))


def _design(
    trials: pd.DataFrame, names: list[str], contrasts: np.ndarray
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    code = np.searchsorted(np.sort(trials["session"].unique()), trials["session"])
    columns: dict[str, np.ndarray] = {"intercept": np.ones(len(trials))}
    for name in names[1:]:
        columns[f"condition[{name}]"] = (trials["condition"] == name).to_numpy(dtype=float)
    for kind, column in zip(("linear", "quadratic"), contrasts.T, strict=False):
        columns[f"session[{kind}]"] = column[code]
    cells = {}
    for index, name in enumerate(names):
        head = np.zeros((len(contrasts), len(names)))
        head[:, 0] = 1.0
        head[:, index] = 1.0
        cells[name] = np.hstack([head, contrasts])
    return pd.DataFrame(columns), cells


def _parts(trials: pd.DataFrame, contrasts: np.ndarray) -> list[Part]:
    """List both intercepts, and a slope for each factor that varies within a unit."""
    code = np.searchsorted(np.sort(trials["session"].unique()), trials["session"])
    people, items = trials["participant_id"].to_numpy(), trials["item_id"].to_numpy()
    one = np.ones(len(contrasts))
    parts = [
        Part("(1 | participant)", RandomTerm.of("participant", people), False, one),
        Part("(1 | item)", RandomTerm.of("item", items), False, one),
    ]
    if (trials.groupby("item_id")["condition"].nunique() > 1).any():
        both = np.array(
            [f"{item}\x1f{name}" for item, name in zip(items, trials["condition"], strict=True)], dtype=object
        )
        parts.append(Part("(1 | item:condition)", RandomTerm.of("item:condition", both), True, one))
    for unit, column, codes in (("participant", "participant_id", people), ("item", "item_id", items)):
        if not (trials.groupby(column)["session"].nunique() > 1).any():
            continue
        for kind, values in zip(("linear", "quadratic"), contrasts.T, strict=False):
            term = RandomTerm.of(unit, codes, **{kind: values[code]})
            parts.append(Part(f"(0 + session[{kind}] | {unit})", term, True, values))
    return parts


def _by_rule(
    design: pd.DataFrame, trials: pd.DataFrame, contrasts: np.ndarray
) -> tuple[MixedFit, list[Part], list[dict[str, Any]]]:
    """Start from both intercepts and every slope the design allows, and let slopes go by the rule."""
    correct, parts = trials["correct"].to_numpy(), _parts(trials, contrasts)
    always = [part for part in parts if not part.slope]

    def fit(kept: Sequence[Part], inference: bool = False) -> MixedFit:
        return fit_glmm(design, correct, [part.term for part in (*always, *kept)], inference=inference)

    def sd(found: MixedFit, place: int) -> float:
        return float(found.sd(len(always) + place).iloc[0])

    kept, steps = choose([part for part in parts if part.slope], fit, sd)
    return fit(kept, inference=True), [*always, *kept], steps


def _contrasts(
    fit: MixedFit, parts: list[Part], cells: Mapping[str, np.ndarray], names: list[str], df: float, level: float, rows: int
) -> list[Estimate]:  # fmt: skip
    beta, covariance = fit.params.to_numpy(), fit.covariance.to_numpy()
    spread = np.sqrt(sum(fit.sd(i).iloc[0] ** 2 * part.values**2 for i, part in enumerate(parts)))
    t = float(stats.t.ppf((1 + level) / 2, df))

    def estimate(quantity: str, label: str, value: float, slope: np.ndarray, *, test: bool = False) -> Estimate:
        error = math.sqrt(float(slope @ covariance @ slope))
        statistic = value / error if test else NAN
        return Estimate(
            quantity=quantity, label=label, value=value, low=value - t * error, high=value + t * error, level=level,
            interval="Wald, t with design-based df", statistic="t" if test else "", statistic_value=statistic, df=(df,),
            p=float(2 * stats.t.sf(abs(statistic), df)) if test else NAN, n=rows, unit="trials",
            extra={"standard_error": error},
        )  # fmt: skip

    population = {name: population_accuracy(cells[name], beta, spread) for name in names}
    base, base_slope = population[names[0]]
    ratios = []
    for index, name in enumerate(names[1:], start=1):
        unit = np.zeros(len(beta))
        unit[index] = 1.0
        ratios.append(estimate("odds ratio", name, float(beta[index]), unit, test=True))
    adjusted = holm(item.p for item in ratios)
    ratios = [adjust(exponentiate(item), p) for item, p in zip(ratios, adjusted, strict=True)]
    gaps = [
        adjust(estimate("accuracy difference", r.label, population[r.label][0] - base, population[r.label][1] - base_slope), r.p_adjusted, r)
        for r in ratios
    ]  # fmt: skip
    return [*gaps, *ratios, *(estimate("accuracy", name, *population[name]) for name in names)]


def population_accuracy(rows: np.ndarray, beta: np.ndarray, spread: np.ndarray) -> tuple[float, np.ndarray]:
    """Average accuracy over people, items and the given design rows by Gauss-Hermite quadrature.

    Parameters
    ----------
    rows : array (S, p)
        Design rows of equal weight.
    beta : array (p,)
    spread : array (S,)
        Standard deviation of the sum of all random effects in each row.

    Returns
    -------
    float, array (p,)
        The accuracy and its gradient in `beta`.
    """
    means, slopes = margins.population_accuracy(rows @ beta, spread)
    return float(means.mean()), slopes @ rows / len(rows)


def flag_disagreement(primary: Result, companion: Result) -> Result:
    """Flag the primary analysis if an accuracy difference lies more than one standard error from the companion's."""
    theirs = {item.label: item for item in companion.of("accuracy difference")}
    apart = [
        item.label
        for item in primary.of("accuracy difference")
        if item.label in theirs and abs(item.value - theirs[item.label].value) > item.extra["standard_error"]
    ]
    return replace(primary, flags=(*primary.flags, "disagrees_with_companion")) if apart else primary


def _sds(fit: MixedFit, parts: list[Part]) -> dict[str, float]:
    return {part.name: float(fit.sd(i).iloc[0]) for i, part in enumerate(parts)}


def _refused(aside: list[Estimate], *flags: str) -> Result:
    return Result(name="mixed_model", title="Mixed model, participants and items crossed", role="primary", flags=flags,
                  estimates=tuple(aside), method="No contrast could be estimated; the flags say why.")  # fmt: skip


def _method(
    parts: list[Part], steps: list[dict[str, Any]], fit: MixedFit, reference: str, df: float, level: float
) -> str:
    text = (
        f"Logistic mixed model of each answer (Laplace approximation): condition against {reference} and centred session "
        f"contrasts as fixed effects, random terms {' + '.join(part.name for part in parts)}. Every slope the design allows "
        "was fitted first; the one with the largest p of a likelihood-ratio test above .2 was dropped and the model refitted"
    )
    text += f"{told(steps)}. "
    sds = ", ".join(f"{name} {value:.2f}" for name, value in _sds(fit, parts).items())
    return text + (
        f"SDs on the log-odds scale: {sds}. Tests are t tests on {df:g} degrees of freedom (the least, over participants and "
        "items, of levels less cells of the factors that vary between them), adjusted by Holm's rule over the conditions. "
        "Odds ratios are conditional on participant and item; accuracies and their differences are of the population, by "
        f"Gauss-Hermite quadrature, equal weight a session. Intervals are {level:.0%}, not adjusted."
    )
