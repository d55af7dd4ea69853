"""Learning: planted rises come back, blocks stand in for sessions, the last less the first is what it says."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis.models.learning import learning
from bench.registry import LimenError

SKILL, EASE = 0.5, 0.4


def simulate(
    seed: int = 0, *, people: int = 40, items: int = 24, rises: tuple[float, float] = (0.4, 1.8)
) -> pd.DataFrame:
    """Three sessions of eight items; the log-odds rise by `rises` from the first to the last, by condition."""
    draws = np.random.default_rng(seed)
    own, ease = draws.normal(0, SKILL, people), draws.normal(0, EASE, items)
    rows = [
        (f"p{p}", f"i{i}", ("baseline", "maps")[p % 2], 1 + i % 3, i % 3 * 8 + i // 3,
         0.5 + own[p] + ease[i] + rises[p % 2] * (i % 3 - 1) / 2)
        for p in range(people)
        for i in range(items)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "session", "position", "logit"])
    right = draws.random(len(table)) < special.expit(table.pop("logit"))
    return table.assign(correct=right.astype(float))


def population_gain(rise: float) -> float:
    spread = np.random.default_rng(9).normal(0, math.hypot(SKILL, EASE), 200_000)
    return float(special.expit(0.5 + rise / 2 + spread).mean() - special.expit(0.5 - rise / 2 + spread).mean())


def test_planted_gains_and_their_difference_lie_in_their_intervals() -> None:
    result = learning(simulate())
    for name, rise in (("baseline", 0.4), ("maps", 1.8)):
        gain = result.get("accuracy gain", name)
        assert gain.low < population_gain(rise) < gain.high
        odds = result.get("odds ratio of the trend", name)
        assert odds.low < math.exp(rise) < odds.high
    gap = result.get("accuracy gain difference", "maps - baseline")
    assert gap.low < population_gain(1.8) - population_gain(0.4) < gap.high
    assert gap.p < 0.01
    gains = [result.get("accuracy gain", name).value for name in ("maps", "baseline")]
    assert gap.value == pytest.approx(gains[0] - gains[1])


def test_session_means_are_of_participants_and_tested_against_chance() -> None:
    data = simulate(1)
    item = learning(data, chance=0.5).get("accuracy by session", "maps, session 3")
    mine = data[(data["condition"] == "maps") & (data["session"] == 3)]
    assert item.value == pytest.approx(mine.groupby("participant_id")["correct"].mean().mean())
    assert item.extra["null"] == 0.5
    assert item.n == 20
    assert item.p < 0.05


def test_one_session_is_cut_into_four_blocks_of_each_persons_answers() -> None:
    result = learning(simulate(2).assign(session=1))
    assert result.facts["part"] == "block"
    assert len(result.of("accuracy by session")) == 8
    assert "(an equal part of each person's answers, in their order)" in result.method


def test_the_logarithm_of_the_trial_is_another_shape_of_the_same_rise() -> None:
    result = learning(simulate(3), shape="log_trial")
    assert "quadratic" not in result.facts["formula"]
    assert result.get("accuracy gain difference", "maps - baseline").low > 0


def test_one_condition_has_a_gain_and_no_difference() -> None:
    data = simulate(4)
    result = learning(data[data["condition"] == "maps"])
    assert result.get("accuracy gain", "maps").low > 0
    assert result.of("accuracy gain difference") == ()


def test_a_condition_that_is_always_right_has_no_gain_but_an_exact_interval() -> None:
    data = simulate(5)
    data.loc[data["condition"] == "maps", "correct"] = 1.0
    result = learning(data)
    assert "separation" in result.flags
    assert [item.label for item in result.of("accuracy gain")] == ["baseline"]
    assert result.get("accuracy", "maps").high == 1.0


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda t: t.drop(columns="correct"), {}, "column 'correct' is missing"),
        (lambda t: t.drop(columns="position"), {"shape": "log_trial"}, "column 'position' is missing"),
        (lambda t: t, {"blocks": 1}, "allowed is 2 or more"),
        (lambda t: t, {"shape": "log"}, "log_trial"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(change, options, text) -> None:
    with pytest.raises(LimenError, match=text):
        learning(change(simulate(6, people=4)), **options)
