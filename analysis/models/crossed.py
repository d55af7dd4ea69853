"""Any design with participants and items crossed: the mixed model of its formula, with slopes chosen by a printed rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bench.registry import LimenError, registered

from ..mixed_models import MixedFit, MixedResults, mixedlm
from ..mixed_models.formula import Parsed, parse
from ..mixed_models.slopes import choose, told
from ..results import Estimate, Result
from ._crossed_companion import apart, companion_of
from ._crossed_estimates import is_number, level_estimates, overall_mean, simple_effects, term_tests

Family = Literal["binomial", "gaussian"]
UNITS = {"participant": "participant_id", "item": "item_id"}
"""Names that formulas give to the columns of an export."""


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
    chosen = fit_by_rule(parsed, data, factors, family)
    results = chosen.results
    if not results.converged:
        return Result(name="crossed", title=title, role="primary", flags=tuple(results.flags),
                      facts={"formula": chosen.formula, "steps": list(chosen.steps)},
                      method="No contrast could be estimated; the flags say why.")  # fmt: skip
    mean = "accuracy" if family == "binomial" else "mean"
    estimates: list[Estimate] = []
    for factor in factors:
        estimates += level_estimates(results, factor, mean, chance, (references or {}).get(factor), level)
    estimates += simple_effects(results, factors, mean, references or {}, level)
    estimates += term_tests(results)
    if not factors:
        estimates += overall_mean(results, mean, chance, level)
    companion = companion_of(parsed, data, factors, results) if family == "binomial" else {}
    disagreements = apart(estimates, companion)
    flags = tuple(dict.fromkeys([*results.flags, *(("disagrees_with_companion",) if disagreements else ())]))
    facts = {"formula": chosen.formula, "steps": list(chosen.steps), "df": results.model.unit_df()}
    facts |= {"sd": {f"{row.effect} | {row.group}": row.sd for row in results.random_sds.itertuples()}}
    facts |= {"log_likelihood": results.llf, "aic": results.aic, "companion": companion, "disagreements": disagreements}
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
            if is_number(data[factor]):
                found.append(f"(0 + {factor} | {unit})")
            elif len(data[[unit, factor]].drop_duplicates()) < len(data):
                # With one answer a combination its effect could not be told from the answer's own noise.
                found.append(f"(1 | {unit}:{factor})")
    return found


def fit_by_rule(parsed: Parsed, data: pd.DataFrame, factors: Sequence[str], family: Family) -> Chosen:
    """Fit a formula beside every slope of its factors that the design allows, and let slopes go by the rule."""
    fixed = f"{parsed.response} ~ {parsed.fixed} + {' + '.join(map(str, parsed.random))}"

    def fit(kept: Sequence[str]) -> MixedFit:
        return mixedlm(" + ".join([fixed, *kept]), data, family=family, reml=False).fit(inference=False).fit

    def sd(found: MixedFit, place: int) -> float:
        return float(found.sd(len(parsed.random) + place).iloc[0])

    kept, steps = choose(_slopes(parsed, data, factors), fit, sd)
    text = " + ".join([fixed, *kept])
    return Chosen(mixedlm(text, data, family=family).fit(), text, tuple(steps))


def _method(chosen: Chosen, family: Family, level: float) -> str:
    kind = (
        "Logistic mixed model of each answer (Laplace approximation)"
        if family == "binomial"
        else "Linear mixed model (REML)"
    )
    return (
        f"{kind}: {chosen.formula}. Beside the random intercepts every slope that the design allows was fitted first; the one "
        f"with the largest p of a likelihood-ratio test above .2 was dropped and the model refitted{told(chosen.steps)}. "
        f"Tests are t and F tests on {chosen.results.model.unit_df():g} degrees of freedom (the least, over units, of levels "
        "less what does not vary within them), adjusted by Holm's rule within each factor. Means and differences are of the "
        f"population, by g-computation, the other factors' combinations weighted equally. Intervals are {level:.0%}, not adjusted."
    )
