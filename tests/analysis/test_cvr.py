"""Sample-efficiency scores: the published fixture, limits, intervals that cover, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.measures.cvr import REGIMES, area, efficiency, rules_solved, sample_efficiency, transfer, weights
from bench.registry import LimenError

PUBLISHED = np.array([28.0, 31.1, 32.5, 34.0, 38.7, 44.8])


def test_the_published_accuracies_give_the_published_scores():
    assert area(PUBLISHED) == pytest.approx(34.85, abs=1e-9)
    assert sample_efficiency(PUBLISHED) == pytest.approx(33.68, abs=0.005)


def test_the_weights_use_the_natural_logarithm():
    assert weights([1, math.e]).tolist() == pytest.approx([1.0, 0.5])


def test_a_slow_twin_agrees():
    top = sum(a / (1 + math.log(n)) for a, n in zip(PUBLISHED, REGIMES, strict=True))
    assert sample_efficiency(PUBLISHED) == pytest.approx(top / sum(1 / (1 + math.log(n)) for n in REGIMES))


def test_a_flat_curve_has_its_own_value_in_both_scores():
    assert sample_efficiency(np.full((3, 6), 0.4)).tolist() == pytest.approx([0.4] * 3)
    assert area(np.full(6, 0.4)) == pytest.approx(0.4)


def test_early_accuracy_counts_more():
    assert sample_efficiency([0.9, 0.5, 0.5, 0.5, 0.5, 0.5]) > sample_efficiency([0.5, 0.5, 0.5, 0.5, 0.5, 0.9])


def test_a_rule_at_the_threshold_is_solved_in_spite_of_rounding():
    assert rules_solved(np.array([[0.8], [0.79], [0.1 * 3 + 0.5]])).tolist() == [2]


def test_the_scores_of_many_rules_are_those_of_their_mean_curve():
    accuracy = np.random.default_rng(0).uniform(0.25, 1, (30, 6))
    found = efficiency(accuracy)
    assert found.ses.value == pytest.approx(sample_efficiency(accuracy).mean())
    assert found.auc.value == pytest.approx(accuracy.mean())
    assert [round(one.value * found.rules) for one in found.solved] == rules_solved(accuracy).tolist()
    assert found.ses.low < found.ses.value < found.ses.high


def test_intervals_cover_the_population_value():
    rng = np.random.default_rng(1)
    hits = 0
    for study in range(200):
        accuracy = np.clip(0.6 + rng.normal(0, 0.1, (40, 1)) + rng.normal(0, 0.02, (40, 6)), 0, 1)
        found = efficiency(accuracy, draws=300, seed=study).ses
        hits += found.low <= 0.6 <= found.high
    # 95 % nominal; percentile intervals of 40 rules are a little short. Binomial(200, .92) is above 172 in 99 %.
    assert hits >= 173


def test_the_same_seed_gives_the_same_interval():
    accuracy = np.random.default_rng(0).uniform(0.25, 1, (10, 6))
    first, second = efficiency(accuracy, seed=4).auc, efficiency(accuracy, seed=4).auc
    assert (first.low, first.high) == (second.low, second.high)


def test_one_rule_has_no_interval():
    assert math.isnan(efficiency(np.full((1, 6), 0.5)).ses.low)


def test_transfer_is_the_paired_gain():
    scratch = np.random.default_rng(2).uniform(0.25, 0.7, (20, 6))
    gain = transfer(scratch, scratch + 0.1)
    assert gain.value == pytest.approx(0.1)
    assert (gain.low, gain.high) == (pytest.approx(0.1), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: weights([0, 5]), "1 or more"),
        (lambda: sample_efficiency([0.1, 0.2]), "6 sizes"),
        (lambda: efficiency(np.zeros(6)), "(rules, sizes)"),
        (lambda: efficiency(np.full((2, 6), 28.0)), "outside 0 to 1"),
        (lambda: efficiency(np.full((2, 6), np.nan)), "missing"),
        (lambda: transfer(np.zeros((2, 6)), np.zeros((3, 6))), "same rules"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, said):
    with pytest.raises(LimenError) as refused:
        call()
    assert said in str(refused.value)
