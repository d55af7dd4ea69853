"""Confidence against accuracy: errors from their formulas, nulls where they must be, planted biases, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.measures.calibration import calibration_error, type_two
from analysis.models.calibration import calibration
from bench.registry import LimenError

SURE = (0.55, 0.65, 0.75, 0.85, 0.95)


def simulate(
    seed: int = 0, *, people: int = 24, answers: int = 40, over: float = 0.0, informed: bool = True
) -> pd.DataFrame:
    """People in two conditions whose accuracy is their confidence less `over` in 'maps', or .7 whatever they say."""
    draws = np.random.default_rng(seed)
    rows = pd.DataFrame({"participant_id": np.repeat([f"p{p}" for p in range(people)], answers)})
    rows["condition"] = np.where(rows["participant_id"].str[1:].astype(int) % 2, "maps", "baseline")
    rows["confidence"] = draws.choice([55.0, 65.0, 75.0, 85.0, 95.0], len(rows))
    sure = rows["confidence"] / 100 - over * (rows["condition"] == "maps") if informed else 0.7
    return rows.assign(correct=(draws.random(len(rows)) < sure).astype(float))


def test_the_error_is_the_weighted_distance_of_bins() -> None:
    confidence = np.array([0.62, 0.68, 0.91, 0.99, 1.0, 0.3])
    correct = np.array([1, 0, 1, 1, 0, 1])
    found = calibration_error(confidence, correct, np.arange(6), resamples=10)
    by_hand = 2 / 6 * abs(0.5 - 0.65) + 3 / 6 * abs(2 / 3 - (0.91 + 0.99 + 1) / 3) + 1 / 6 * abs(1 - 0.3)
    assert found.value == pytest.approx(by_hand)


def test_type_two_numbers_count_pairs_and_the_auc_is_mann_whitneys() -> None:
    draws = np.random.default_rng(1)
    confidence, correct = draws.integers(1, 5, 60).astype(float), draws.integers(0, 2, 60)
    auc, gamma = type_two(confidence, correct)
    right, wrong = confidence[correct == 1], confidence[correct == 0]
    test = stats.mannwhitneyu(right, wrong)
    assert auc == pytest.approx(test.statistic / len(right) / len(wrong))
    signs = [np.sign(a - b) for a, b in itertools.product(right, wrong)]
    more, less = signs.count(1), signs.count(-1)
    assert gamma == pytest.approx((more - less) / (more + less))
    assert np.isnan(type_two(confidence, np.ones(60))).all()


def test_calibrated_answers_lie_at_the_floor_and_far_under_the_null() -> None:
    tables = [simulate(seed) for seed in range(20, 28)]
    found = [
        calibration_error(t["confidence"] / 100, t["correct"], t["participant_id"], resamples=99, seed=seed)
        for seed, t in enumerate(tables)
    ]
    assert 0.2 < np.mean([one.floor_p for one in found]) < 0.8
    assert sum(one.low == 0.0 for one in found) >= 7
    assert all(one.null > 2 * one.value and one.null_p < 0.02 for one in found)


def test_the_interval_of_an_error_covers_it_where_people_differ() -> None:
    """60 studies of 20 people who are .03 overconfident on average."""
    held = 0
    for seed in range(60):
        draws = np.random.default_rng(seed)
        who, sure = np.repeat(np.arange(20), 40), draws.choice([0.55, 0.65, 0.75, 0.85, 0.95], 800)
        right = draws.random(800) < sure - 0.03 + draws.normal(0, 0.05, 20)[who]
        found = calibration_error(sure, right, who, resamples=1, seed=seed)
        held += found.low <= 0.03 <= found.high
    assert held >= 51


def test_each_end_of_the_interval_is_the_error_at_which_the_observed_one_is_extreme() -> None:
    """One bin and one answer a person: the error is |mean|, and far from 0 its interval that of Student's t."""
    draws = np.random.default_rng(3)
    sure, right = np.full(400, 0.95), (draws.random(400) < 0.6) * 1.0
    found = calibration_error(sure, right, np.arange(400), resamples=1)
    half = stats.t.ppf(0.975, 399) * stats.sem(right - sure)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.004)


