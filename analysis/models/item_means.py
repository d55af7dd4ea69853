"""Accuracy as one number an item: which images people could predict, and which they could not."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from bench.registry import registered

from ..results import Estimate, Result


@registered("analysis", version=1, citation="doi:10.1080/01621459.1927.10502953")
def item_means(trials: pd.DataFrame, *, level: float = 0.95) -> Result:
    """Average the answers given to each item, over all conditions.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `item_id`, `correct` (0/1).
    level : float
        Level of Wilson's intervals.

    Returns
    -------
    Result
        Quantity 'accuracy of an item', hardest first.
    """
    counts = trials.groupby("item_id", sort=True)["correct"].agg(["sum", "size"])
    counts = counts.assign(mean=counts["sum"] / counts["size"]).sort_values(["mean"], kind="stable")
    estimates = []
    for name, right, n, mean in counts.itertuples():
        bounds = stats.binomtest(int(right), int(n)).proportion_ci(level, method="wilson")
        estimates.append(
            Estimate(
                quantity="accuracy of an item", label=str(name), value=float(mean), low=float(bounds.low),
                high=float(bounds.high), level=level, interval="Wilson", n=int(n), unit="answers",
            )
        )  # fmt: skip
    method = (
        f"Share of right answers to each item over all conditions, with Wilson's {level:.0%} interval, which takes the "
        "answers as independent. Exploratory."
    )
    return Result(name="item_means", title="Items", role="descriptive", method=method, estimates=tuple(estimates))
