"""Any design with participants and items crossed: the mixed model of its formula, with slopes chosen by a printed rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from bench.registry import LimenError, registered

from ..mixed_models import MixedResults, mixedlm
from ..mixed_models.formula import Parsed, parse
from ..mixed_models.margins import Margins
from ..results import NAN, Estimate, Result, holm
from .cluster_glm import fit_logistic

Family = Literal["binomial", "gaussian"]
UNITS = {"participant": "participant_id", "item": "item_id"}
"""Names that formulas give to the columns of an export."""
KEEP_BELOW = 0.2


@dataclass(frozen=True)
class Chosen:
    """The fit that the rule ended with, the formula it is of, and what was dropped on the way."""

    results: MixedResults
    formula: str
    steps: tuple[Mapping[str, Any], ...]


@registered("analysis", version=1, citation="doi:10.1016/j.jml.2012.11.001")
def crossed(
    trials: pd.DataFrame,
    *,
    formula: str = "correct ~ condition + (1|participant) + (1|item)",
    chance: float | None = None,
    references: Mapping[str, str] | None = None,
    family: Family = "binomial",
    level: float = 0.95,
) -> Result:
    """Fit the model of a formula with participants and items crossed, and compare the levels of each factor.

    Beside the random intercepts that the formula names, each unit gets a slope for each factor that varies within it:
    `(1 | unit:factor)` for a factor with levels, `(0 + x | unit)` for a number. The one with the largest p of a
    likelihood-ratio test above .2 is dropped and the model refitted, until none is.

    Parameters
    ----------
    trials : DataFrame
        One row an answer; `participant` and `item` in a formula are `participant_id` and `item_id`.
    formula : str
        `response ~ fixed + (1|participant) + (1|item)`.
    chance : float, optional
        Accuracy of guessing: each level's accuracy is compared with it.
    references : mapping, optional
        Factor -> the level others are compared with; the first by name where none is given.
    family : 'binomial' for answers that are right or wrong, 'gaussian' for numbers (log response times, ratings)
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        Quantities '<mean> of <factor>' and '<mean> difference of <factor>', population values by g-computation, where <mean>
        is accuracy or mean; with two factors also the differences of the first at each level of the second; 'term' holds
        Wald F tests; 'above chance' each level's accuracy less chance. No estimate from a fit that did not converge.

    Raises
    ------
    LimenError
        If a column is missing, or the formula cannot be read.
    """
    parsed = parse(formula)
    data = _named(trials, parsed)
    factors = _factors(parsed, data)
    title = "Mixed model, participants and items crossed"
    refused = _refused(parsed, data, family)
    if refused:
        return Result(name="crossed", title=title, role="primary", flags=refused, facts={"formula": formula},
                      method="No contrast could be estimated; the flags say why.")  # fmt: skip
    chosen = _by_rule(parsed, data, factors, family)
    results = chosen.results
    if not results.converged:
        return Result(name="crossed", title=title, role="primary", flags=tuple(results.flags),
                      facts={"formula": chosen.formula, "steps": list(chosen.steps)},
                      method="No contrast could be estimated; the flags say why.")  # fmt: skip
    mean = "accuracy" if family == "binomial" else "mean"
    estimates: list[Estimate] = []
    for factor in factors:
        estimates += _levels(results, factor, mean, chance, (references or {}).get(factor), level)
    estimates += _simple(results, factors, mean, references or {}, level)
    estimates += _terms(results)
    if not factors:
        estimates += _overall(results, mean, chance, level)
    companion = _companion(parsed, data, factors, results) if family == "binomial" else {}
    apart = _apart(estimates, companion)
    flags = tuple(dict.fromkeys([*results.flags, *(("disagrees_with_companion",) if apart else ())]))
    facts = {"formula": chosen.formula, "steps": list(chosen.steps), "df": results.model.unit_df()}
    facts |= {"sd": {f"{row.effect} | {row.group}": row.sd for row in results.random_sds.itertuples()}}
    facts |= {"log_likelihood": results.llf, "aic": results.aic, "companion": companion, "disagreements": apart}
    facts |= {"participants": int(data["participant"].nunique()) if "participant" in data else None, "rows": len(data)}
    return Result(name="crossed", title=title, role="primary", method=_method(chosen, family, level),
                  estimates=tuple(estimates), facts=facts, flags=flags)  # fmt: skip


def _named(trials: pd.DataFrame, parsed: Parsed) -> pd.DataFrame:
    """Return the columns of the formula, units under its names, numbers of few levels that mean levels as they are."""
    data = trials.rename(columns={theirs: ours for ours, theirs in UNITS.items() if ours not in trials.columns})
    lacking = [name for name in parsed.columns if name not in data.columns]
    if lacking:
        raise LimenError(
            f"crossed analysis, formula '{parsed.text}': column '{lacking[0]}' is missing; there are "
            f"{', '.join(map(str, data.columns))}."
        )
    kept = data[list(parsed.columns)].dropna(subset=[parsed.response])
    flags = [str(name) for name in kept if kept[name].dtype == bool and name != parsed.response]
    return kept.assign(**{name: kept[name].astype(str) for name in flags})


def _factors(parsed: Parsed, data: pd.DataFrame) -> list[str]:
    """List the columns of the fixed part in the order of the formula."""
    grouping = {name for part in parsed.random for name in part.factors}
    return [name for name in parsed.columns if name != parsed.response and name not in grouping]


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _refused(parsed: Parsed, data: pd.DataFrame, family: Family) -> tuple[str, ...]:
    if not len(data):
        return ("undefined",)
    units = [part.group for part in parsed.random]
    if any(data[unit].nunique() < 2 for unit in units if unit in data):
        return ("undefined",)
    if family == "binomial" and data[parsed.response].nunique() < 2:
        return ("separation",)
    return ()


def _slopes(parsed: Parsed, data: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """List a slope of each factor within each unit it varies in."""
    found = []
    for unit in dict.fromkeys(part.group for part in parsed.random if len(part.factors) == 1):
        for factor in factors:
            if not (data.groupby(unit, observed=True)[factor].nunique() > 1).any():
                continue
            if _is_number(data[factor]):
                found.append(f"(0 + {factor} | {unit})")
            elif len(data[[unit, factor]].drop_duplicates()) < len(data):
                # With one answer a combination its effect could not be told from the answer's own noise.
                found.append(f"(1 | {unit}:{factor})")
    return found


def _by_rule(parsed: Parsed, data: pd.DataFrame, factors: Sequence[str], family: Family) -> Chosen:
    fixed = f"{parsed.response} ~ {parsed.fixed} + {' + '.join(map(str, parsed.random))}"
    slopes, steps = _slopes(parsed, data, factors), []
    fits: dict[tuple[str, ...], MixedResults] = {}

    def fit(kept: Sequence[str], *, inference: bool = False) -> MixedResults:
        key = (*kept, str(inference))
        if key not in fits:
            text = " + ".join([fixed, *kept])
            fits[key] = mixedlm(text, data, family=family, reml=inference).fit(inference=inference)
        return fits[key]

    while slopes:
        now, tests = fit(slopes), []
        if not now.converged:
            # A model too rich for the data: the smallest slope goes without a test.
            smallest = min(range(len(slopes)), key=lambda index: _sd(now, len(parsed.random) + index))
            steps.append({"dropped": slopes[smallest], "sd": NAN, "likelihood_ratio": NAN, "p": NAN})
            slopes = [one for index, one in enumerate(slopes) if index != smallest]
            continue
        for index in range(len(slopes)):
            without = fit([one for other, one in enumerate(slopes) if other != index])
            ratio = max(0.0, 2 * (now.llf - without.llf)) if without.converged else math.inf
            p = float(stats.chi2.sf(ratio, 1) / 2) if ratio > 0 else 1.0
            tests.append((p, index, _sd(now, len(parsed.random) + index), ratio))
        p, index, sd, ratio = max(tests)
        if p <= KEEP_BELOW:
            break
        steps.append({"dropped": slopes[index], "sd": sd, "likelihood_ratio": ratio, "p": p})
        slopes = [one for other, one in enumerate(slopes) if other != index]
    return Chosen(fit(slopes, inference=True), " + ".join([fixed, *slopes]), tuple(steps))


def _sd(results: MixedResults, place: int) -> float:
    value = float(results.fit.sd(place).iloc[0])
    return value if math.isfinite(value) else 0.0


def _estimate(found: Mapping[str, float], quantity: str, label: str, results: MixedResults, level: float) -> Estimate:
    return Estimate(
        quantity=quantity,
        label=label,
        value=found["estimate"],
        low=found["low"],
        high=found["high"],
        level=level,
        interval="Wald, t with design-based df",
        statistic="t",
        statistic_value=found["t"],
        df=(found["df"],),
        p=found["p"],
        n=results.nobs,
        unit="trials",
        extra={"standard_error": found["standard_error"]},
    )


def _cells(margins: Margins, quantity: str, level: float, names: Sequence[str]) -> list[Estimate]:
    table = margins.table(1 - level)
    numbers = table[["mean", "low", "high", "standard_error"]].to_numpy(dtype=float)
    return [
        Estimate(
            quantity=quantity,
            label=name,
            value=float(row[0]),
            low=float(row[1]),
            high=float(row[2]),
            level=level,
            interval="Wald, t with design-based df",
            df=(margins.results.model.unit_df(),),
            n=margins.results.nobs,
            unit="trials",
            extra={"standard_error": float(row[3])},
        )
        for name, row in zip(names, numbers, strict=True)
    ]


def _levels(
    results: MixedResults, factor: str, mean: str, chance: float | None, reference: str | None, level: float
) -> list[Estimate]:
    """Compare the levels of one factor; of a number, its effect for one unit, on the scale of the model."""
    if _is_number(results.model.data[factor]):
        return _trend(results, factor, level)
    margins = results.margins(factor)
    names = [str(name) for name in margins.cells[factor]]
    found = _cells(margins, f"{mean} of {factor}", level, names)
    first = names.index(reference) if reference in names else 0
    gaps = []
    for index, name in enumerate(names):
        if index == first:
            continue
        weights = np.zeros(len(names))
        weights[index], weights[first] = 1, -1
        contrast = margins.contrast(list(weights), alpha=1 - level)
        gaps.append(_estimate(contrast, f"{mean} difference of {factor}", f"{name} - {names[first]}", results, level))
    found += _adjusted(gaps)
    if chance is not None and mean == "accuracy":
        found += _above(found[: len(names)], chance, results, factor)
    return found


def _adjusted(gaps: list[Estimate]) -> list[Estimate]:
    adjusted = holm(item.p for item in gaps)
    return [
        replace(item, p_adjusted=p, adjustment="Holm" if len(gaps) > 1 else "none, one comparison")
        for item, p in zip(gaps, adjusted, strict=True)
    ]


def _above(cells: Sequence[Estimate], chance: float, results: MixedResults, factor: str) -> list[Estimate]:
    df = results.model.unit_df()
    found = []
    for cell in cells:
        error = cell.extra["standard_error"]
        t = (cell.value - chance) / error
        found.append(
            replace(
                cell,
                quantity=f"above chance of {factor}" if factor else "above chance",
                value=cell.value - chance,
                low=cell.low - chance,
                high=cell.high - chance,
                statistic="t",
                statistic_value=t,
                p=float(2 * stats.t.sf(abs(t), df)),
            )
        )
    return _adjusted(found)


def _trend(results: MixedResults, factor: str, level: float) -> list[Estimate]:
    if factor not in results.params.index:
        return []
    test = results.t_test(factor)
    half = float(stats.t.ppf((1 + level) / 2, test.df[-1])) * test.standard_error
    scale = "log-odds" if results.model.family == "binomial" else "mean"
    values = {"estimate": test.estimate, "low": test.estimate - half, "high": test.estimate + half}
    values |= {"t": test.statistic, "df": test.df[-1], "p": test.p, "standard_error": test.standard_error}
    return [_estimate(values, f"slope of {factor}", f"{scale} for one unit", results, level)]


def _simple(
    results: MixedResults, factors: Sequence[str], mean: str, references: Mapping[str, str], level: float
) -> list[Estimate]:
    """Compare the levels of the first factor at each level of the second, where the formula lets them interact."""
    named = [name for name in factors if not _is_number(results.model.data[name])][:2]
    if len(named) < 2 or not any(set(named) <= set(str(term).split(":")) for term in results._terms()):
        return []
    first, second = named
    margins = results.margins(named)
    cells = [tuple(map(str, row)) for row in margins.cells.itertuples(index=False, name=None)]
    found = _cells(margins, f"{mean} of {first} x {second}", level, [" x ".join(cell) for cell in cells])
    gaps = []
    for at in dict.fromkeys(cell[1] for cell in cells):
        here = [cell[0] for cell in cells if cell[1] == at]
        base = references.get(first, here[0])
        if base not in here:
            continue
        for name in here:
            if name == base:
                continue
            weights = np.zeros(len(cells))
            weights[cells.index((name, at))], weights[cells.index((base, at))] = 1, -1
            contrast = margins.contrast(list(weights), alpha=1 - level)
            label = f"{name} - {base} at {at}"
            gaps.append(_estimate(contrast, f"{mean} difference of {first} at {second}", label, results, level))
    return found + _adjusted(gaps)


def _terms(results: MixedResults) -> list[Estimate]:
    return [
        Estimate(
            quantity="term", label=str(term), value=float(row["F"]), statistic="F", statistic_value=float(row["F"]),
            df=(float(row["df1"]), float(row["df2"])), p=float(row["p"]), n=results.nobs, unit="trials",
        )
        for term, row in results.anova().iterrows()
    ]  # fmt: skip


def _overall(results: MixedResults, mean: str, chance: float | None, level: float) -> list[Estimate]:
    """Estimate the one mean of a design without factors."""
    margins = Margins(results, [])
    error = float(np.sqrt(margins.gradient[0] @ results.cov_params().to_numpy() @ margins.gradient[0]))
    df = results.model.unit_df()
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    value = float(margins.means[0])
    whole = Estimate(
        quantity=mean, label="all", value=value, low=value - half, high=value + half, level=level,
        interval="Wald, t with design-based df", df=(df,), n=results.nobs, unit="trials", extra={"standard_error": error},
    )  # fmt: skip
    return [whole, *(_above([whole], chance, results, "") if chance is not None else [])]


def _companion(
    parsed: Parsed, data: pd.DataFrame, factors: Sequence[str], results: MixedResults
) -> dict[str, dict[str, float]]:
    """Fit the two-way clustered logistic regression of the same fixed part: label -> difference and standard error."""
    units = [part.group for part in parsed.random if len(part.factors) == 1][:2]
    x = pd.DataFrame(results.model.rule.get_model_matrix(data, context={}, na_action="raise")).astype(float)
    fit = fit_logistic(x, data[parsed.response].to_numpy(dtype=float), *(data[unit].to_numpy() for unit in units))
    if not fit.converged:
        return {}
    found: dict[str, dict[str, float]] = {}
    for factor in factors:
        if _is_number(data[factor]):
            continue
        names = sorted(map(str, data[factor].unique()))
        means = {name: _marginal(results, data, factor, name, fit.coefficients) for name in names}
        for name in names:
            for other in names:
                if name == other:
                    continue
                slope = means[name][1] - means[other][1]
                found[f"{factor}: {name} - {other}"] = {
                    "value": means[name][0] - means[other][0],
                    "standard_error": float(np.sqrt(slope @ fit.covariance @ slope)),
                }
    return found


def _marginal(
    results: MixedResults, data: pd.DataFrame, factor: str, name: str, beta: np.ndarray
) -> tuple[float, np.ndarray]:
    others = [one for one in results.model.predictors if one != factor]
    grid = data[others].drop_duplicates() if others else pd.DataFrame(index=[0])
    rows = grid.assign(**{factor: name})
    x = pd.DataFrame(results.model.rule.get_model_matrix(rows, context={}, na_action="raise")).to_numpy(dtype=float)
    mean = special.expit(x @ beta)
    return float(mean.mean()), (mean * (1 - mean)) @ x / len(x)


def _apart(estimates: Sequence[Estimate], companion: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Name the differences that lie more than one standard error from the clustered regression's."""
    found = []
    for item in estimates:
        factor = item.quantity.removeprefix("accuracy difference of ")
        theirs = companion.get(f"{factor}: {item.label}") if factor != item.quantity else None
        if theirs and abs(item.value - theirs["value"]) > item.extra["standard_error"]:
            found.append(f"{factor}: {item.label}")
    return found


def _method(chosen: Chosen, family: Family, level: float) -> str:
    kind = (
        "Logistic mixed model of each answer (Laplace approximation)"
        if family == "binomial"
        else "Linear mixed model (REML)"
    )
    told = [
        f"{step['dropped']} (SD {step['sd']:.2f}, LR {step['likelihood_ratio']:.2f}, p {step['p']:.3f})"
        if math.isfinite(step["p"])
        else f"{step['dropped']} (the model with it did not converge)"
        for step in chosen.steps
    ]
    rule = f"; dropped: {', '.join(told)}. " if told else "; none was dropped. "
    return (
        f"{kind}: {chosen.formula}. Beside the random intercepts every slope that the design allows was fitted first; the one "
        f"with the largest p of a likelihood-ratio test above .2 was dropped and the model refitted{rule}"
        f"Tests are t and F tests on {chosen.results.model.unit_df():g} degrees of freedom (the least, over units, of levels "
        "less what does not vary within them), adjusted by Holm's rule within each factor. Means and differences are of the "
        f"population, by g-computation, the other factors' combinations weighted equally. Intervals are {level:.0%}, not adjusted."
    )
