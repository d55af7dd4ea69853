"""Scores against Utility: coefficients and exact p beside scipy and slow twins."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.models.link import COEFFICIENTS, correlate, link, permutation_p, smallest_p

SCIPY = {"Pearson r": stats.pearsonr, "Spearman rho": stats.spearmanr, "Kendall tau-b": stats.kendalltau}


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("ties", [False, True])
def test_a_coefficient_equals_scipys(coefficient, ties):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=9), rng.normal(size=9)
    if ties:
        x, y = np.round(x), np.round(y)
    assert float(correlate(x, y, coefficient)) == pytest.approx(SCIPY[coefficient](x, y).statistic)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_a_side_that_does_not_vary_has_no_coefficient(coefficient):
    assert math.isnan(float(correlate(np.ones(5), np.arange(5.0), coefficient)))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_exact_p_counts_every_order(coefficient):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=5), rng.normal(size=5)
    observed = abs(SCIPY[coefficient](x, y).statistic)
    orders = list(itertools.permutations(range(5)))
    reached = sum(abs(SCIPY[coefficient](x, y[list(order)]).statistic) >= observed - 1e-10 for order in orders)
    assert permutation_p(x, y, coefficient) == (reached / 120, "exact, all 120 orders")


@pytest.mark.parametrize(("n", "p"), [(4, 0.083), (5, 0.017), (6, 0.0028)])
def test_the_smallest_possible_p_is_two_over_n_factorial(n, p):
    assert smallest_p(n) == pytest.approx(p, rel=0.03)
    order = np.arange(float(n))
    assert permutation_p(order, order**2 + 1, "Spearman rho")[0] == pytest.approx(smallest_p(n))


def test_beyond_eight_methods_random_orders_never_give_zero():
    order = np.arange(10.0)
    p, how = permutation_p(order, order, "Pearson r")
    assert p == pytest.approx(1 / 100_001)
    assert how.startswith("100,000 random orders")


def scores(values: dict[str, float], direction: str = "up", metric: str = "m") -> pd.DataFrame:
    return pd.DataFrame(
        [{"method": k, "metric": metric, "direction": direction, "value": v} for k, v in values.items()]
    )


UTILITIES = pd.DataFrame({"condition": list("abcdef"), "utility": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5]})


def test_a_metric_where_lower_is_better_is_signed_so_that_positive_means_predicts():
    falling = {name: 1 - 0.1 * i for i, name in enumerate("abcdef")}
    assert link(scores(falling, "down"), UTILITIES).get("Spearman rho", "m").value == pytest.approx(1.0)
    assert link(scores(falling, "up"), UTILITIES).get("Spearman rho", "m").value == pytest.approx(-1.0)


def test_only_methods_with_both_are_counted_and_every_point_is_kept():
    result = link(scores({"a": 1.0, "b": 2.0, "c": 4.0, "z": 9.0}), UTILITIES)
    assert result.get("Pearson r", "m").n == 3
    assert list(result.points["condition"]) == ["a", "b", "c"]
    assert result.facts["smallest_p"] == pytest.approx(2 / 6)


def test_leaving_one_out_names_the_method_that_moves_the_coefficient_most():
    values = {"a": 1.0, "b": 0.9, "c": 1.1, "d": 1.0, "e": 0.95, "f": 9.0}
    item = link(scores(values), UTILITIES).get("Pearson r", "m")
    assert item.extra["most_influential"] == "f"
    assert item.extra["leave_one_out_low"] < 0.5 < item.value


def test_two_methods_give_a_flag_and_no_coefficient():
    result = link(scores({"a": 1.0, "b": 2.0}), UTILITIES)
    assert result.flags == ("too_few_methods",)
    assert math.isnan(result.get("Pearson r", "m").value)


def test_equal_scores_give_a_flag_and_no_coefficient():
    item = link(scores(dict.fromkeys("abcdef", 0.5)), UTILITIES).get("Kendall tau-b", "m")
    assert item.flags == ("no_variation",)
    assert math.isnan(item.p)


def test_a_metric_without_a_direction_is_left_out():
    assert link(scores(dict(zip("abc", (1.0, 2.0, 3.0), strict=True)), "none"), UTILITIES).estimates == ()


def test_the_interval_over_participants_narrows_with_their_number():
    rng = np.random.default_rng(2)
    table = scores({name: float(i) + (i % 2) for i, name in enumerate("abcdef")})

    def width(error: float) -> float:
        samples = {row.condition: row.utility + rng.normal(0, error, 2000) for row in UTILITIES.itertuples()}
        extra = link(table, UTILITIES, samples=samples).get("Pearson r", "m").extra
        return extra["participants_high"] - extra["participants_low"]

    assert width(0.02) < width(0.2)


def test_p_is_holm_adjusted_over_the_metrics_of_one_coefficient():
    rng = np.random.default_rng(3)
    table = pd.concat([scores({name: float(rng.normal()) for name in "abcdef"}, metric=m) for m in ("m1", "m2", "m3")])
    items = link(table, UTILITIES).of("Pearson r")
    best = min(items, key=lambda item: item.p)
    assert best.p_adjusted == pytest.approx(min(1.0, 3 * best.p))
