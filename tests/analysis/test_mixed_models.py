"""The crossed mixed model: reference fits, derivatives, invariances, planted effects, and fits that must be refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

from analysis.mixed_models import RandomTerm, fit_glmm
from analysis.mixed_models.laplace import Binomial, Laplace
from analysis.mixed_models.terms import Layout
from analysis.models.cluster_glm import cluster_glm
from analysis.models.mixed_model import flag_disagreement, mixed_model, population_accuracy, session_contrasts, unit_df
from bench.registry import LimenError

DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "crossed_2afc_sim_reference.json").read_text())


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


def terms_of(trials: pd.DataFrame, kind: str) -> list[RandomTerm]:
    pid, item, condition = (trials[name].to_numpy() for name in ("pid", "item", "condition"))
    people = RandomTerm.of("pid", pid)
    if kind == "correlated":
        return [people, RandomTerm.of("item", item, intercept=np.ones(len(trials)), condition=condition)]
    terms = [people, RandomTerm.of("item", item)]
    return terms if kind == "intercepts" else [*terms, RandomTerm.of("item", item, condition=condition)]


@pytest.mark.parametrize("kind", ["intercepts", "slope", "correlated"])
def test_a_fit_matches_glmmtmb(trials, kind):
    fit, reference = (
        fit_glmm(design_of(trials), trials["correct"].to_numpy(), terms_of(trials, kind)),
        REFERENCE["glmmTMB"][kind],
    )
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(reference["logLik"], abs=1e-6)
    assert (fit.aic, fit.bic) == pytest.approx((reference["AIC"], reference["BIC"]), abs=1e-5)
    for name, theirs in reference["coef"].items():
        assert fit.params[name] == pytest.approx(theirs["estimate"], abs=2e-5)
        assert fit.bse[name] == pytest.approx(theirs["se"], rel=1e-5)
    assert fit.covariance.to_numpy() == pytest.approx(np.array(reference["vcov_fixed"]), abs=1e-6)
    assert fit.sd(0).iloc[0] == pytest.approx(reference["vc"]["pid"]["sd"]["(Intercept)"], abs=2e-5)
    assert fit.sd(1).iloc[0] == pytest.approx(reference["vc"]["item"]["sd"]["(Intercept)"], abs=2e-5)


@pytest.mark.parametrize(
    ("dropped", "statistic"),
    [
        (("condition", "condition:layer1", "condition:layer2"), 14.5132),
        (("condition:layer1", "condition:layer2"), 3.0646),
    ],
)
def test_likelihood_ratios_of_fixed_effects_match_the_reference(trials, dropped, statistic):
    design, terms = design_of(trials), terms_of(trials, "slope")
    full = fit_glmm(design, trials["correct"].to_numpy(), terms, inference=False)
    less = fit_glmm(design.drop(columns=list(dropped)), trials["correct"].to_numpy(), terms, inference=False)
    assert 2 * (full.log_likelihood - less.log_likelihood) == pytest.approx(statistic, abs=2e-4)


def both_correlated(trials: pd.DataFrame) -> list[RandomTerm]:
    one = np.ones(len(trials))
    return [
        RandomTerm.of("pid", trials["pid"].to_numpy(), intercept=one, layer=trials["layer"].to_numpy() - 1.0),
        RandomTerm.of("item", trials["item"].to_numpy(), intercept=one, condition=trials["condition"].to_numpy()),
    ]


def point() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(0, 0.3, 6), np.array([0.5, -0.2, 0.4, 0.7, 0.3, 0.35])


def engine(trials: pd.DataFrame, eliminate: str | None = None) -> Laplace:
    n = len(trials)
    data = Binomial(design_of(trials).to_numpy(), trials["correct"].to_numpy(dtype=float), np.ones(n), np.zeros(n))
    return Laplace(data, Layout(both_correlated(trials), eliminate))


def test_the_gradient_equals_central_differences_with_correlated_slopes_on_both_factors(trials):
    model, (beta, theta) = engine(trials), point()
    _, in_beta, in_theta = model.evaluate(beta, theta)
    exact, numeric, whole = np.concatenate([in_beta, in_theta]), [], np.concatenate([beta, theta])
    for index in range(len(whole)):
        step = np.zeros(len(whole))
        step[index] = 1e-4
        sides = [model.deviance((whole + s * step)[:6], (whole + s * step)[6:]) for s in (1, -1, 2, -2)]
        numeric.append((8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / 12e-4)
    assert np.abs(exact - numeric).max() / np.abs(exact).max() < 1e-6


def test_the_deviance_is_the_same_whichever_factor_is_eliminated(trials):
    beta, theta = point()
    assert engine(trials, "pid").deviance(beta, theta) == pytest.approx(
        engine(trials, "item").deviance(beta, theta), abs=1e-8
    )


def test_the_deviance_equals_a_dense_computation(trials):
    small = trials[(trials["pid"] < 8) & (trials["item"] < 9)].reset_index(drop=True)
    model, (beta, theta) = engine(small), point()
    rows = np.column_stack(model.layout.row_values(theta))
    columns = []
    for slot, values in zip(model.layout.slots, rows.T, strict=True):
        code = pd.factorize(small["pid" if slot.term == 0 else "item"])[0]
        columns.append(np.eye(code.max() + 1)[code] * values[:, None])
    m = np.hstack(columns)
    x, y, u = design_of(small).to_numpy(), small["correct"].to_numpy(), np.zeros(m.shape[1])
    for _ in range(50):
        p = special.expit(x @ beta + m @ u)
        h = (m * (p * (1 - p))[:, None]).T @ m + np.eye(len(u))
        u = u + np.linalg.solve(h, m.T @ (y - p) - u)
    eta = x @ beta + m @ u
    p = special.expit(eta)
    h = (m * (p * (1 - p))[:, None]).T @ m + np.eye(len(u))
    dense = -2 * (y @ eta - np.logaddexp(0, eta).sum()) + u @ u + np.linalg.slogdet(h)[1]
    assert model.deviance(beta, theta) == pytest.approx(dense, abs=1e-9)


def test_collapsed_rows_give_the_same_fit(trials):
    keys = ["pid", "item", "condition", "layer"]
    short = trials.groupby(keys, as_index=False)["correct"].agg(["sum", "size"])
    whole = fit_glmm(design_of(trials), trials["correct"].to_numpy(), terms_of(trials, "slope"))
    collapsed = fit_glmm(
        design_of(short), short["sum"].to_numpy(), terms_of(short, "slope"), trials=short["size"].to_numpy()
    )
    assert len(short) == 1191
    assert collapsed.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-7)
    assert collapsed.params.to_numpy() == pytest.approx(whole.params.to_numpy(), abs=1e-5)
    assert collapsed.bse.to_numpy() == pytest.approx(whole.bse.to_numpy(), rel=1e-5)
    assert collapsed.bic == pytest.approx(whole.bic, abs=1e-6)


def test_a_slope_without_variance_is_called_singular_and_leaves_the_likelihood(trials):
    slope = RandomTerm.of("pid", trials["pid"].to_numpy(), layer=trials["layer"].to_numpy() - 1.0)
    more = fit_glmm(design_of(trials), trials["correct"].to_numpy(), [*terms_of(trials, "slope"), slope])
    assert more.converged
    assert "singular" in more.flags
    assert more.sd(3).iloc[0] == 0
    assert more.log_likelihood == pytest.approx(REFERENCE["glmmTMB"]["slope"]["logLik"], abs=1e-4)


def test_names_of_levels_do_not_matter(trials):
    numbers = fit_glmm(design_of(trials), trials["correct"].to_numpy(), terms_of(trials, "intercepts"), inference=False)
    text = trials.assign(pid="p" + trials["pid"].astype(str), item=trials["item"] * 5 + 3)
    named = fit_glmm(design_of(text), text["correct"].to_numpy(), terms_of(text, "intercepts"), inference=False)
    assert named.log_likelihood == pytest.approx(numbers.log_likelihood, abs=1e-8)


def test_redundant_columns_are_named(trials):
    design = design_of(trials).assign(again=design_of(trials)["condition"] * 2)
    with pytest.raises(LimenError, match="columns (again|condition) are combinations"):
        fit_glmm(design, trials["correct"].to_numpy(), terms_of(trials, "intercepts"))


def test_a_grouping_of_one_level_is_refused(trials):
    with pytest.raises(LimenError, match="grouping 'item': it has one level"):
        fit_glmm(design_of(trials), trials["correct"].to_numpy(), [RandomTerm.of("item", np.zeros(len(trials)))])


def test_complete_separation_gives_no_number(trials):
    design = design_of(trials)[["(Intercept)", "condition"]]
    fit = fit_glmm(design, (trials["condition"] > 0).to_numpy(dtype=float), terms_of(trials, "intercepts"))
    assert not fit.converged
    assert fit.params.isna().all()
    assert fit.bse.isna().all()
    assert math.isnan(fit.log_likelihood)


def study(
    effects: dict[str, float], *, people: int = 30, items: int = 42, slope: float = 0.4, seed: int = 0
) -> pd.DataFrame:
    """Simulate people x items: items within a session, crossed with condition, by-item condition differences."""
    rng = np.random.default_rng(seed)
    easy = rng.normal(0, 0.7, items)
    rows = []
    for name, effect in effects.items():
        shift = rng.normal(0, slope, items)
        for person in range(people):
            skill = rng.normal(0, 0.6)
            for item in rng.choice(items, 21, replace=False):
                p = special.expit(0.4 + effect + skill + easy[item] + shift[item])
                rows.append({"participant_id": f"{name}{person}", "item_id": f"i{item}", "condition": name,
                             "session": 1 + int(item) % 3, "k_seen": 5.0, "correct": float(rng.random() < p)})  # fmt: skip
    return pd.DataFrame(rows)


def test_a_planted_effect_is_recovered_and_its_companion_agrees():
    frame = study({"baseline": 0.0, "a": 1.0, "b": 0.0}, slope=0.8)
    result, companion = mixed_model(frame), cluster_glm(frame)
    truth = 1.0
    assert math.log(result.get("odds ratio", "a").low) < truth < math.log(result.get("odds ratio", "a").high)
    assert result.get("odds ratio", "a").p_adjusted < 0.01
    assert result.get("odds ratio", "b").p_adjusted > 0.05
    assert flag_disagreement(result, companion).flags == result.flags
    assert "(1 | item:condition)" in result.facts["terms"]


def test_a_companion_that_disagrees_is_flagged():
    frame = study({"baseline": 0.0, "a": 1.0})
    opposite = cluster_glm(frame.assign(correct=1 - frame["correct"]))
    assert "disagrees_with_companion" in flag_disagreement(mixed_model(frame), opposite).flags


def test_the_conditional_odds_ratio_is_farther_from_one_than_the_marginal():
    frame = study({"baseline": 0.0, "a": 1.0}, slope=0.0)
    assert mixed_model(frame).get("odds ratio", "a").value > cluster_glm(frame).get("odds ratio", "a").value > 1


def test_degrees_of_freedom_come_from_the_design():
    frame = study({"baseline": 0.0, "a": 1.0})
    assert unit_df(frame) == min(60 - 2, 42 - 3)
    assert mixed_model(frame).get("odds ratio", "a").df == (39.0,)
    rotated = frame.assign(session=1 + np.arange(len(frame)) % 3)
    assert unit_df(rotated) == min(60 - 2, 42 - 1)


def test_population_accuracy_is_the_integral_over_people_and_items():
    rows, beta = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.3, 0.8])
    value, slope = population_accuracy(rows, beta, np.array([0.9, 1.2]))

    def exact(b: np.ndarray) -> float:
        return sum(
            integrate.quad(lambda x, e=e, s=s: special.expit(e + s * x) * np.exp(-x * x / 2) / math.sqrt(2 * math.pi), -9, 9, epsabs=1e-12)[0]
            for e, s in zip(rows @ b, (0.9, 1.2), strict=True)
        ) / 2  # fmt: skip

    assert value == pytest.approx(exact(beta), abs=1e-8)
    numeric = [(exact(beta + step) - exact(beta - step)) / 2e-5 for step in 1e-5 * np.eye(2)]
    assert slope == pytest.approx(numeric, abs=1e-6)


def test_session_contrasts_are_centred_and_orthogonal():
    for sessions in (2, 3, 5):
        contrasts = session_contrasts(sessions)
        assert contrasts.sum(axis=0) == pytest.approx(0, abs=1e-12)
        product = contrasts.T @ contrasts
        assert product - np.diag(np.diag(product)) == pytest.approx(0, abs=1e-12)
        assert np.ptp(contrasts, axis=0) == pytest.approx(1)


def test_the_rule_prints_what_it_dropped():
    result = mixed_model(study({"baseline": 0.0, "a": 0.5}, slope=0.0, seed=3))
    for step in result.facts["steps"]:
        assert step["p"] > 0.2
        assert step["dropped"] in result.method
        assert step["dropped"] not in result.facts["terms"]


def test_a_condition_answered_all_right_is_set_aside():
    frame = study({"baseline": 0.0, "a": 0.5, "perfect": 0.0}, people=12)
    frame.loc[frame["condition"] == "perfect", "correct"] = 1.0
    result = mixed_model(frame)
    assert "separation" in result.all_flags()
    assert {item.label for item in result.of("odds ratio")} == {"a"}


def test_one_item_gives_no_number():
    result = mixed_model(study({"baseline": 0.0, "a": 0.5}, people=12).assign(item_id="only"))
    assert result.estimates == ()
    assert result.flags == ("undefined",)


@pytest.mark.long
def test_false_positives_and_coverage_are_nominal_on_simulated_studies():
    inside, positives, studies = 0, 0, 120
    for seed in range(studies):
        frame = study({"baseline": 0.0, "a": 0.0}, people=30, items=24, seed=seed)
        item = mixed_model(frame).get("odds ratio", "a")
        positives += item.p < 0.05
        inside += item.low < 1.0 < item.high
    assert positives / studies < 0.10
    assert 0.90 < inside / studies <= 1.0
