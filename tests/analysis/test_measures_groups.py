"""Comparisons of groups and the mixed analysis of variance: beside scipy and statsmodels, by hand, and degenerate input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from analysis.measures.comparisons import difference, equivalence, kruskal_conover
from analysis.measures.mixed_anova import mixed_anova
from bench.registry import LimenError


def people(seed: int = 0, sizes: tuple[int, ...] = (9, 12), effect: float = 0.0) -> pd.DataFrame:
    """Three sessions of each person; the groups may differ by `effect`, and the last group learns."""
    draws = np.random.default_rng(seed)
    rows = []
    for group, size in enumerate(sizes):
        for person in range(size):
            own = draws.normal()
            for session in range(3):
                value = own + effect * group + 0.3 * session * (group == len(sizes) - 1) + 0.5 * draws.normal()
                rows.append({"id": f"{group}-{person}", "group": "abc"[group], "session": session, "y": value})
    return pd.DataFrame(rows)


def fit(data: pd.DataFrame):
    return mixed_anova(data, value="y", participant="id", between="group", within="session")


def test_the_between_effect_is_a_one_way_anova_of_participant_means() -> None:
    data = people(sizes=(7, 9, 11), effect=0.5)
    means = data.groupby(["id", "group"], as_index=False)["y"].mean()
    one_way = sm.stats.anova_lm(smf.ols("y ~ C(group, Sum)", means).fit(), typ=3)
    row = fit(data).table.loc["between"]
    assert row["F"] == pytest.approx(one_way.loc["C(group, Sum)", "F"])
    assert (row["df1"], row["df2"]) == (2, 24)
    assert np.isnan(row["p_gg"])


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
def test_the_within_effects_are_those_of_a_model_with_a_term_for_each_participant() -> None:
    """Unequal groups, Type III: the participant effects are nested in the groups."""
    data = people(1, (6, 10))
    coded = data.assign(session=data["session"].astype(str))
    whole = smf.ols("y ~ C(id) + C(session, Sum) * C(group, Sum)", coded).fit()
    rest = whole.ssr
    no_interaction = smf.ols("y ~ C(id) + C(session, Sum)", coded).fit().ssr
    row = fit(data).table.loc["interaction"]
    assert row["SS"] == pytest.approx(no_interaction - rest)
    assert row["F"] == pytest.approx((no_interaction - rest) / 2 / (rest / (2 * 14)))
    assert row["partial_eta2"] == pytest.approx((no_interaction - rest) / no_interaction)


def test_equal_groups_add_up_to_the_total() -> None:
    data = people(2, (10, 10))
    table = fit(data).table
    total = ((data["y"] - data["y"].mean()) ** 2).sum()
    shares = table["SS"] / table["eta2"]
    assert shares.to_numpy() == pytest.approx(np.full(3, total))
    assert (table["eta2"] <= table["generalised_eta2"] + 1e-12).all()
    assert (table["generalised_eta2"] <= table["partial_eta2"] + 1e-12).all()


def test_without_group_differences_the_within_effect_is_near_that_of_a_repeated_measures_anova() -> None:
    data = people(3, (40, 40))
    data["y"] += 0.3 * data["session"] * (data["group"] == "a")
    repeated = AnovaRM(data, "y", "id", within=["session"]).fit().anova_table
    assert fit(data).table.loc["within", "F"] == pytest.approx(repeated["F Value"].iloc[0], rel=0.1)


def test_sphericity_is_corrected() -> None:
    draws = np.random.default_rng(4)
    rows = []
    for person in range(30):
        own = draws.normal()
        for session, noise in enumerate((0.1, 0.1, 3.0)):
            rows.append({"id": person, "group": person % 2, "session": session, "y": own + noise * draws.normal()})
    found = fit(pd.DataFrame(rows))
    assert 0.5 <= found.greenhouse_geisser < 0.6
    assert found.greenhouse_geisser <= found.huynh_feldt <= 1
    within = found.table.loc["within"]
    assert within["p_gg"] >= within["p"] or within["F"] < 1


def test_incomplete_participants_are_left_out_and_counted() -> None:
    data = people(5)
    found = fit(data.drop(index=data.index[0]))
    assert found.left_out == 1
    assert found.participants == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(group=np.arange(len(d)) % 2), "is in 2 groups"),
        (lambda d: d.assign(session=0), "given 1 levels"),
        (lambda d: d.assign(group="a"), "two or more groups"),
        (lambda d: d.drop(columns="y"), "column 'y' missing"),
    ],
)
def test_data_that_have_no_mixed_anova_are_refused(change, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        fit(change(people()))


@pytest.mark.long
def test_false_positives_of_every_effect_are_nominal() -> None:
    p = np.array(
        [
            fit(people(seed, (8, 8)).assign(y=np.random.default_rng(seed + 500).normal(size=48))).table["p"]
            for seed in range(300)
        ]
    )
    for column in p.T.astype(float):
        assert stats.binomtest(int((column < 0.05).sum()), 300, 0.05).pvalue > 0.001


def test_a_difference_of_two_groups_beside_scipy() -> None:
    draws = np.random.default_rng(6)
    a, b = draws.normal(0.7, 1, 30), draws.normal(0, 2, 45)
    found = difference(a, b)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert (found.t, found.df, found.p) == pytest.approx((welch.statistic, welch.df, welch.pvalue))
    pooled = np.sqrt((29 * a.var(ddof=1) + 44 * b.var(ddof=1)) / 73)
    assert found.d == pytest.approx((a.mean() - b.mean()) / pooled)
    assert found.g == pytest.approx(found.d * (1 - 3 / 291))
    assert found.cliff == pytest.approx((np.sign(a[:, None] - b[None, :])).mean())
    assert found.brunner_munzel_p == pytest.approx(stats.brunnermunzel(a, b).pvalue, rel=1e-6)
    assert found.cliff_low < found.cliff < found.cliff_high


def test_conover_of_two_groups_and_of_a_shifted_third() -> None:
    draws = np.random.default_rng(7)
    groups = {"a": draws.normal(size=25), "b": draws.normal(size=25), "c": draws.normal(size=25) + 3}
    found = kruskal_conover(groups)
    told = found.pairs.set_index(["first", "second"])["p_holm"]
    assert told["a", "b"] > 0.05
    assert max(told["a", "c"], told["b", "c"]) < 1e-6
    assert found.h == pytest.approx(stats.kruskal(*groups.values()).statistic)


def test_conover_by_hand() -> None:
    """Two groups without ties: t from the formula of Conover and Iman."""
    a, b = np.array([1.0, 2, 5, 7]), np.array([3.0, 4, 6, 8, 9])
    found = kruskal_conover({"a": a, "b": b}).pairs.iloc[0]
    ranks = stats.rankdata(np.concatenate([a, b]))
    h = stats.kruskal(a, b).statistic
    s2 = (ranks**2).sum() / 8 - 9 * 25 * 9 / 8 / 9 * 1.0
    t = (ranks[:4].mean() - ranks[4:].mean()) / np.sqrt(s2 * (8 - h) / 7 * (1 / 4 + 1 / 5))
    assert found["t"] == pytest.approx(t)


@pytest.mark.parametrize(
    ("estimate", "error", "verdict"),
    [(0.0, 0.02, "equivalent"), (0.05, 0.01, "both"), (0.3, 0.05, "different"), (0.05, 0.2, "inconclusive")],
)
def test_equivalence_names_all_four_outcomes(estimate: float, error: float, verdict: str) -> None:
    found = equivalence(estimate, error, 100, 0.1)
    assert found.verdict == verdict
    inside = found.low_90 > -0.1 and found.high_90 < 0.1
    assert (found.p < 0.05) == inside


def test_groups_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(LimenError, match="group 'first': given 1 finite values"):
        difference(np.array([1.0, np.nan]), np.ones(3))
    with pytest.raises(LimenError, match="values that vary"):
        difference(np.ones(3), np.ones(3))
    with pytest.raises(LimenError, match="positive numbers"):
        equivalence(0.1, 0.1, 10, 0.0)
