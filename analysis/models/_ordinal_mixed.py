"""The cumulative logit mixed model of ratings: people and items crossed, slopes by the printed rule, one odds ratio a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..mixed_models import MixedFit, RandomTerm
from ..mixed_models.ordered import fit_ordered
from ..mixed_models.slopes import choose, told
from ..results import Estimate, holm
from ..separation import adjust, exponentiate
from .crossed import UNITS


@dataclass(frozen=True)
class Part:
    """A random term under its name in the text."""

    name: str
    term: RandomTerm

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class MixedRatings:
    """The fit that the rule ended with, its random terms, what was dropped, and the degrees of freedom of its tests."""

    fit: MixedFit
    parts: tuple[Part, ...]
    steps: tuple[dict[str, Any], ...]
    df: float

    @property
    def sds(self) -> dict[str, float]:
        """Standard deviation of each random term, in log-odds."""
        return {part.name: float(self.fit.sd(i).iloc[0]) for i, part in enumerate(self.parts)}


def mixed_ratings(data: pd.DataFrame, factor: str, names: Sequence[str]) -> MixedRatings | None:
    """Fit the ratings by condition with random intercepts of whoever and whatever has several of them.

    Parameters
    ----------
    data : DataFrame
        `rating`, `participant_id`, the factor, and `item_id` where items were rated.
    names : the factor's levels, the baseline first

    Returns
    -------
    MixedRatings or None
        None where no person and no item has two ratings. Its fit may have failed: see `fit.converged`.
    """
    always, slopes, df = [], [], []
    for unit, column in UNITS.items():
        if column not in data.columns or not 1 < data[column].nunique() < len(data):
            continue
        codes = data[column].astype(str).to_numpy()
        always.append(Part(f"(1 | {unit})", RandomTerm.of(unit, codes)))
        levels, within = len(np.unique(codes)), (data.groupby(column)[factor].nunique() > 1).any()
        df.append(levels - (1 if within else len(names)))
        if within and len(data[[column, factor]].drop_duplicates()) < len(data):
            both = np.char.add(np.char.add(codes.astype(str), "\x1f"), data[factor].to_numpy().astype(str))
            slopes.append(Part(f"(1 | {unit}:{factor})", RandomTerm.of(f"{unit}:{factor}", both)))
    if not always:
        return None
    x = pd.DataFrame({name: (data[factor] == name).to_numpy(dtype=float) for name in names[1:]})
    answers = data["rating"].to_numpy()

    def fit(kept: Sequence[Part], inference: bool = False) -> MixedFit:
        return fit_ordered(x, answers, [part.term for part in (*always, *kept)], inference=inference)

    kept, steps = choose(slopes, fit, lambda found, place: float(found.sd(len(always) + place).iloc[0]))
    return MixedRatings(fit(kept, inference=True), (*always, *kept), tuple(steps), float(max(min(df), 1)))


def conditional_ratios(found: MixedRatings, names: Sequence[str], level: float) -> list[Estimate]:
    """Return the odds ratio of a higher answer of each level over the baseline, and the F test of all at once."""
    fit, df = found.fit, found.df
    width = float(stats.t.ppf((1 + level) / 2, df))
    ratios = []
    for name in names[1:]:
        value, error = float(fit.params[name]), float(fit.bse[name])
        t = value / error
        item = Estimate(
            quantity="odds ratio", label=f"{name} - {names[0]}", value=value, low=value - width * error,
            high=value + width * error, level=level, interval="Wald, t with design-based df", statistic="t", statistic_value=t,
            df=(df,), p=float(2 * stats.t.sf(abs(t), df)), n=fit.rows, unit="answers", extra={"standard_error": error},
        )  # fmt: skip
        ratios.append(exponentiate(item))
    ratios = [replace(item, extra={**item.extra, "null": 1.0}) for item in ratios]
    ratios = [adjust(item, p) for item, p in zip(ratios, holm(item.p for item in ratios), strict=True)]
    rows = np.eye(len(fit.params))[-(len(names) - 1) :]
    f, p = fit.wald_test(rows, df)
    joint = Estimate(
        quantity="term", label="all levels are alike", value=f, statistic="F", statistic_value=f, n=fit.rows, unit="answers",
        df=(float(len(rows)), df), p=p,
    )  # fmt: skip
    return [*ratios, joint]


def mixed_method(found: MixedRatings) -> str:
    """Write the model for the methods text."""
    sds = ", ".join(f"{name} {sd:.2f}" for name, sd in found.sds.items())
    slopes = " Slopes the design allows go by the rule of the crossed analysis" + told(found.steps) + "."
    return (
        "Odds ratios of a higher answer are from a cumulative logit mixed model (Laplace approximation), conditional on "
        f"{' and '.join(sorted({part.term.group.split(':')[0] for part in found.parts}, reverse=True))}, random terms "
        f"{' + '.join(map(str, found.parts))} (SDs in log-odds: {sds}); t on {found.df:g} degrees of freedom (the least, over "
        f"units, of levels less what does not vary within them), adjusted by Holm's rule.{slopes} "
    )
