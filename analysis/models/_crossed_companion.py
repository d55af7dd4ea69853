"""The companion of a crossed logistic model: the two-way clustered regression of the same fixed part, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special

from ..mixed_models import MixedResults
from ..mixed_models.formula import Parsed
from ..results import Estimate
from ._crossed_estimates import is_number
from .cluster_glm import fit_logistic


def companion_of(
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
        if is_number(data[factor]):
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


def apart(estimates: Sequence[Estimate], companion: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Name the differences that lie more than one standard error from the clustered regression's."""
    found = []
    for item in estimates:
        factor = item.quantity.removeprefix("accuracy difference of ")
        theirs = companion.get(f"{factor}: {item.label}") if factor != item.quantity else None
        if theirs and abs(item.value - theirs["value"]) > item.extra["standard_error"]:
            found.append(f"{factor}: {item.label}")
    return found
