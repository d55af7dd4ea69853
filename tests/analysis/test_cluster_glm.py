"""The clustered logistic regression: reference fits, statsmodels, planted effects, and fits that must fail."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import special, stats

from analysis.models.cluster_glm import cluster_glm, fit_logistic
from analysis.separation import exact_interval

DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "crossed_2afc_sim_reference.json").read_text())["glm"]


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return pd.read_csv(DATA / "crossed_2afc_sim.csv")


def design_of(trials: pd.DataFrame) -> pd.DataFrame:
    design = pd.DataFrame({"(Intercept)": 1.0, "condition": trials["condition"]})
    for level in (1, 2):
        design[f"layer{level}"] = (trials["layer"] == level).astype(float)
    for level in (1, 2):
        design[f"condition:layer{level}"] = design["condition"] * design[f"layer{level}"]
    return design


@pytest.mark.parametrize(
    ("key", "groupings"), [("se_cluster_two_way", ("pid", "item")), ("se_cluster_pid", ("pid",)), ("se_cluster_item", ("item",))]
)  # fmt: skip
def test_coefficients_and_clustered_errors_match_the_reference_fit(trials, key, groupings):
    design = design_of(trials)
    fit = fit_logistic(design, trials["correct"].to_numpy(), *(trials[name].to_numpy() for name in groupings))
    n, k = design.shape
    for name, beta, error in zip(fit.names, fit.coefficients, fit.standard_errors, strict=True):
        assert beta == pytest.approx(REFERENCE["coef"][name]["estimate"], abs=1e-8)
        assert error == pytest.approx(REFERENCE[key][name] * math.sqrt((n - 1) / (n - k)), rel=1e-8)


def test_two_way_errors_and_df_equal_statsmodels(trials):
    design, y = design_of(trials), trials["correct"].to_numpy()
    fit = fit_logistic(design, y, trials["pid"].to_numpy(), trials["item"].to_numpy())
    model = sm.GLM(y, design.to_numpy(), family=sm.families.Binomial())
    theirs = model.fit(
        tol=1e-12, cov_type="cluster", cov_kwds={"groups": trials[["pid", "item"]].to_numpy()}, use_t=True
    )
    assert fit.coefficients == pytest.approx(theirs.params, abs=1e-9)
    assert fit.standard_errors == pytest.approx(theirs.bse, rel=1e-8)
    assert fit.df == 23


def test_names_of_clusters_may_be_text_with_unused_numbers(trials):
    design, y = design_of(trials), trials["correct"].to_numpy()
    numbers = fit_logistic(design, y, trials["pid"].to_numpy(), trials["item"].to_numpy())
    text = fit_logistic(
        design, y, ("p" + trials["pid"].astype(str) * 3).to_numpy(), (trials["item"] * 7 + 2).astype(str).to_numpy()
    )
    assert np.array_equal(numbers.covariance, text.covariance)


def study(effects: dict[str, float], *, people: int = 60, items: int = 60, seed: int = 0) -> pd.DataFrame:
    """Simulate people x items with both kinds of variance and a within-item condition."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.7, items)
    rows = []
    for name, effect in effects.items():
        for person in range(people):
            skill = rng.normal(0, 0.6)
            for item in rng.choice(items, 21, replace=False):
                p = special.expit(0.4 + effect + skill + images[item])
                rows.append({"participant_id": f"{name}{person}", "item_id": f"i{item}", "condition": name,
                             "session": 1 + int(item) % 3, "correct": float(rng.random() < p)})  # fmt: skip
    return pd.DataFrame(rows)


def marginal(effect: float) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return float(special.expit(0.4 + effect + math.sqrt(0.6**2 + 0.7**2) * nodes) @ weights / weights.sum())


def test_a_planted_effect_is_recovered_as_an_accuracy_difference():
    result = cluster_glm(study({"baseline": 0.0, "a": 1.0, "b": 0.0}))
    truth = marginal(1.0) - marginal(0.0)
    item = result.get("accuracy difference", "a")
    assert item.low < truth < item.high
    assert item.p_adjusted < 0.001
    assert result.get("accuracy difference", "b").low < 0 < result.get("accuracy difference", "b").high


