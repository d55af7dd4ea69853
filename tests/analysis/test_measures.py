"""Measures of people and methods: published examples, closed forms, outside libraries, planted truth, degenerate input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.measures.agreement import error_consistency, intraclass_correlations, krippendorff_alpha, split_half
from analysis.measures.preference import bradley_terry
from analysis.measures.psychophysics import m_afc, m_afc_accuracy, psychometric_function, two_afc, yes_no
from bench.rankings import critical_difference
from bench.registry import LimenError

NAN = float("nan")
RATINGS = np.array(
    [
        [1, 1, NAN, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1],
        [2, 2, 2, 2], [NAN, 5, 5, 5], [NAN, NAN, 1, 1], [NAN, NAN, 3, NAN],
    ]
)  # fmt: skip
"""The example of Krippendorff's text on computing alpha: 12 units, 4 observers, values missing."""
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
"""The example of Shrout and Fleiss: 6 targets, 4 judges."""


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_the_published_example(level: str, value: float) -> None:
    found = krippendorff_alpha(RATINGS, level, resamples=50)
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.n == 11
    assert found.low <= found.value <= found.high


def test_alpha_of_chance_is_zero_of_full_agreement_one_and_of_one_value_undefined() -> None:
    draws = np.random.default_rng(0)
    assert krippendorff_alpha(draws.integers(3, size=(2000, 3)), resamples=2).value == pytest.approx(0, abs=0.03)
    same = np.repeat(draws.integers(3, size=(30, 1)), 3, axis=1)
    assert krippendorff_alpha(same, "ordinal", resamples=20).value == 1
    constant = krippendorff_alpha(np.ones((5, 3)), resamples=5)
    assert np.isnan(constant.value)
    assert "undefined" in constant.note


def test_intraclass_correlations_of_the_published_example() -> None:
    table = intraclass_correlations(JUDGES)
    assert table["value"].to_numpy() == pytest.approx([0.17, 0.29, 0.71, 0.44, 0.62, 0.91], abs=6e-3)
    assert table.loc["ICC(1)", ["low", "high"]].to_numpy() == pytest.approx([-0.13, 0.72], abs=6e-3)
    assert table.loc["ICC(2)", ["low", "high"]].to_numpy() == pytest.approx([0.02, 0.76], abs=6e-3)
    assert table.loc["ICC(3)", ["low", "high"]].to_numpy() == pytest.approx([0.34, 0.95], abs=6e-3)
    assert table.loc["ICC(3)", "F"] == pytest.approx(11.03, abs=0.01)


def test_split_halves_recover_a_planted_reliability() -> None:
    """Person variance 1, noise 4 over 40 items: reliability of the mean is 1 / (1 + 4/40)."""
    draws = np.random.default_rng(1)
    scores = draws.normal(size=(400, 1)) + 2 * draws.normal(size=(400, 40))
    found = split_half(scores, halves=100)
    assert found.value == pytest.approx(1 / 1.1, abs=0.02)
    assert found.null == pytest.approx(0, abs=0.15)
    holes = np.where(draws.uniform(size=scores.shape) < 0.2, NAN, scores)
    assert split_half(holes, halves=50).value == pytest.approx(1 / (1 + 4 / 32), abs=0.03)


def test_error_consistency_is_one_for_the_same_errors_and_zero_for_independent_ones() -> None:
    draws = np.random.default_rng(2)
    one, other = draws.uniform(size=(2, 5000)) < 0.8
    assert error_consistency(one, one, resamples=20).value == 1
    independent = error_consistency(one, other, resamples=200)
    assert independent.low < 0 < independent.high
    assert "undefined" in error_consistency(np.ones(9), np.ones(9), resamples=9).note


def test_yes_no_by_hand() -> None:
    found = yes_no(18, 20, 4, 20)
    h, f = 18.5 / 21, 4.5 / 21
    assert found.d_prime == pytest.approx(stats.norm.ppf(h) - stats.norm.ppf(f))
    assert found.criterion == pytest.approx(-(stats.norm.ppf(h) + stats.norm.ppf(f)) / 2)
    assert np.isfinite(yes_no(20, 20, 0, 20).d_prime)
    assert two_afc(18, 20, 4, 20).d_prime == pytest.approx(found.d_prime / np.sqrt(2))
    with pytest.raises(LimenError, match="hits: given 21 of 20"):
        yes_no(21, 20, 0, 20)


