"""Utility: the published table, the intervals beside slow twins, and their coverage."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from analysis.models.utility import (
    FORMULAS,
    Group,
    bootstrap_utilities,
    fieller,
    log_delta,
    session_weights,
    utility,
    utility_value,
)
from bench.registry import UnknownName

TABLE = pd.read_csv(Path(__file__).parent / "data" / "colin_2022_table1.csv", index_col="method")
K = (5.0, 10.0, 15.0)
EXACT = {
    "husky": {
        "Control": (0.9508, 0.9515, 0.9440), "Saliency": (1.0649, 1.0615, 1.0589), "IntegGrad": (1.1548, 1.1578, 1.1433),
        "SmoothGrad": (1.2013, 1.2036, 1.1871), "GradCAM": (1.3387, 1.3416, 1.3298), "Occlusion": (1.2165, 1.2199, 1.2008),
        "GradInput": (1.0660, 1.0723, 1.0433),
    },
    "leaves": {
        "Control": (1.0208, 1.0210, 1.0197), "Saliency": (1.1277, 1.1301, 1.1363), "IntegGrad": (1.1100, 1.1121, 1.1026),
        "SmoothGrad": (1.1308, 1.1326, 1.1284), "GradCAM": (1.0989, 1.1013, 1.0978), "Occlusion": (1.0989, 1.1000, 1.1053),
        "GradInput": (1.0594, 1.0607, 1.0654),
    },
    "imagenet": {
        "Control": (0.9366, 0.9363, 0.9402), "Saliency": (1.0017, 1.0023, 0.9937), "IntegGrad": (0.9789, 0.9797, 0.9691),
        "SmoothGrad": (0.9271, 0.9280, 0.9170), "GradCAM": (0.8954, 0.8964, 0.8833), "Occlusion": (0.9249, 0.9241, 0.9350),
        "GradInput": (0.9466, 0.9470, 0.9418),
    },
}  # fmt: skip


def accuracies(dataset: str, method: str) -> np.ndarray:
    return TABLE.loc[method, [f"{dataset}{session}" for session in (1, 2, 3)]].to_numpy(dtype=float)


@pytest.mark.parametrize("dataset", EXACT)
@pytest.mark.parametrize("method", EXACT["husky"])
def test_the_three_formulas_return_the_exact_values_of_the_published_accuracies(dataset, method):
    given, base = accuracies(dataset, method), accuracies(dataset, "Baseline")
    values = [float(utility_value(given, base, formula, K)) for formula in FORMULAS]
    assert values == pytest.approx(EXACT[dataset][method], abs=1e-4)


@pytest.mark.parametrize("dataset", EXACT)
def test_ratio_of_means_is_within_a_hundredth_and_a_half_of_every_printed_utility(dataset):
    for method in EXACT[dataset]:
        value = float(utility_value(accuracies(dataset, method), accuracies(dataset, "Baseline"), "ratio_of_means", K))
        assert abs(value - TABLE.loc[method, f"{dataset}U"]) < 0.015


def test_nineteen_of_twenty_one_printed_utilities_agree_at_two_decimals():
    hits = 0
    for dataset in EXACT:
        for method in EXACT[dataset]:
            value = utility_value(accuracies(dataset, method), accuracies(dataset, "Baseline"), "ratio_of_means", K)
            hits += round(float(value), 2) == TABLE.loc[method, f"{dataset}U"]
    assert hits == 19


def test_trapezoid_weighs_unequal_steps_by_their_length():
    assert session_weights("trapezoid", (5, 10, 20)) == pytest.approx([2.5 / 15, 7.5 / 15, 5 / 15])
    assert session_weights("trapezoid", (5,)) == pytest.approx([1.0])


def test_an_unknown_formula_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="'ratio_of_mean'.*did you mean 'ratio_of_means'"):
        utility_value(np.ones(3), np.ones(3), "ratio_of_mean", K)


def draw(rng: np.random.Generator, n: int, level: tuple[float, ...]) -> np.ndarray:
    skill = rng.normal(0, 0.5, size=(n, 1))
    chances = 1 / (1 + np.exp(-(np.log(np.array(level) / (1 - np.array(level))) + skill)))
    return rng.binomial(7, chances) / 7


@pytest.mark.parametrize("formula", FORMULAS)
def test_log_delta_equals_a_delta_method_with_numerical_derivatives(formula):
    rng = np.random.default_rng(3)
    one, base = draw(rng, 30, (0.7, 0.8, 0.8)), draw(rng, 25, (0.55, 0.6, 0.62))
    means = np.concatenate([one.mean(0), base.mean(0)])
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = np.cov(one.T) / 30
    covariance[3:, 3:] = np.cov(base.T) / 25
    log_u = lambda m: math.log(float(utility_value(m[:3], m[3:], formula, K)))  # noqa: E731
    slope = optimize.approx_fprime(means, log_u, 1e-7)
    half = stats.t.ppf(0.975, 53) * math.sqrt(slope @ covariance @ slope)
    centre = log_u(means)
    assert log_delta(Group(one), Group(base), formula, K) == pytest.approx(
        (math.exp(centre - half), math.exp(centre + half)), rel=1e-5
    )


def test_fieller_holds_exactly_the_ratios_a_t_test_cannot_reject():
    rng = np.random.default_rng(4)
    one, base = draw(rng, 20, (0.7, 0.8, 0.8)), draw(rng, 20, (0.5, 0.6, 0.6))
    top, bottom = one.mean(1), base.mean(1)
    t = stats.t.ppf(0.975, 38)
    for bound in fieller(Group(one), Group(base)):
        gap = top.mean() - bound * bottom.mean()
        assert abs(gap) / math.sqrt(top.var(ddof=1) / 20 + bound**2 * bottom.var(ddof=1) / 20) == pytest.approx(t)


def test_fieller_is_unbounded_when_the_baseline_may_be_zero():
    base = np.array([[0.0], [0.0], [1.0]])
    assert fieller(Group(np.array([[0.5], [0.6], [0.7]])), Group(base)) == (-math.inf, math.inf)


def test_the_bootstrap_resamples_one_baseline_for_all_and_repeats_with_its_seed():
    rng = np.random.default_rng(5)
    groups = {
        "baseline": Group(draw(rng, 30, (0.6,) * 3)),
        "a": Group(draw(rng, 30, (0.7,) * 3)),
        "b": Group(draw(rng, 30, (0.7,) * 3)),
    }
    first = bootstrap_utilities(groups, "baseline", "ratio_of_means", K, draws=500, seed=1)
    again = bootstrap_utilities(groups, "baseline", "ratio_of_means", K, draws=500, seed=1)
    assert np.array_equal(first["a"], again["a"])
    assert np.corrcoef(first["a"], first["b"])[0, 1] > 0.2


def tidy(groups: dict[str, np.ndarray]) -> pd.DataFrame:
    """Turn (n, sessions, trials) answers into rows."""
    rows = [
        {"participant_id": f"{name}{i}", "condition": name, "session": s + 1, "k_seen": 5.0 * (s + 1), "item_id": f"{s}-{t}", "correct": float(v)}
        for name, values in groups.items()
        for (i, s, t), v in np.ndenumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_people_without_every_session_are_left_out_and_flagged():
    rng = np.random.default_rng(6)
    frame = tidy({name: rng.integers(0, 2, (8, 3, 7)) for name in ("baseline", "a")})
    whole = utility(frame)
    partial = utility(
        pd.concat(
            [frame, frame[(frame["participant_id"] == "a0") & (frame["session"] == 1)].assign(participant_id="left")]
        )
    )
    assert "incomplete_sessions" in partial.flags
    assert partial.facts["incomplete"] == 1
    assert [i.value for i in partial.estimates] == [i.value for i in whole.estimates]


def test_a_cell_of_all_right_answers_gets_a_flag_and_no_interval():
    rng = np.random.default_rng(7)
    frame = tidy({"baseline": rng.integers(0, 2, (8, 3, 7)), "a": np.ones((8, 3, 7))})
    item = utility(frame).get("utility (ratio_of_means)", "a")
    assert item.flags == ("no_spread",)
    assert math.isnan(item.low)


def test_a_baseline_of_all_wrong_answers_gives_no_number():
    rng = np.random.default_rng(8)
    item = utility(tidy({"baseline": np.zeros((8, 3, 7)), "a": rng.integers(0, 2, (8, 3, 7))})).get(
        "utility (trapezoid)", "a"
    )
    assert item.flags == ("not_positive",)
    assert math.isnan(item.value)


@pytest.mark.long
@pytest.mark.parametrize("formula", FORMULAS)
def test_log_delta_covers_the_true_utility_in_about_95_of_100_studies(formula):
    rng = np.random.default_rng(9)
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()

    def population(levels: tuple[float, ...]) -> np.ndarray:
        logit = np.log(np.array(levels) / (1 - np.array(levels)))
        return (1 / (1 + np.exp(-(logit[:, None] + 0.5 * nodes)))) @ weights

    high, low = (0.72, 0.80, 0.84), (0.56, 0.60, 0.62)
    truth = float(utility_value(population(high), population(low), formula, K))
    inside = 0
    for _ in range(2000):
        bounds = log_delta(Group(draw(rng, 30, high)), Group(draw(rng, 30, low)), formula, K)
        inside += bounds[0] <= truth <= bounds[1]
    assert 0.935 <= inside / 2000 <= 0.965
