"""Self-ratings of understanding: before the task, after it, and after people were told their own score; changes within people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered

from ..people import conditions_of, mean_estimate
from ..results import Estimate, Result
from ._people_gaps import against

BEFORE, AFTER, TOLD = "rating before", "rating after", "rating told"
MOMENTS = (BEFORE, AFTER, TOLD)
CHANGES = (("after less before", AFTER, BEFORE), ("told less after", TOLD, AFTER))
FEWEST = 4
"""People whom Fisher's interval of a correlation needs."""


def holds_ratings(trials: pd.DataFrame) -> bool:
    """Whether there are answers to self-ratings."""
    return "item_id" in trials.columns and bool(trials["item_id"].isin(MOMENTS).any())


def rating_estimates(trials: pd.DataFrame, names: Sequence[str], level: float) -> list[Estimate]:
    """Estimate each rating's mean, and each change within people, per condition; [] where nothing was rated.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `item_id`, `response` (1 to 5), and `told_right` and `told_asked`
        where people were told a score.
    names
        Conditions, in the order of the report.
    level
        Level of the intervals.
    """
    if not holds_ratings(trials):
        return []
    rated = trials[trials["item_id"].isin(MOMENTS)]
    rated = rated.assign(rating=pd.to_numeric(rated["response"], errors="coerce"))
    table = rated.pivot_table(index=["condition", "participant_id"], columns="item_id", values="rating")
    moments = [moment for moment in MOMENTS if moment in table.columns]
    found = [
        mean_estimate(
            table[moment][table.index.get_level_values("condition") == name].dropna().to_numpy(),
            quantity=f"understanding, {moment}",
            label=name,
            level=level,
        )
        for moment in moments
        for name in names
    ]
    for said, later, earlier in CHANGES:
        if {later, earlier} <= set(moments):
            change = (table[later] - table[earlier]).unstack("condition").reindex(columns=list(names))
            found += against(change, names, f"understanding, {said}", 0.0, level)
    if {TOLD, AFTER} <= set(moments) and {"told_right", "told_asked"} <= set(rated.columns):
        told = rated[rated["item_id"] == TOLD].set_index(["condition", "participant_id"])
        pairs = pd.DataFrame({"share": told["told_right"] / told["told_asked"], "change": table[TOLD] - table[AFTER]})
        found += [
            _with_score(pairs[pairs.index.get_level_values("condition") == name].dropna(), name, level)
            for name in names
        ]
    return found


@registered("analysis", version=1, citation="arXiv:2112.03184")
def self_ratings(trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95) -> Result:
    """Compare how well people feel they understand the machine before the task, after it, and once they know their score.

    Parameters
    ----------
    trials : DataFrame
        One row an answer; ratings are those of `item_id` 'rating before', 'rating after' and 'rating told'.
    baseline : str
        Listed first.
    level : float
        Level of the intervals.

    Returns
    -------
    Result
        For each condition the mean of each rating; 'understanding, after less before' and 'understanding, told less after',
        each tested against 0 within people (Holm over conditions); and the correlation of the latter with the share of
        right answers that people were told.

    Raises
    ------
    LimenError
        If nothing was rated.
    """
    if not holds_ratings(trials):
        raise LimenError(f"self-ratings: column 'item_id' holds none of {', '.join(MOMENTS)}.")
    names = [name for name in conditions_of(trials, baseline) if name in set(trials["condition"])]
    method = (
        "Understanding is rated from 1 to 5. Means are over participants; changes are within participants, tested against 0 by "
        "paired t tests that Holm's rule adjusts over conditions. A change after the score can go both ways: its correlation "
        f"with the share of right answers that each person was told (Pearson, Fisher's interval) shows it. Intervals are {level:.0%}, "
        "not adjusted."
    )
    return Result(
        name="self_ratings", title="Self-ratings of understanding", role="secondary", method=method,
        estimates=tuple(rating_estimates(trials, names, level)),
    )  # fmt: skip


def _with_score(pairs: pd.DataFrame, name: str, level: float) -> Estimate:
    """Correlate the change after the score with the share of right answers that was told."""
    quantity, n = "understanding, change with the score told", len(pairs)
    if n < FEWEST or min(np.ptp(pairs["share"]), np.ptp(pairs["change"])) < 1e-12:
        return Estimate(quantity=quantity, label=name, value=float("nan"), n=n, flags=("no_variation",))
    value = float(np.corrcoef(pairs["share"], pairs["change"])[0, 1])
    centre, half = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12)), stats.norm.ppf((1 + level) / 2) / np.sqrt(n - 3)
    return Estimate(
        quantity=quantity, label=name, value=value, low=float(np.tanh(centre - half)), high=float(np.tanh(centre + half)),
        level=level, interval="Fisher z", n=n, extra={"null": 0.0},
    )  # fmt: skip
