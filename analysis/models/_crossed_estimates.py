"""The estimates of a crossed mixed model: levels of each factor, their differences, chance, trends, simple effects, F tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from ..mixed_models import MixedResults
from ..mixed_models.margins import Margins
from ..results import Estimate, holm

INTERVAL = "Wald, t with design-based df"


def is_number(column: pd.Series) -> bool:
    """Tell whether a factor is a number with a slope rather than levels."""
    return bool(pd.api.types.is_numeric_dtype(column))


def estimate_of(found: Mapping[str, float], quantity: str, label: str, results: MixedResults, level: float) -> Estimate:
    return Estimate(
        quantity=quantity,
        label=label,
        value=found["estimate"],
        low=found["low"],
        high=found["high"],
        level=level,
        interval=INTERVAL,
        statistic="t",
        statistic_value=found["t"],
        df=(found["df"],),
        p=found["p"],
        n=results.nobs,
        unit="trials",
        extra={"standard_error": found["standard_error"]},
    )


def cell_estimates(margins: Margins, quantity: str, level: float, names: Sequence[str]) -> list[Estimate]:
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
            interval=INTERVAL,
            df=(margins.results.model.unit_df(),),
            n=margins.results.nobs,
            unit="trials",
            extra={"standard_error": float(row[3])},
        )
        for name, row in zip(names, numbers, strict=True)
    ]


def level_estimates(
    results: MixedResults, factor: str, mean: str, chance: float | None, reference: str | None, level: float
) -> list[Estimate]:
    """Compare the levels of one factor; of a number, its effect for one unit, on the scale of the model."""
    if is_number(results.model.data[factor]):
        return _trend(results, factor, level)
    margins = results.margins(factor)
    names = [str(name) for name in margins.cells[factor]]
    found = cell_estimates(margins, f"{mean} of {factor}", level, names)
    first = names.index(reference) if reference in names else 0
    gaps = []
    for index, name in enumerate(names):
        if index == first:
            continue
        weights = np.zeros(len(names))
        weights[index], weights[first] = 1, -1
        contrast = margins.contrast(list(weights), alpha=1 - level)
        gaps.append(estimate_of(contrast, f"{mean} difference of {factor}", f"{name} - {names[first]}", results, level))
    found += adjusted(gaps)
    if chance is not None and mean == "accuracy":
        found += above_chance(found[: len(names)], chance, results, factor)
    return found


def adjusted(gaps: list[Estimate]) -> list[Estimate]:
    adjusted = holm(item.p for item in gaps)
    return [
        replace(item, p_adjusted=p, adjustment="Holm" if len(gaps) > 1 else "none, one comparison")
        for item, p in zip(gaps, adjusted, strict=True)
    ]


def above_chance(cells: Sequence[Estimate], chance: float, results: MixedResults, factor: str) -> list[Estimate]:
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
    return adjusted(found)


def _trend(results: MixedResults, factor: str, level: float) -> list[Estimate]:
    if factor not in results.params.index:
        return []
    test = results.t_test(factor)
    half = float(stats.t.ppf((1 + level) / 2, test.df[-1])) * test.standard_error
    scale = "log-odds" if results.model.family == "binomial" else "mean"
    values = {"estimate": test.estimate, "low": test.estimate - half, "high": test.estimate + half}
    values |= {"t": test.statistic, "df": test.df[-1], "p": test.p, "standard_error": test.standard_error}
    return [estimate_of(values, f"slope of {factor}", f"{scale} for one unit", results, level)]


def simple_effects(
    results: MixedResults, factors: Sequence[str], mean: str, references: Mapping[str, str], level: float
) -> list[Estimate]:
    """Compare the levels of the first factor at each level of the second, where the formula lets them interact."""
    named = [name for name in factors if not is_number(results.model.data[name])][:2]
    if len(named) < 2 or not any(set(named) <= set(str(term).split(":")) for term in results._terms()):
        return []
    first, second = named
    margins = results.margins(named)
    cells = [tuple(map(str, row)) for row in margins.cells.itertuples(index=False, name=None)]
    found = cell_estimates(margins, f"{mean} of {first} x {second}", level, [" x ".join(cell) for cell in cells])
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
            gaps.append(estimate_of(contrast, f"{mean} difference of {first} at {second}", label, results, level))
    return found + adjusted(gaps)


def term_tests(results: MixedResults) -> list[Estimate]:
    return [
        Estimate(
            quantity="term", label=str(term), value=float(row["F"]), statistic="F", statistic_value=float(row["F"]),
            df=(float(row["df1"]), float(row["df2"])), p=float(row["p"]), n=results.nobs, unit="trials",
        )
        for term, row in results.anova().iterrows()
    ]  # fmt: skip


def overall_mean(results: MixedResults, mean: str, chance: float | None, level: float) -> list[Estimate]:
    """Estimate the one mean of a design without factors."""
    margins = Margins(results, [])
    error = float(np.sqrt(margins.gradient[0] @ results.cov_params().to_numpy() @ margins.gradient[0]))
    df = results.model.unit_df()
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    value = float(margins.means[0])
    whole = Estimate(
        quantity=mean, label="all", value=value, low=value - half, high=value + half, level=level,
        interval=INTERVAL, df=(df,), n=results.nobs, unit="trials", extra={"standard_error": error},
    )  # fmt: skip
    return [whole, *(above_chance([whole], chance, results, "") if chance is not None else [])]
