"""ANOVA on participant means: the forced-moments fixture, statsmodels, and degenerate groups."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multicomp import pairwise_tukeyhsd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.oneway import anova_oneway

from analysis.models.anova import anova_of_means
from analysis.results import holm

METHODS = ("Baseline", "Control", "Saliency", "IntegGrad", "SmoothGrad", "GradCAM", "Occlusion", "GradInput")
MEANS = {
    "husky": (61.600, 58.567, 65.600, 71.133, 74.000, 82.467, 74.933, 65.667),
    "leaves": (75.167, 76.733, 84.767, 83.433, 85.000, 82.600, 82.600, 79.633),
    "imagenet": (59.933, 56.133, 60.033, 58.667, 55.567, 53.667, 55.433, 56.733),
}
SDS = {"husky": 14.25, "leaves": 9.73, "imagenet": 11.25}


def forced(dataset: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = {}
    for name, mean in zip(METHODS, MEANS[dataset], strict=True):
        z = rng.normal(size=30)
        groups[name] = (z - z.mean()) / z.std(ddof=1) * SDS[dataset] + mean
    return groups


@pytest.mark.parametrize(
    ("dataset", "f", "p", "eta", "omega"),
    [("husky", 9.116, 6.1e-10, 0.2157, 0.1914), ("leaves", 4.294, 1.7e-4, 0.1147, 0.0877), ("imagenet", 1.254, 0.274, 0.0365, 0.0074)],
)  # fmt: skip
def test_the_forced_moments_give_the_published_f_p_and_effect_sizes(dataset, f, p, eta, omega):
    item = anova_of_means(forced(dataset), baseline="Baseline").get("omnibus", "one-way ANOVA")
    assert item.df == (7, 232)
    assert item.statistic_value == pytest.approx(f, abs=1.5e-3)
    assert item.p == pytest.approx(p, rel=0.05)
    assert item.extra["eta_squared"] == pytest.approx(eta, abs=1e-4)
    assert item.extra["partial_eta_squared"] == pytest.approx(item.extra["eta_squared"])
    assert item.extra["omega_squared"] == pytest.approx(omega, abs=2e-4)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("husky", {"Occlusion": 0.0084, "SmoothGrad": 0.0196, "IntegGrad": 0.1645, "GradInput": 0.955, "Saliency": 0.959, "Control": 0.992}),
        ("leaves", {"SmoothGrad": 0.0030, "Saliency": 0.0042, "IntegGrad": 0.0251, "GradCAM": 0.066, "Occlusion": 0.066, "GradInput": 0.636, "Control": 0.999}),
        ("imagenet", {"GradCAM": 0.382}),
    ],
)  # fmt: skip
def test_tukey_against_the_baseline_reproduces_the_fixture(dataset, expected):
    result = anova_of_means(forced(dataset), baseline="Baseline")
    for name, p in expected.items():
        assert result.get("Tukey HSD", f"{name} - Baseline").p_adjusted == pytest.approx(
            p, abs=1.1e-3 if p > 0.05 else 1.1e-4
        )


@pytest.mark.parametrize(
    ("dataset", "significant"),
    [("husky", {"GradCAM", "Occlusion", "SmoothGrad"}), ("leaves", {"SmoothGrad", "Saliency", "IntegGrad"}), ("imagenet", set())],
)  # fmt: skip
def test_tukey_decides_as_the_paper_does(dataset, significant):
    result = anova_of_means(forced(dataset), baseline="Baseline")
    found = {
        i.extra["first"] for i in result.of("Tukey HSD") if i.extra["second"] == "Baseline" and i.p_adjusted < 0.05
    }
    assert found == significant


def uneven(seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "base": rng.normal(0.6, 0.1, 14),
        "a": rng.normal(0.7, 0.2, 22),
        "b": rng.normal(0.66, 0.05, 9),
        "c": rng.normal(0.6, 0.1, 17),
    }


def test_welch_equals_statsmodels():
    groups = uneven()
    item = anova_of_means(groups, baseline="base").get("omnibus", "Welch ANOVA")
    reference = anova_oneway(list(groups.values()), use_var="unequal", welch_correction=True)
    assert (item.statistic_value, item.p) == pytest.approx((reference.statistic, reference.pvalue), rel=1e-9)
    assert item.df == pytest.approx(reference.df)


def test_tukey_with_unequal_groups_equals_statsmodels():
    groups = uneven()
    result = anova_of_means(groups, baseline="base")
    reference = pairwise_tukeyhsd(
        np.concatenate(list(groups.values())), np.repeat(list(groups), [len(g) for g in groups.values()])
    )
    theirs = {frozenset(row[:2]): row for row in reference.summary().data[1:]}
    assert len(result.of("Tukey HSD")) == 6
    for item in result.of("Tukey HSD"):
        row = theirs[frozenset((item.extra["first"], item.extra["second"]))]
        sign = 1 if row[1] == item.extra["first"] else -1
        assert item.value == pytest.approx(sign * row[2], abs=1e-4)
        assert item.p_adjusted == pytest.approx(row[3], abs=1.1e-4)


def test_tukey_intervals_hold_the_difference_and_agree_with_p():
    for item in anova_of_means(uneven(), baseline="base").of("Tukey HSD"):
        assert item.low < item.value < item.high
        assert (item.low > 0 or item.high < 0) == (item.p_adjusted < 0.05)


def test_dunnett_is_between_the_unadjusted_and_the_tukey_p_and_repeats_with_its_seed():
    groups = forced("leaves")
    first, again = (anova_of_means(groups, baseline="Baseline", seed=3) for _ in range(2))
    for item in first.of("Dunnett"):
        assert item.p_adjusted == again.get("Dunnett", item.label).p_adjusted
        assert item.p_adjusted <= first.get("Tukey HSD", item.label).p_adjusted + 1e-3


def test_holm_equals_statsmodels_and_skips_what_was_not_tested():
    p = [0.01, 0.04, 0.03, 0.2, 0.001]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.01, float("nan"), 0.04])[::2] == pytest.approx([0.02, 0.04])


def test_a_group_of_one_is_left_out_and_flagged():
    result = anova_of_means({**uneven(), "lonely": np.array([0.9])}, baseline="base")
    assert "one_participant" in result.flags
    assert not [item for item in result.estimates if "lonely" in item.label]


def test_groups_without_any_spread_give_no_number():
    result = anova_of_means({"base": np.ones(5), "a": np.ones(5)}, baseline="base")
    assert result.estimates == ()
    assert "no_spread" in result.flags
