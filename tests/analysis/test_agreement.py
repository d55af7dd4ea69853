"""The agreement analysis: sides of the scale, a stated bias recovered, and the nominal rate at none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.models.agreement import agreement, by_side
from analysis.models.self_ratings import self_ratings
from bench.registry import LimenError


def _simulate(right: float, wrong: float, *, seed: int, people: int = 24, trials: int = 10) -> pd.DataFrame:
    """Draw answers of one condition: accuracy on right and wrong predictions, people with an SD of .5 logits in each."""
    draw = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for index in range(trials):
            truth = index % 2 == 0
            chance = right if truth else wrong
            odds = np.log(chance / (1 - chance))
            agrees = (draw.random() < 1 / (1 + np.exp(-odds))) == truth
            response = str(draw.integers(3, 5) if agrees else draw.integers(1, 3))
            rows.append((f"p{person}", "grad_cam", f"i{index}", response, "4" if truth else "1"))
    return pd.DataFrame(rows, columns=["participant_id", "condition", "item_id", "response", "expected"])


def test_an_answer_counts_by_the_side_it_is_on() -> None:
    rows = [("p", "a", "i", response, expected) for expected in "14" for response in "1234"]
    data = by_side(pd.DataFrame(rows, columns=["participant_id", "condition", "item_id", "response", "expected"]))
    assert data["correct"].tolist() == [1, 1, 0, 0, 0, 0, 1, 1]


def test_a_bias_that_the_pooled_number_hides_is_found() -> None:
    found = agreement(_simulate(0.75, 0.35, seed=1, people=120))
    for quantity, value in (
        ("accuracy, machine right", 0.75),
        ("accuracy, machine wrong", 0.35),
        ("bias to agree", 0.4),
    ):
        item = found.get(quantity, "grad_cam")
        assert item.low <= value <= item.high
        assert item.n == 120
    assert found.get("accuracy, machine wrong", "grad_cam").p < 1e-3
    assert abs(found.get("accuracy", "grad_cam").value - 0.55) < 0.03


@pytest.mark.long
def test_guessing_is_rejected_at_the_nominal_rate() -> None:
    n = 400
    results = [agreement(_simulate(0.5, 0.5, seed=seed)) for seed in range(n)]
    for quantity in ("accuracy, machine right", "accuracy", "sensitivity", "bias to agree"):
        rate = np.mean([result.get(quantity, "grad_cam").p < 0.05 for result in results])
        assert abs(rate - 0.05) < 3 * np.sqrt(0.05 * 0.95 / n)


def test_conditions_are_compared_with_the_baseline() -> None:
    plain = _simulate(0.6, 0.6, seed=2, people=60).assign(condition="baseline")
    shown = _simulate(0.8, 0.4, seed=3, people=60).assign(participant_id=lambda t: "q" + t["participant_id"])
    gap = agreement(pd.concat([plain, shown])).get("bias to agree difference", "grad_cam - baseline")
    assert gap.low <= 0.4 <= gap.high
    assert gap.p < 0.01


def test_self_ratings_are_paired_and_not_counted_as_answers() -> None:
    data = _simulate(0.7, 0.5, seed=4, people=30)
    draw = np.random.default_rng(0)
    extra = [
        (f"p{person}", "grad_cam", f"rating {when}", str(int(draw.integers(2, 4)) + add), "")
        for person in range(30)
        for when, add in (("before", 0), ("after", 1))
    ]
    both = pd.concat([data, pd.DataFrame(extra, columns=data.columns)])
    change = agreement(both).get("understanding, after less before", "grad_cam")
    assert change.low <= 1 <= change.high
    assert agreement(both).get("accuracy", "grad_cam").value == agreement(data).get("accuracy", "grad_cam").value


def _rated(*, change: float, seed: int, people: int = 60) -> pd.DataFrame:
    """Draw three ratings a person; those told a higher score than half raise the last one by `change`, the others lower it."""
    draw, rows = np.random.default_rng(seed), []
    for person in range(people):
        right, first = int(draw.integers(2, 9)), int(draw.integers(2, 5))
        told = first + change * (1 if right > 5 else -1 if right < 5 else 0)
        for when, value in (("before", first), ("after", first + int(draw.integers(0, 2))), ("told", told)):
            score = (right, 10) if when == "told" else (np.nan, np.nan)
            rows.append((f"p{person}", "grad_cam", f"rating {when}", str(value), "", *score))
    names = ["participant_id", "condition", "item_id", "response", "expected", "told_right", "told_asked"]
    return pd.DataFrame(rows, columns=names)


def test_the_third_rating_is_compared_with_the_second_and_with_the_score_told() -> None:
    data = _rated(change=1, seed=0)
    both = pd.concat([_simulate(0.7, 0.5, seed=6, people=60), data])
    wide = data.pivot_table(
        index="participant_id", columns="item_id", values="response", aggfunc=lambda v: float(v.iloc[0])
    )
    change, shares = (
        wide["rating told"] - wide["rating after"],
        data.dropna().set_index("participant_id")["told_right"] / 10,
    )
    outside = stats.ttest_1samp(change, 0)
    for found in (agreement(both), self_ratings(data)):
        item = found.get("understanding, told less after", "grad_cam")
        assert (item.n, item.value, item.p) == (60, pytest.approx(change.mean()), pytest.approx(outside.pvalue))
        assert (item.low, item.high) == pytest.approx(tuple(outside.confidence_interval(0.95)))
        linked = found.get("understanding, change with the score told", "grad_cam")
        pearson = stats.pearsonr(shares.loc[change.index], change)
        assert linked.value == pytest.approx(pearson.statistic)
        assert (linked.low, linked.high) == pytest.approx(tuple(pearson.confidence_interval(0.95)))
        assert linked.low > 0.5


def test_without_ratings_there_is_nothing_to_analyse() -> None:
    with pytest.raises(LimenError, match="holds none of rating before, rating after, rating told"):
        self_ratings(_simulate(0.7, 0.5, seed=5))


def test_a_missing_column_and_one_kind_of_prediction_are_told() -> None:
    data = _simulate(0.7, 0.5, seed=5)
    with pytest.raises(LimenError, match="'expected' is missing"):
        agreement(data.drop(columns="expected"))
    assert agreement(data[data["expected"] == "4"]).flags == ("undefined",)
