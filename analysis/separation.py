"""What two logistic analyses share: conditions without both kinds of answers, odds ratios, adjusted tests."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
from scipy import stats

from .results import Estimate


def separated_conditions(trials: pd.DataFrame, names: list[str]) -> list[str]:
    """List the conditions whose answers are all right or all wrong: their log-odds effect is infinite."""
    rates = trials.groupby("condition")["correct"].mean()
    return [name for name in names if rates[name] in (0.0, 1.0)]


def exact_interval(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share."""
    bounds = stats.binomtest(right, n).proportion_ci(level, method="exact")
    return float(bounds.low), float(bounds.high)


def exponentiate(item: Estimate) -> Estimate:
    """Turn a log-odds estimate with its interval into an odds ratio."""
    extra = {"log_odds": item.value, "log_odds_standard_error": item.extra["standard_error"]}
    return replace(item, value=math.exp(item.value), low=math.exp(item.low), high=math.exp(item.high), extra=extra)


def adjust(item: Estimate, p: float, source: Estimate | None = None) -> Estimate:
    """Note an adjusted p, and take the test of `source` where one is given."""
    if source is not None:
        item = replace(
            item, statistic=source.statistic, statistic_value=source.statistic_value, p=source.p, df=source.df
        )
    return replace(item, adjustment="Holm", p_adjusted=p)


def exact_estimate(trials: pd.DataFrame, name: str, level: float) -> Estimate:
    """Estimate the accuracy of a separated condition with an exact interval."""
    answers = trials.loc[trials["condition"] == name, "correct"]
    low, high = exact_interval(int(answers.sum()), len(answers), level)
    return Estimate(
        quantity="accuracy", label=name, value=float(answers.mean()), low=low, high=high, level=level, n=len(answers),
        unit="trials", interval="Clopper-Pearson (answers as independent)", flags=("separation",),
    )  # fmt: skip
