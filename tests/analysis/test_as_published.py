"""The classical block: each number is the outside library's, within or between people, with its effect sizes named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from statsmodels.stats.anova import AnovaRM

from analysis.measures.mixed_anova import repeated_anova
from analysis.models.as_published import as_published
from analysis.models.utility import utility
from bench.registry import LimenError


def simulate(seed: int = 0, *, people: int = 24, items: int = 12, within: bool = False) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    own, ease = draws.normal(0, 0.5, people), draws.normal(0, 0.5, items)
    rows = [
        (f"p{p}", f"i{i}", name, 1 + i % 3, 4 * (1 + i % 3), 0.5 + own[p] + ease[i] + 0.8 * (name == "maps"))
        for p in range(people)
        for i in range(items)
        for k, name in enumerate(("baseline", "control", "maps"))
        if within or p % 3 == k
    ]
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "session", "k_seen", "logit"])
    right = draws.random(len(table)) < special.expit(table.pop("logit"))
    seen = draws.choice(["cat", "dog"], len(table))
    return table.assign(correct=right * 1.0, expected=seen, rt_ms=draws.lognormal(7, 0.4, len(table)),
                        response=np.where(right, seen, np.where(seen == "cat", "dog", "cat")))  # fmt: skip


def test_between_people_the_tests_are_those_of_scipy() -> None:
    data = simulate()
    result = as_published(data, chance=0.5)
    means = data.groupby(["participant_id", "condition"])["correct"].mean().unstack()
    groups = [means[name].dropna() for name in ("baseline", "control", "maps")]
    assert result.get("omnibus", "one-way ANOVA").p == pytest.approx(stats.f_oneway(*groups).pvalue)
    assert result.get("Kruskal-Wallis", "condition").p == pytest.approx(stats.kruskal(*groups).pvalue)
    one = result.get("one-sample t", "maps")
    assert one.p == pytest.approx(stats.ttest_1samp(groups[2], 0.5).pvalue)
    assert one.extra["null"] == 0.5
    answers = data.loc[data["condition"] == "maps", "correct"]
    assert result.get("binomial", "maps").p == pytest.approx(stats.binomtest(int(answers.sum()), len(answers)).pvalue)
    gap = result.get("t test", "maps - baseline")
    assert gap.p == pytest.approx(stats.ttest_ind(groups[2], groups[0], equal_var=False).pvalue)
    assert result.get("Cliff's delta", "maps - baseline").extra["mann_whitney_p"] == pytest.approx(
        stats.mannwhitneyu(groups[2], groups[0]).pvalue
    )
    mixed = result.get("mixed ANOVA", "condition x session")
    assert mixed.df == (4.0, 42.0)
    assert mixed.extra["partial_eta2"] == pytest.approx(4 * mixed.statistic_value / (4 * mixed.statistic_value + 42))
    assert set(result.facts["denominators"]) < set(mixed.extra)


def test_odds_ratios_are_of_the_table_of_answers() -> None:
    data = simulate(1)
    counts = pd.crosstab(data["condition"], data["correct"])
    odds = counts[1.0] / counts[0.0]
    found = as_published(data).get("odds ratio, answers as independent", "maps - baseline")
    assert found.value == pytest.approx(odds["maps"] / odds["baseline"], rel=1e-6)
    error = np.sqrt((1 / counts.loc[["maps", "baseline"]]).to_numpy().sum())
    assert np.log(found.high / found.value) == pytest.approx(1.959964 * error, rel=1e-4)


def test_kappa_of_two_balanced_answers_is_twice_the_accuracy_less_one() -> None:
    data = simulate(2)
    mine = data[data["condition"] == "maps"]
    agree = (mine["response"] == mine["expected"]).mean()
    p, q = ((mine[name] == "cat").mean() for name in ("response", "expected"))
    chance = p * q + (1 - p) * (1 - q)
    assert as_published(data).get("Cohen's kappa", "maps").value == pytest.approx((agree - chance) / (1 - chance))


def test_correlations_of_people_name_their_n() -> None:
    data = simulate(3)
    people = data.groupby("participant_id").agg(a=("correct", "mean"), t=("rt_ms", "median"))
    result = as_published(data)
    for kind, rule in (("Pearson", stats.pearsonr), ("Spearman", stats.spearmanr), ("Kendall", stats.kendalltau)):
        item = result.of(f"{kind} correlation")[0]
        assert (item.value, item.p) == pytest.approx(tuple(rule(people["a"], people["t"])))
        assert item.n == 24
        assert item.low < item.value < item.high
    bounds = stats.pearsonr(people["a"], people["t"]).confidence_interval()
    assert result.of("Pearson correlation")[0].low == pytest.approx(bounds.low)


def test_equivalence_names_its_margin_and_its_verdict() -> None:
    wide = as_published(simulate(4), margin=0.9).get("equivalence (TOST)", "control - baseline")
    assert wide.extra["verdict"] in ("equivalent", "both")
    narrow = as_published(simulate(4), margin=0.001).get("equivalence (TOST)", "control - baseline")
    assert narrow.extra["verdict"] in ("inconclusive", "different")
    assert narrow.level == 0.9


def test_nested_models_are_compared_by_aic_and_utility_by_three_formulas() -> None:
    data = simulate(5)
    result = as_published(data)
    table = pd.DataFrame(result.facts["models"])
    assert list(table["model"]) == ["null", "condition", "condition + session", "condition x session"]
    assert (table["aic"] + 2 * table["log_likelihood"] == 2 * table["parameters"]).all()
    test = result.get("likelihood ratio", "condition against null")
    assert test.statistic_value == pytest.approx(2 * (table["log_likelihood"][1] - table["log_likelihood"][0]))
    assert test.df == (2.0,)
    for item in utility(data, baseline="baseline").estimates:
        assert item in result.estimates


def test_people_who_met_all_conditions_are_compared_within_themselves() -> None:
    data = simulate(6, within=True)
    result = as_published(data)
    theirs = AnovaRM(data, "correct", "participant_id", within=["condition"], aggregate_func="mean").fit().anova_table
    found = result.get("repeated-measures ANOVA", "condition")
    assert found.statistic_value == pytest.approx(theirs["F Value"].iloc[0])
    assert found.p == pytest.approx(theirs["Pr > F"].iloc[0])
    means = data.groupby(["participant_id", "condition"])["correct"].mean().unstack()
    gap = means["maps"] - means["baseline"]
    assert result.get("d_z", "maps - baseline").value == pytest.approx(gap.mean() / gap.std())
    assert result.get("t test", "maps - baseline").p == pytest.approx(stats.ttest_1samp(gap, 0).pvalue)
    assert result.of("Tukey HSD") == ()


def test_sphericity_of_two_levels_is_perfect_and_few_people_are_one_sentence() -> None:
    data = simulate(7, within=True)
    two = repeated_anova(
        data[data["condition"] != "maps"], value="correct", participant="participant_id", within="condition"
    )
    assert two.greenhouse_geisser == pytest.approx(1.0)
    with pytest.raises(LimenError, match="2 complete participants"):
        repeated_anova(
            simulate(7, people=2, within=True), value="correct", participant="participant_id", within="condition"
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[t["participant_id"] == "p1"],
        lambda t: t.assign(correct=1.0),
        lambda t: t[t["condition"] == "maps"],
        lambda t: t[t["participant_id"].isin(["p0", "p1", "p2"])],
        lambda t: t.drop(columns=["session", "rt_ms", "response"]),
    ],
)
def test_poor_tables_give_what_they_can_without_a_crash(change) -> None:
    result = as_published(change(simulate(8)), chance=0.5)
    assert result.name == "as_published"
    assert all(not (item.low > item.value or item.high < item.value) for item in result.estimates)


def test_a_margin_that_is_none_is_one_sentence() -> None:
    with pytest.raises(LimenError, match="allowed is a positive difference"):
        as_published(simulate(9, people=6), margin=0)
