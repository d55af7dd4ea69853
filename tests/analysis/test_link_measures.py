"""Exact distribution, power and reliability of correlations, and random effects, beside closed forms and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.measures.agreement import intraclass_correlations
from analysis.measures.association import (
    Reliability,
    correlation_cdf,
    disattenuated,
    error_reliability,
    exact_interval,
    fisher_variance,
    image_reliability,
    needed_n,
    power_of_correlation,
    split_half_utility,
)
from analysis.measures.pooling import needed_datasets, random_effects
from bench.registry import LimenError


@pytest.mark.parametrize("n", [3, 4, 6, 12, 200])
def test_without_correlation_the_distribution_is_students(n):
    for r in (-0.9, -0.2, 0.0, 0.5, 0.95):
        t = r * math.sqrt((n - 2) / (1 - r**2))
        assert correlation_cdf(r, 0.0, n) == pytest.approx(stats.t.cdf(t, n - 2), abs=1e-9)


def test_the_distribution_is_the_integral_of_the_density():
    n, rho = 7, 0.6

    def density(r: float) -> float:
        front = (n - 2) * special.gamma(n - 1) * (1 - rho**2) ** ((n - 1) / 2) * (1 - r**2) ** ((n - 4) / 2)
        below = math.sqrt(2 * math.pi) * special.gamma(n - 0.5) * (1 - rho * r) ** (n - 1.5)
        return front / below * special.hyp2f1(0.5, 0.5, n - 0.5, (1 + rho * r) / 2)

    for r in (-0.5, 0.3, 0.8):
        assert correlation_cdf(r, rho, n) == pytest.approx(integrate.quad(density, -1, r)[0], abs=1e-8)


@pytest.mark.parametrize(("rho", "n"), [(0.1, 782), (0.3, 84), (0.5, 29), (0.8, 9)])
def test_the_n_that_a_correlation_takes_is_the_published_one(rho, n):
    """Exact bivariate normal model, two-sided .05, power .8, as in published power tables."""
    assert needed_n(rho) == n
    assert power_of_correlation(rho, n) >= 0.8 > power_of_correlation(rho, n - 1)


def test_no_number_of_points_finds_no_correlation():
    assert needed_n(0.0) == math.inf
    assert math.isnan(needed_n(float("nan")))


def test_the_exact_interval_holds_zero_exactly_when_the_t_test_does_not_reject():
    n = 8
    t = stats.t.isf(0.025, n - 2)
    critical = t / math.sqrt(n - 2 + t**2)
    assert exact_interval(critical, n)[0] == pytest.approx(0, abs=1e-6)
    assert exact_interval(-critical, n)[1] == pytest.approx(0, abs=1e-6)


def test_with_many_points_the_exact_interval_is_fishers():
    r, n = 0.4, 500
    theirs = stats.pearsonr(*_correlated(r, n)).confidence_interval()
    low, high = exact_interval(r, n)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=3e-3)


def _correlated(r: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(2, n))
    x -= x.mean()
    e -= e.mean() + x * (e @ x) / (x @ x)
    return x, r * x / np.linalg.norm(x) + math.sqrt(1 - r**2) * e / np.linalg.norm(e)


def test_the_exact_interval_covers_at_its_level():
    rng, rho, n = np.random.default_rng(1), 0.7, 6
    draws = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=(150, n))
    held = 0
    for one in draws:
        low, high = exact_interval(float(np.corrcoef(one.T)[0, 1]), n)
        held += low <= rho <= high
    assert stats.binomtest(held, 150, 0.95).pvalue > 0.01


def test_too_few_points_have_no_variance_of_the_transformed_coefficient():
    assert fisher_variance(0.5, 3, "Pearson r") == math.inf
    assert fisher_variance(0.5, 4, "Kendall tau-b") == math.inf
    assert fisher_variance(0.6, 13, "Spearman rho") == pytest.approx(1.18 / 10)


def test_the_spread_is_that_of_another_library_and_the_mean_a_t_test_of_data_sets():
    rng = np.random.default_rng(2)
    effects, variances = rng.normal(0.5, 0.6, 7), rng.uniform(0.05, 0.3, 7)
    ours = random_effects(effects, variances)
    theirs = combine_effects(effects, variances, method_re="iterated", use_t=True, atol=1e-12)
    assert ours.tau**2 == pytest.approx(theirs.tau2, rel=1e-6)
    assert ours.q == pytest.approx(theirs.q)
    test = stats.ttest_1samp(effects, 0.0)
    interval = test.confidence_interval()
    assert (ours.low, ours.high, ours.p) == pytest.approx((interval.low, interval.high, test.pvalue), rel=1e-9)


def test_equal_effects_have_no_spread_and_the_mean_keeps_the_error_of_known_weights():
    found = random_effects(np.full(4, 0.3), np.full(4, 0.1))
    assert (found.tau, found.tau_low) == (0.0, 0.0)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(0.1 / 4))
    assert np.allclose(found.each, 0.3)


def test_two_data_sets_leave_the_spread_wide_open():
    found = random_effects(np.array([0.2, 0.9]), np.array([0.05, 0.05]))
    assert found.tau_high > 10 * found.tau
    assert math.isnan(found.prediction_low)


def test_a_spread_that_was_planted_is_in_its_interval_as_often_as_it_says():
    rng, tau = np.random.default_rng(3), 0.4
    held = 0
    for _ in range(300):
        variances = rng.uniform(0.05, 0.2, 8)
        effects = 0.3 + rng.normal(0, tau, 8) + rng.normal(0, np.sqrt(variances))
        found = random_effects(effects, variances)
        held += found.tau_low <= tau <= found.tau_high
    assert stats.binomtest(held, 300, 0.95).pvalue > 0.01


def test_one_data_set_or_no_variance_is_refused():
    with pytest.raises(LimenError, match="allowed are two or more"):
        random_effects(np.array([0.1]), np.array([0.1]))
    with pytest.raises(LimenError, match="positive variances"):
        random_effects(np.array([0.1, 0.2]), np.array([0.1, math.inf]))


def test_the_data_sets_it_takes_are_those_of_a_t_test():
    from statsmodels.stats.power import TTestPower

    theirs = TTestPower().solve_power(0.5 / math.sqrt(0.3**2 + 0.4), power=0.8, alpha=0.05)
    assert needed_datasets(0.5, 0.3, 0.4) == math.ceil(theirs)


def test_a_planted_reliability_is_found_from_errors_and_from_split_halves():
    rng = np.random.default_rng(4)
    names = [f"m{i}" for i in range(60)]
    truth = rng.normal(0.7, 0.05, 60)
    rows = [("baseline", f"b{j}", 0.6) for j in range(40)]
    rows += [
        (name, f"{name}-{j}", rng.normal(mean, 0.3)) for name, mean in zip(names, truth, strict=True) for j in range(40)
    ]
    trials = pd.DataFrame(rows, columns=["condition", "participant_id", "correct"])
    expected = 0.05**2 / (0.05**2 + 0.3**2 / 40)
    halves = split_half_utility(trials, names, baseline="baseline", halves=200)
    assert halves.value == pytest.approx(expected, abs=0.12)
    assert halves.low < halves.value < halves.high
    means = trials[trials["condition"] != "baseline"].groupby("condition")["correct"].mean()
    assert error_reliability(means.to_numpy(), np.full(60, 0.3 / math.sqrt(40))).value == pytest.approx(
        expected, abs=0.12
    )


def test_the_reliability_over_images_is_the_average_consistency():
    values = np.random.default_rng(5).normal(size=(6, 20)) + np.arange(6)[:, None] / 3
    theirs = intraclass_correlations(values)
    assert image_reliability(values).value == pytest.approx(float(theirs.loc["ICC(3,k)", "value"]))


def test_a_correlation_is_corrected_for_error_on_both_sides_and_not_cut_at_one():
    def known(value: float) -> Reliability:
        return Reliability(value, math.nan, math.nan, 6, "")

    assert disattenuated(0.6, known(0.8), known(0.45)) == pytest.approx(1.0)
    assert disattenuated(0.9, known(0.8), known(0.45)) > 1
    assert math.isnan(disattenuated(0.9, known(math.nan), known(0.45)))


def test_errors_larger_than_what_varies_give_no_reliability():
    assert math.isnan(error_reliability(np.array([1.0, 1.1, 1.2]), np.array([1.0, 1.0, 1.0])).value)


def test_split_halves_need_four_people_a_condition():
    trials = pd.DataFrame({"condition": ["b", "b"], "participant_id": ["p", "q"], "correct": [1.0, 0.0]})
    with pytest.raises(LimenError, match="allowed are 4 or more"):
        split_half_utility(trials, ["b"], baseline="b")


@pytest.mark.parametrize(("coefficient", "value"), [("Spearman rho", 0.5), ("Kendall tau-b", 0.4)])
def test_the_n_of_a_rank_coefficient_solves_its_own_variance(coefficient, value):
    n = int(needed_n(value, coefficient=coefficient))
    reach = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    assert math.atanh(value) / math.sqrt(fisher_variance(value, n, coefficient)) >= reach
    assert math.atanh(value) / math.sqrt(fisher_variance(value, n - 1, coefficient)) < reach
