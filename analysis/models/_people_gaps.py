"""One value a person: its mean in each condition against a null value, and the conditions compared within or between people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from ..people import mean_estimate
from ..results import NAN, Estimate, holm


def against(table: pd.DataFrame, names: Sequence[str], quantity: str, null: float, level: float) -> list[Estimate]:
    """Estimate each condition's mean over people and test it against a null value by t, Holm-adjusted.

    Parameters
    ----------
    table : DataFrame (people, conditions), NaN where a person has no value
    """
    found = []
    for name in names:
        item = mean_estimate(table[name].dropna().to_numpy(), quantity=quantity, label=name, level=level)
        extra = {**item.extra, "null": null}
        if item.interval:
            t = (item.value - null) / item.extra["standard_error"]
            item = replace(item, statistic="t", statistic_value=float(t), p=float(2 * stats.t.sf(abs(t), item.df[0])))
        found.append(replace(item, extra=extra))
    return by_holm(found)


def gaps(table: pd.DataFrame, names: Sequence[str], quantity: str, level: float) -> list[Estimate]:
    """Compare each condition's values with the first one's: within people who have both, else between; Holm-adjusted."""
    return by_holm([gap(table, name, names[0], quantity, level) for name in names[1:]])


def gap(table: pd.DataFrame, first: str, second: str, quantity: str, level: float) -> Estimate:
    """Compare two columns of a table (people, conditions): paired t where two or more people have both, else Welch's t."""
    both = table[[first, second]].dropna()
    paired = len(both) >= 2
    one, other = (both[name] if paired else table[name].dropna() for name in (first, second))
    n, label = len(both) if paired else len(one) + len(other), f"{first} - {second}"
    if min(len(one), len(other)) < 2:
        return Estimate(quantity=quantity, label=label, value=NAN, n=n, flags=("one_participant",))
    value = float(one.mean() - other.mean())
    spread = np.ptp(one - other) if paired else max(np.ptp(one), np.ptp(other))
    if spread < 1e-12:
        return Estimate(quantity=quantity, label=label, value=value, n=n, flags=("no_spread",))
    parts = (
        [float((one - other).var(ddof=1)) / n]
        if paired
        else [float(side.var(ddof=1)) / len(side) for side in (one, other)]
    )
    error = float(np.sqrt(sum(parts)))
    df = (
        n - 1.0
        if paired
        else sum(parts) ** 2 / sum(v**2 / (len(side) - 1) for v, side in zip(parts, (one, other), strict=True))
    )
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    return Estimate(
        quantity=quantity, label=label, value=value, low=value - half, high=value + half, level=level,
        interval="paired t" if paired else "Welch t", statistic="t", statistic_value=value / error, df=(df,),
        p=float(2 * stats.t.sf(abs(value / error), df)), n=n, extra={"null": 0.0, "standard_error": error},
    )  # fmt: skip


def by_holm(items: Sequence[Estimate]) -> list[Estimate]:
    """Adjust the tests of one family; nothing is noted where nothing was tested."""
    tested = sum(np.isfinite(item.p) for item in items)
    rule = "Holm" if tested > 1 else "none, one comparison" if tested else ""
    return [
        replace(item, p_adjusted=p, adjustment=rule if np.isfinite(item.p) else "")
        for item, p in zip(items, holm(item.p for item in items), strict=True)
    ]