@pytest.mark.long
@pytest.mark.parametrize(
    ("people", "over", "spread"), [(30, 0.04, 0.05), (30, 0.08, 0.05), (30, 0.04, 0.15), (12, 0.08, 0.15), (60, 0.02, 0.05)]
)  # fmt: skip
def test_the_interval_of_an_error_neither_covers_too_seldom_nor_always(people: int, over: float, spread: float) -> None:
    """400 studies; people differ little or much, and the error is at the noise's size or above it."""
    who, truth = np.repeat(np.arange(people), 40), _mean_error(over, spread)
    held = 0
    for seed in range(400):
        draws = np.random.default_rng(seed)
        sure = draws.choice(SURE, len(who))
        chance = np.clip(sure - over - draws.normal(0, spread, people)[who], 0, 1)
        found = calibration_error(sure, draws.random(len(who)) < chance, who, resamples=1, seed=seed)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.985


def _mean_error(over: float, spread: float) -> float:
    """Mean distance of the five bins where probabilities end at 1."""
    own = np.random.default_rng(0).normal(0, spread, 200_000)
    return float(np.mean([sure - np.clip(sure - over - own, 0, 1).mean() for sure in SURE]))


def test_confidence_that_tells_nothing_lies_at_its_null() -> None:
    data = simulate(3, informed=False)
    result = calibration(data, resamples=200)
    for name in ("maps", "baseline"):
        error = result.get("calibration error", name)
        assert error.p > 0.05
        assert error.extra["floor_p"] < 0.01
        auc = result.get("type-2 AUC", name)
        assert auc.low < 0.5 < auc.high


def test_planted_overconfidence_comes_back_in_its_condition() -> None:
    result = calibration(simulate(4, over=0.2), resamples=200)
    over = result.get("overconfidence", "maps")
    assert over.low < 0.2 < over.high
    assert over.extra["null"] == 0.0
    gap = result.get("overconfidence difference", "maps - baseline")
    assert gap.low < 0.2 < gap.high
    error = result.get("calibration error", "maps")
    assert error.low < 0.2 < error.high
    assert result.get("type-2 AUC", "maps").low > 0.5


def test_each_bin_names_its_confidence_and_how_many_answers_it_holds() -> None:
    data = simulate(5)
    result = calibration(data, resamples=50)
    item = result.get("accuracy at confidence", "maps: 70% to 80%")
    mine = data[(data["condition"] == "maps") & (data["confidence"] == 75)]
    assert (item.value, item.n) == (pytest.approx(mine["correct"].mean()), len(mine))
    assert item.extra["confidence"] == pytest.approx(0.75)


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, two = (calibration(simulate(6), resamples=50).table() for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_steps_are_no_probabilities() -> None:
    data = simulate(7).assign(confidence=lambda t: (t["confidence"] - 45) / 10)
    result = calibration(data)
    assert result.facts["scale"] == "steps"
    assert result.of("calibration error") == ()
    assert result.of("overconfidence") == ()
    assert result.get("gamma", "maps").low > 0
    assert [item.label for item in result.of("accuracy at confidence")][:2] == ["baseline: step 1", "baseline: step 2"]


def test_a_scale_that_begins_with_a_guess_is_told() -> None:
    data = simulate(8).assign(confidence=lambda t: (t["confidence"] - 50) * 2)
    plain = calibration(simulate(8), resamples=20).get("overconfidence", "maps").value
    assert calibration(data, lowest=0.5, resamples=20).get("overconfidence", "maps").value == pytest.approx(plain)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda t: t.assign(confidence=np.nan), "undefined"),
        (lambda t: t.assign(correct=1.0), "undefined"),
        (lambda t: t[t["participant_id"] == "p1"], "one_participant"),
    ],
)
def test_what_cannot_be_held_against_accuracy_is_flagged(change, flag) -> None:
    assert flag in calibration(change(simulate(9)), resamples=20).all_flags()


def test_a_confidence_off_the_scale_and_a_missing_column_are_one_sentence() -> None:
    with pytest.raises(LimenError, match="given 190, allowed on a percent scale are 0 to 100"):
        calibration(simulate(10).assign(confidence=lambda t: t["confidence"] * 2))
    with pytest.raises(LimenError, match="column 'confidence' is missing"):
        calibration(simulate(10).drop(columns="confidence"))
    with pytest.raises(LimenError, match="confidences from 0 to 1"):
        calibration_error(np.array([2.0]), np.array([1]), np.array([0]))
