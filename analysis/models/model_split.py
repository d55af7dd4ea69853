"""Accuracy where the model was right and where it was wrong: confirmation bias is invisible in the pooled number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import registered

from ..people import conditions_of, mean_estimate
from ..results import Estimate, Result

RIGHT, WRONG = "model right", "model wrong"


@registered("analysis", version=1, citation="arXiv:2112.03184")
def model_split(trials: pd.DataFrame, *, baseline: str = "baseline", level: float = 0.95) -> Result:
    """Split each condition's accuracy by whether the model was right about the image.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `correct` (0/1), `model_correct` (0/1 or NaN).
    baseline : str
        Listed first.
    level : float
        Level of the t intervals.

    Returns
    -------
    Result
        Quantities 'accuracy, model right', 'accuracy, model wrong' and 'right minus wrong' (paired within participants).
        Flag `undefined` and no estimate if the table does not say when the model was right.
    """
    known = trials[trials["model_correct"].notna()]
    method = (
        "Each participant's accuracy on images the model classified correctly and on those it did not; the difference is "
        f"taken within participants. Intervals are {level:.0%} t intervals over participants; p is of a paired t test."
    )
    if known["model_correct"].nunique() < 2:
        return Result(name="model_split", title="Where the model was right and where it was wrong", role="secondary",
                      method="Not possible: the table does not hold both images the model got right and images it got wrong.",
                      flags=("undefined",))  # fmt: skip
    people = known.groupby(["condition", "participant_id", "model_correct"], sort=True)["correct"].mean().unstack()
    people.columns = [RIGHT if float(value) == 1 else WRONG for value in people.columns]
    estimates: list[Estimate] = []
    for name in conditions_of(known, baseline):
        rows = people[people.index.get_level_values("condition") == name]
        for side in (RIGHT, WRONG):
            values = rows[side].dropna().to_numpy()
            estimates.append(mean_estimate(values, quantity=f"accuracy, {side}", label=name, level=level))
        both = rows.dropna()
        estimates.append(_paired((both[RIGHT] - both[WRONG]).to_numpy(), name, level))
    return Result(
        name="model_split", title="Where the model was right and where it was wrong", role="secondary", method=method,
        estimates=tuple(estimates), points=people.reset_index(),
    )  # fmt: skip


def _paired(values: np.ndarray, name: str, level: float) -> Estimate:
    item = mean_estimate(values, quantity="right minus wrong", label=name, level=level)
    if not item.interval:
        return item
    t = item.value / item.extra["standard_error"]
    return replace(item, statistic="t", statistic_value=t, p=float(2 * stats.t.sf(abs(t), item.df[0])))