def test_the_standard_error_of_d_prime_is_that_of_repeated_experiments() -> None:
    draws = np.random.default_rng(3)
    made = [
        yes_no(h, 200, f, 200).d_prime
        for h, f in zip(draws.binomial(200, 0.8, 2000), draws.binomial(200, 0.3, 2000), strict=True)
    ]
    assert yes_no(160, 200, 60, 200).standard_error == pytest.approx(np.std(made), rel=0.06)


@pytest.mark.parametrize("m", [2, 3, 4, 8])
def test_accuracy_of_a_simulated_observer(m: int) -> None:
    draws = np.random.default_rng(m)
    evidence = draws.normal(size=(200_000, m))
    evidence[:, 0] += 1.2
    assert m_afc_accuracy(1.2, m) == pytest.approx((evidence.argmax(axis=1) == 0).mean(), abs=4e-3)


def test_two_alternatives_have_a_closed_form() -> None:
    assert m_afc_accuracy(1.0, 2) == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=1e-9)
    found = m_afc(799, 1000, 2)
    assert found.d_prime == pytest.approx(np.sqrt(2) * stats.norm.ppf(799.5 / 1001), abs=1e-6)
    assert np.isnan(m_afc(10, 100, 4).d_prime)
    assert "below chance" in m_afc(10, 100, 4).note


@pytest.mark.filterwarnings("ignore:The Forced link function")
def test_a_psychometric_function_without_lapses_is_a_generalised_linear_model() -> None:
    class Forced(sm.families.links.Link):
        def __call__(self, p):
            return stats.norm.ppf((np.clip(p, 0.5 + 1e-9, 1 - 1e-9) - 0.5) / 0.5)

        def inverse(self, z):
            return 0.5 + 0.5 * stats.norm.cdf(z)

        def deriv(self, p):
            return 1 / (0.5 * stats.norm.pdf(self(p)))

    x, n = np.linspace(-2, 2, 7), np.full(7, 60)
    y = np.array([31, 33, 38, 44, 52, 57, 59])
    theirs = sm.GLM(
        np.column_stack([y, n - y]), sm.add_constant(x), family=sm.families.Binomial(link=Forced(), check_link=False)
    ).fit(tol=1e-12)
    ours = psychometric_function(x, y, n, lapses=False, resamples=100)
    assert (ours.intercept, ours.slope) == pytest.approx(theirs.params, abs=5e-5)
    assert ours.errors == pytest.approx(theirs.bse, rel=5e-4)
    assert ours.deviance == pytest.approx(theirs.deviance, abs=1e-6)
    assert 0.05 < ours.deviance_p <= 1


def test_a_planted_threshold_and_lapse_rate_are_found() -> None:
    draws = np.random.default_rng(4)
    x, n = np.linspace(-1, 3, 9), np.full(9, 40_000)
    p = 0.25 + (1 - 0.25 - 0.03) * stats.norm.cdf(-1 + 1.6 * x)
    found = psychometric_function(x, draws.binomial(n, p), n, alternatives=4, resamples=20)
    assert (found.intercept, found.slope, found.lapse) == pytest.approx((-1, 1.6, 0.03), abs=0.08)
    at, error = found.threshold(0.6)
    assert at == pytest.approx((stats.norm.ppf(0.35 / 0.72) + 1) / 1.6, abs=3 * error)
    with pytest.raises(LimenError, match="given accuracy 0.2"):
        found.threshold(0.2)


def method_scores(seed: int = 0, datasets: int = 30) -> pd.DataFrame:
    """Two good methods and two poor ones."""
    noise = np.random.default_rng(seed).normal(size=(datasets, 4))
    return pd.DataFrame(noise + np.array([2.0, 1.9, 0.0, 0.1]), columns=list("abcd"))