def test_the_accuracy_difference_has_the_error_of_a_numerical_delta_method():
    frame = study({"baseline": 0.0, "a": 0.6}, people=20, items=30)
    result = cluster_glm(frame)
    design = pd.DataFrame({"one": 1.0, "a": (frame["condition"] == "a").astype(float)})
    for session in (2, 3):
        column = (frame["session"] == session).astype(float)
        design[f"s{session}"] = column - column.mean()
    fit = fit_logistic(
        design, frame["correct"].to_numpy(), frame["participant_id"].to_numpy(), frame["item_id"].to_numpy()
    )
    cells = design.drop_duplicates().to_numpy()

    def gap(beta: np.ndarray) -> float:
        p = special.expit(cells @ beta)
        return float(p[cells[:, 1] == 1].mean() - p[cells[:, 1] == 0].mean())

    slope = np.array(
        [(gap(fit.coefficients + step) - gap(fit.coefficients - step)) / 2e-6 for step in 1e-6 * np.eye(4)]
    )
    item = result.get("accuracy difference", "a")
    assert item.value == pytest.approx(gap(fit.coefficients))
    assert item.extra["standard_error"] == pytest.approx(math.sqrt(slope @ fit.covariance @ slope), rel=1e-6)


def test_the_odds_ratio_and_its_p_are_those_of_the_coefficient():
    item = cluster_glm(study({"baseline": 0.0, "a": 0.6}, people=30)).get("odds ratio", "a")
    assert math.log(item.value) == pytest.approx(item.extra["log_odds"])
    assert item.p == pytest.approx(
        2 * stats.t.sf(abs(item.extra["log_odds"] / item.extra["log_odds_standard_error"]), item.df[0])
    )


def test_a_condition_answered_all_right_is_set_aside_with_an_exact_interval():
    frame = study({"baseline": 0.0, "a": 0.5, "perfect": 0.0}, people=12)
    frame.loc[frame["condition"] == "perfect", "correct"] = 1.0
    result = cluster_glm(frame)
    assert "separation" in result.all_flags()
    assert {item.label for item in result.of("odds ratio")} == {"a"}
    item = result.get("accuracy", "perfect")
    assert (item.low, item.high) == pytest.approx((0.025 ** (1 / item.n), 1.0))
    assert math.isnan(item.p)


def test_a_baseline_answered_all_wrong_gives_no_contrast():
    frame = study({"baseline": 0.0, "a": 0.5}, people=12)
    frame.loc[frame["condition"] == "baseline", "correct"] = 0.0
    result = cluster_glm(frame)
    assert result.of("odds ratio") == ()
    assert "separation" in result.all_flags()


def test_a_separated_design_gives_neither_estimate_nor_error():
    design = pd.DataFrame({"one": 1.0, "x": np.repeat([0.0, 1.0], 20)})
    fit = fit_logistic(design, np.repeat([0.0, 1.0], 20), np.arange(40) % 10, np.arange(40) % 8)
    assert not fit.converged
    assert np.isnan(fit.coefficients).all()
    assert np.isnan(fit.standard_errors).all()


def test_a_rank_deficient_design_gives_neither_estimate_nor_error():
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"one": np.ones(60), "twice": np.full(60, 2.0)})
    fit = fit_logistic(design, rng.integers(0, 2, 60).astype(float), np.arange(60) % 10, np.arange(60) % 8)
    assert not fit.converged


def test_a_session_answered_all_right_yields_no_p_value():
    frame = study({"baseline": 0.0, "a": 0.5}, people=12)
    frame.loc[frame["session"] == 3, "correct"] = 1.0
    result = cluster_glm(frame)
    assert not [item for item in result.estimates if not math.isnan(item.p)]
    assert "not_converged" in result.all_flags()


def test_one_item_gives_no_number():
    frame = study({"baseline": 0.0, "a": 0.5}, people=12).assign(item_id="only")
    result = cluster_glm(frame)
    assert result.estimates == ()
    assert result.flags == ("undefined",)


def test_the_exact_interval_inverts_the_binomial_test():
    low, high = exact_interval(7, 20)
    assert stats.binom.sf(6, 20, low) == pytest.approx(0.025)
    assert stats.binom.cdf(7, 20, high) == pytest.approx(0.025)
