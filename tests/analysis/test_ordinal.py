"""Ratings: the cumulative model equals statsmodels', superiority its pairs, planted effects come back, nothing crashes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.miscmodels.ordinal_model import OrderedModel

from analysis.measures.clustered import clustered_mean, superiority
from analysis.measures.cumulative import cumulative_logit
from analysis.models.ordinal import ordinal
from bench.registry import LimenError


def simulate(
    seed: int = 0, *, people: int = 40, items: int = 10, effect: float = 1.0, within: bool = False
) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    own, ease = draws.normal(0, 0.7, people), draws.normal(0, 0.5, items)
    rows = [
        (f"p{p}", f"i{i}", name, own[p] + ease[i] + effect * (name == "maps"))
        for p in range(people)
        for i in range(items)
        for k, name in enumerate(("baseline", "maps"))
        if (within and (i + p) % 2 == k) or (not within and p % 2 == k)
    ]
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "condition", "latent"])
    rating = 1 + np.digitize(table.pop("latent") + draws.logistic(size=len(table)), [-1, 0, 0.8, 2])
    return table.assign(rating=rating.astype(float))


def test_the_cumulative_model_equals_statsmodels_with_clusters() -> None:
    data = simulate(1)
    x = pd.DataFrame({"maps": (data["condition"] == "maps").astype(float), "odd": data.index % 3 * 1.0})
    people = data["participant_id"].str[1:].astype(int).to_numpy()
    found = cumulative_logit(x, data["rating"].to_numpy(), [people])
    theirs = OrderedModel(data["rating"].to_numpy(), x, distr="logit").fit(
        method="bfgs", disp=0, gtol=1e-9, cov_type="cluster", cov_kwds={"groups": people}
    )
    assert list(found.effects) == pytest.approx(list(theirs.params[:2]), abs=1e-5)
    assert list(found.errors) == pytest.approx(list(theirs.bse[:2]), rel=1e-4)
    assert found.log_likelihood == pytest.approx(theirs.llf, abs=1e-7)
    steps = np.concatenate([theirs.params.iloc[2:3], np.exp(theirs.params.iloc[3:])])
    assert list(found.thresholds) == pytest.approx(list(np.cumsum(steps)), abs=1e-4)
    assert found.shares(x.to_numpy()).sum(axis=1) == pytest.approx(1.0)


def test_two_levels_are_a_logistic_regression() -> None:
    from analysis.models.cluster_glm import fit_logistic

    data = simulate(2)
    x = pd.DataFrame({"maps": (data["condition"] == "maps").astype(float)})
    high = (data["rating"] > 3).to_numpy(dtype=float)
    found = cumulative_logit(x, high, [data["participant_id"].to_numpy(), data["item_id"].to_numpy()])
    plain = fit_logistic(
        x.assign(one=1.0)[["one", "maps"]], high, data["participant_id"].to_numpy(), data["item_id"].to_numpy()
    )
    assert found.effects["maps"] == pytest.approx(plain.coefficients[1], abs=1e-6)
    assert found.errors["maps"] == pytest.approx(float(np.sqrt(plain.covariance[1, 1])), rel=1e-4)


def test_superiority_is_the_share_of_pairs_and_independent_answers_have_brunner_munzels_error() -> None:
    draws = np.random.default_rng(3)
    a, b = draws.integers(1, 6, 30).astype(float), draws.integers(1, 5, 25).astype(float)
    found = superiority(a, b, np.arange(30), np.arange(100, 125))
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(a, b)]
    assert found.value == pytest.approx(np.mean(pairs))
    test = stats.brunnermunzel(b, a)
    assert (found.value - 0.5) / found.standard_error == pytest.approx(test.statistic, rel=1e-9)
    assert 2 * stats.t.sf(abs(test.statistic), found.df) == pytest.approx(test.pvalue, rel=1e-6)


def test_people_on_both_sides_are_counted_as_one_draw() -> None:
    """The jackknife over people is another road to the same error."""
    data = simulate(4, within=True)
    parts = [data[data["condition"] == name] for name in ("maps", "baseline")]
    found = superiority(*(part["rating"] for part in parts), *(part["participant_id"] for part in parts))
    people = data["participant_id"].unique()
    left = []
    for name in people:
        kept = [part[part["participant_id"] != name] for part in parts]
        left.append(superiority(*(p["rating"] for p in kept), *(p["participant_id"] for p in kept)).value)
    jackknife = math.sqrt((len(left) - 1) / len(left) * float(((np.array(left) - np.mean(left)) ** 2).sum()))
    assert found.standard_error == pytest.approx(jackknife, rel=0.03)


def test_a_mean_of_one_answer_a_cluster_has_the_usual_error() -> None:
    values = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    found = clustered_mean(values, np.arange(5))
    assert found.standard_error == pytest.approx(stats.sem(values))
    assert clustered_mean(np.repeat(values, 7), np.repeat(np.arange(5), 7)).standard_error == pytest.approx(
        stats.sem(values)
    )


@pytest.mark.parametrize("within", [False, True])
def test_planted_effects_show_and_shares_add_up(within: bool) -> None:
    result = ordinal(simulate(5, within=within))
    assert result.get("odds ratio", "maps - baseline").low > 1
    assert result.get("probability of superiority", "maps over baseline").low > 0.5
    shares = [item for item in result.of("share of answers") if item.extra["level"] == "maps"]
    assert sum(item.value for item in shares) == pytest.approx(1.0)
    assert all(item.low < item.value < item.high for item in shares)
    assert result.of("term")[0].p < 0.05
    assert "clustered by 40 participants and 10 items" in result.method


def test_levels_that_do_not_overlap_have_superiority_without_an_odds_ratio() -> None:
    data = simulate(6).assign(rating=lambda t: np.where(t["condition"] == "maps", 4.0, 1.0) + (t.index // 10) % 2)
    result = ordinal(data)
    assert result.flags == ("separation",)
    assert result.of("odds ratio") == ()
    assert result.of("probability of superiority")[0].value == 1.0


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda t: t.assign(rating=np.nan), "undefined"),
        (lambda t: t.assign(rating=np.arange(len(t)) * 1.0), "undefined"),
        (lambda t: t.assign(participant_id="one"), "one_participant"),
    ],
)
def test_what_is_no_comparison_of_ratings_is_flagged(change, flag) -> None:
    result = ordinal(change(simulate(7)))
    assert flag in result.all_flags()
    assert result.of("odds ratio") == ()


def test_one_condition_has_shares_alone_and_a_missing_column_is_one_sentence() -> None:
    data = simulate(8)
    assert ordinal(data[data["condition"] == "maps"]).of("odds ratio") == ()
    with pytest.raises(LimenError, match="column 'style' is missing"):
        ordinal(data, factor="style")
    with pytest.raises(LimenError, match="2 to 11 different numbers"):
        ordinal(data, answer="participant_id")