@pytest.mark.parametrize("groups", ["wilcoxon", "nemenyi"])
def test_methods_that_differ_are_told_apart(groups: str) -> None:
    found = critical_difference(method_scores(), groups=groups)
    assert {frozenset(clique) for clique in found.cliques} == {frozenset("ab"), frozenset("cd")}
    assert found.chi2 == pytest.approx(stats.friedmanchisquare(*method_scores().to_numpy().T).statistic)
    assert found.f_p < 0.001


def test_friedman_is_corrected_for_ties() -> None:
    tied = method_scores(1).round()
    found = critical_difference(tied)
    assert found.chi2 == pytest.approx(stats.friedmanchisquare(*tied.to_numpy().T).statistic)
    assert found.chi2_plain < found.chi2


def test_a_published_critical_difference() -> None:
    """Demsar 2006: four classifiers on 14 data sets, CD = 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25."""
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(14, 4)), columns=list("abcd"))
    assert critical_difference(table, groups="nemenyi").difference == pytest.approx(1.25, abs=5e-3)


def test_few_data_sets_give_ranks_alone() -> None:
    found = critical_difference(method_scores().head(5))
    assert found.cliques == ()
    assert "ranks alone" in found.note
    with pytest.raises(LimenError, match="nothing missing"):
        critical_difference(method_scores().where(method_scores() > 0))


def made_choices(seed: int, strengths: dict[str, float], n: int, tie: float = 0.0, order: float = 0.0) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    names = list(strengths)
    rows = []
    for index in range(n):
        one, other = draws.choice(names, 2, replace=False)
        gap = strengths[one] - strengths[other] + order
        weights = np.array([np.exp(gap / 2), np.exp(-gap / 2), tie])
        outcome = draws.choice(3, p=weights / weights.sum())
        rows.append({"first": one, "second": other, "winner": [one, other, None][outcome], "participant": index % 40})
    return pd.DataFrame(rows)


def test_planted_strengths_are_found_with_ties_and_an_order_effect() -> None:
    truth = {"a": 0.0, "b": 0.8, "c": -0.5}
    choices = made_choices(0, truth, 6000, tie=0.7, order=0.3)
    found = bradley_terry(choices, order_effect=True, cluster="participant")
    for name, value in truth.items():
        assert found.table.loc[name, "strength"] == pytest.approx(value, abs=0.12)
    assert found.tie == pytest.approx(0.7, abs=0.06)
    assert found.order_effect[0] == pytest.approx(0.3, abs=0.1)
    assert found.clusters == 40
    assert list(found.table.index) == ["b", "a", "c"]
    assert (found.table["wins"] + found.table["losses"] + found.table["ties"]).sum() == 12_000


def test_strengths_without_ties_are_a_logistic_regression() -> None:
    choices = made_choices(1, {"a": 0.0, "b": 0.5, "c": 1.0, "d": -0.3}, 500)
    names = ["b", "c", "d"]
    design = np.column_stack([(choices["first"] == n).astype(float) - (choices["second"] == n) for n in names])
    model = sm.GLM((choices["winner"] == choices["first"]).astype(float), design, family=sm.families.Binomial())
    theirs = model.fit(
        cov_type="cluster", cov_kwds={"groups": choices["participant"].to_numpy(), "use_correction": False}
    )
    ours = bradley_terry(choices, cluster="participant")
    assert ours.table.loc[names, "strength"].to_numpy() == pytest.approx(theirs.params.to_numpy(), abs=1e-5)
    assert ours.table.loc[names, "standard_error"].to_numpy() == pytest.approx(
        theirs.bse.to_numpy() * np.sqrt(40 / 39), rel=1e-3
    )
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", "a"), ("a", "c", "a"), ("b", "c", "b"), ("b", "c", "c")], "a never lose"),
        ([("a", "b", "c")], "winner that was not shown"),
        ([("a", "a", "a")], "same alternative twice"),
    ],
)
def test_choices_that_cannot_be_ranked_are_refused(rows: list[tuple[str, str, str]], message: str) -> None:
    with pytest.raises(LimenError, match=message):
        bradley_terry(pd.DataFrame(rows, columns=["first", "second", "winner"]))
