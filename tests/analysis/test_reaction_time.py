"""Response times: planted ratios come back, the logarithm's model and its medians agree with outside tests, times are counted."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.models.crossed import crossed
from analysis.models.reaction_time import REASONS, reaction_time, trimmed
from bench.registry import LimenError

RATIO = 1.25


def simulate(seed: int = 0, people: int = 20, items: int = 12) -> pd.DataFrame:
    """Everyone sees every item in both conditions; 'slow' takes `RATIO` times as long."""
    draws = np.random.default_rng(seed)
    own, ease = draws.normal(0, 0.3, people), draws.normal(0, 0.2, items)
    rows = [
        (f"p{p}", f"i{i}", name, 7 + own[p] + ease[i] + math.log(RATIO) * (name == "slow"))
        for p in range(people)
        for i in range(items)
        for name in ("fast", "slow")
    ]
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "mean"])
    table["rt_ms"] = np.exp(table.pop("mean") + draws.normal(0, 0.35, len(table)))
    return table.assign(
        correct=(draws.random(len(table)) < 0.8).astype(float), timed_out=draws.random(len(table)) < 0.02
    )


def test_a_planted_ratio_lies_in_the_interval_and_is_the_logarithms_difference() -> None:
    data = simulate()
    result = reaction_time(data)
    ratio = result.get("response time ratio of condition", "slow / fast")
    assert ratio.low < RATIO < ratio.high
    kept = data[trimmed(data, (200.0, 30_000.0), right_only=True) == "kept"].assign(log=lambda t: np.log(t["rt_ms"]))
    plain = crossed(kept, formula="log ~ condition + (1|participant) + (1|item)", family="gaussian")
    gap = plain.get("mean difference of condition", "slow - fast")
    assert (ratio.value, ratio.low, ratio.p) == pytest.approx((math.exp(gap.value), math.exp(gap.low), gap.p), rel=1e-9)
    assert ratio.n == len(kept)


def test_medians_are_compared_within_people_where_the_condition_varies_there() -> None:
    data = simulate(1)
    result = reaction_time(data, right_only=False)
    found = result.get("response time ratio of condition, by medians", "slow / fast")
    medians = data[~data["timed_out"] & (data["rt_ms"] >= 200)].assign(log=lambda t: np.log(t["rt_ms"]))
    wide = medians.groupby(["participant_id", "condition"])["log"].median().unstack()
    test = stats.ttest_rel(wide["slow"], wide["fast"])
    assert found.statistic_value == pytest.approx(test.statistic)
    assert found.p == pytest.approx(test.pvalue)
    assert found.n == 20


def test_medians_of_different_people_are_compared_by_welch() -> None:
    data = simulate(2)
    data = data[(data["participant_id"].str[1:].astype(int) % 2 == 0) == (data["condition"] == "slow")]
    found = reaction_time(data).get("response time ratio of condition, by medians", "slow / fast")
    assert found.interval == "Welch t of log medians"
    assert found.df[0] < 18


def test_every_answer_is_counted_once_under_the_first_reason_that_holds() -> None:
    data = simulate(3)
    data.loc[data.index[:4], "rt_ms"] = [math.nan, 50.0, 1e6, 900.0]
    data.loc[data.index[:4], "timed_out"] = [False, False, False, True]
    data.loc[data.index[:4], "correct"] = [0.0, 1.0, 1.0, 1.0]
    reason = trimmed(data, (200.0, 30_000.0), right_only=True)
    assert list(reason[:4]) == [REASONS[0], REASONS[2], REASONS[3], REASONS[0]]
    counts = reaction_time(data).facts["counts"]
    assert sum(counts.values()) == len(data)
    assert counts["above the upper bound"] == 1


def test_a_condition_that_loses_more_times_shows_it() -> None:
    data = simulate(4)
    data.loc[(data["condition"] == "slow") & (np.arange(len(data)) % 3 == 0), "timed_out"] = True
    result = reaction_time(data)
    slow, fast = (result.get("share of times left out", name) for name in ("slow", "fast"))
    assert slow.low > fast.high
    assert slow.n == 20


def test_where_no_answer_is_right_or_wrong_all_times_count() -> None:
    result = reaction_time(simulate(5).assign(correct=math.nan))
    assert result.facts["right_only"] is False
    assert "of right answers" not in result.method


def test_times_that_cannot_be_compared_are_flagged() -> None:
    result = reaction_time(simulate(6).assign(rt_ms=math.nan))
    assert result.flags == ("undefined",)
    assert result.of("response time of condition") == ()


@pytest.mark.parametrize("bounds", [(500.0, 100.0), (-1.0, 10.0), (math.nan, 10.0)])
def test_bounds_that_are_no_interval_are_one_sentence(bounds: tuple[float, float]) -> None:
    with pytest.raises(LimenError, match="allowed is 0 <= lower < upper"):
        reaction_time(simulate(7), bounds_ms=bounds)


def test_a_missing_column_is_one_sentence() -> None:
    with pytest.raises(LimenError, match="column 'rt_ms' is missing"):
        reaction_time(simulate(8).drop(columns="rt_ms"))
