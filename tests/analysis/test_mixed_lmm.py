"""The linear mixed model: reference fits, a dense twin, statsmodels beside it, exact gradients, boundaries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from analysis.mixed_models import RandomTerm, fit_lmm, mixedlm
from analysis.mixed_models.gaussian import Gaussian
from analysis.mixed_models.terms import Layout
from bench.registry import LimenError

DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "crossed_2afc_sim_reference.json").read_text())["lmer_on_0_1_response"]
FORMULAS = {
    "REML_intercepts": "correct ~ condition * layer + (1 | pid) + (1 | item)",
    "REML_slope": "correct ~ condition * layer + (1 | pid) + (1 | item) + (0 + condition | item)",
    "REML_correlated": "correct ~ condition * layer + (1 | pid) + (1 + condition | item)",
    "ML_intercepts": "correct ~ condition * layer + (1 | pid) + (1 | item)",
}


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return pd.read_csv(DATA / "crossed_2afc_sim.csv").assign(layer=lambda frame: frame["layer"].astype(str))


def crossed(seed: int = 0, people: int = 12, items: int = 9) -> pd.DataFrame:
    """A response time of each person to each item, with a slope of x by person."""
    draws = np.random.default_rng(seed)
    pid, item = (grid.ravel() for grid in np.meshgrid(np.arange(people), np.arange(items), indexing="ij"))
    x = draws.normal(size=len(pid))
    person, slope, thing = draws.normal(size=people), 0.5 * draws.normal(size=people), 0.7 * draws.normal(size=items)
    y = 3 + 0.4 * x + person[pid] + slope[pid] * x + thing[item] + 0.6 * draws.normal(size=len(pid))
    return pd.DataFrame({"pid": pid, "item": item, "x": x, "y": y, "w": draws.uniform(0.5, 2, len(pid))})


@pytest.mark.parametrize("name", FORMULAS)
def test_a_fit_matches_lmer(trials: pd.DataFrame, name: str) -> None:
    reference = REFERENCE[name]
    results = mixedlm(FORMULAS[name], trials, reml=name.startswith("REML")).fit()
    assert results.llf == pytest.approx(reference["logLik"], abs=1e-8)
    theirs = reference["coef"].values()
    assert results.params.to_numpy() == pytest.approx([one["estimate"] for one in theirs], abs=2e-8)
    assert results.bse.to_numpy() == pytest.approx([one["se"] for one in theirs], rel=1e-6)
    sds = [row["sdcor"] for row in reference["vc"] if row["var2"] is None]
    assert results.random_sds["sd"].to_numpy() == pytest.approx(sds, rel=2e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_satterthwaite_degrees_of_freedom_match_lmertest(trials: pd.DataFrame, name: str) -> None:
    results = mixedlm(FORMULAS[name], trials, reml=name.startswith("REML")).fit()
    found = [results.df(effect, "satterthwaite") for effect in results.params.index]
    assert found == pytest.approx([one["df"] for one in REFERENCE[name]["coef"].values()], rel=1e-5)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("eliminate", ["pid", "item"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_deviance_is_that_of_the_dense_normal_density(reml: bool, eliminate: str, weighted: bool) -> None:
    data = crossed()
    x = np.column_stack([np.ones(len(data)), data["x"]])
    pair = RandomTerm.of("pid", data["pid"].to_numpy(), intercept=np.ones(len(data)), x=data["x"].to_numpy())
    terms = [pair, RandomTerm.of("item", data["item"].to_numpy())]
    weights = data["w"].to_numpy() if weighted else None
    theta, sigma = np.array([0.9, -0.3, 0.5, 1.1]), 0.7
    people, items = np.eye(12)[data["pid"]], np.eye(9)[data["item"]]
    lower = np.array([[0.9, 0.0], [-0.3, 0.5]])
    slopes = np.einsum("na,ab,mb->nm", x, lower @ lower.T, x) * (people @ people.T)
    noise = np.diag(1 / data["w"]) if weighted else np.eye(len(data))
    v = sigma**2 * (noise + slopes + 1.1**2 * items @ items.T)
    inverse = np.linalg.inv(v)
    information = x.T @ inverse @ x
    beta = np.linalg.solve(information, x.T @ inverse @ data["y"])
    expected = -2 * stats.multivariate_normal.logpdf(data["y"], x @ beta, v)
    if reml:
        expected += np.linalg.slogdet(information)[1] - 2 * np.log(2 * np.pi)
    model = Gaussian(x, data["y"].to_numpy(), Layout(terms, eliminate), weights, reml=reml)
    assert model.deviance(theta, sigma) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("eliminate", ["pid", "item"])
def test_the_gradient_is_exact(reml: bool, eliminate: str) -> None:
    data = crossed(1)
    x = np.column_stack([np.ones(len(data)), data["x"]])
    columns = {"intercept": np.ones(len(data)), "x": data["x"].to_numpy()}
    terms = [RandomTerm.of(name, data[name].to_numpy(), **columns) for name in ("pid", "item")]
    model = Gaussian(x, data["y"].to_numpy(), Layout(terms, eliminate), None, reml=reml)
    theta = np.random.default_rng(2).normal(size=6)
    slopes = [
        (model.deviance(theta + 1e-5 * one) - model.deviance(theta - 1e-5 * one)) / 2e-5 for one in np.eye(len(theta))
    ]
    value, gradient = model.evaluate(theta)
    assert value == pytest.approx(model.deviance(theta), rel=1e-13)
    assert gradient == pytest.approx(np.array(slopes), rel=1e-6, abs=1e-5)


def test_one_grouping_matches_statsmodels() -> None:
    data = crossed(3)
    theirs = smf.mixedlm("y ~ x", data, groups=data["pid"], re_formula="~x").fit(reml=True)
    ours = mixedlm("y ~ x + (1 + x | pid)", data).fit()
    assert ours.llf == pytest.approx(theirs.llf, abs=1e-5)
    assert ours.params.to_numpy() == pytest.approx(theirs.fe_params.to_numpy(), abs=1e-4)
    assert ours.bse.to_numpy() == pytest.approx(theirs.bse_fe.to_numpy(), rel=1e-3)
    own = ours.random_effects["pid"]
    for person, effects in theirs.random_effects.items():
        assert own.loc[person, ["Intercept", "x"]].to_numpy() == pytest.approx(effects.to_numpy(), abs=1e-3)


def test_nested_levels_are_told_apart_by_their_parent() -> None:
    data = crossed(4).assign(school=lambda frame: frame["pid"] % 3, seat=lambda frame: frame["pid"] // 3)
    nested = mixedlm("y ~ x + (1 | school/seat)", data).fit()
    plain = mixedlm("y ~ x + (1 | school) + (1 | pid)", data).fit()
    assert nested.llf == pytest.approx(plain.llf, abs=1e-7)
    assert nested.fit.levels == {"school": 3, "school:seat": 12}


def test_a_variance_that_is_not_there_is_zero_and_flagged() -> None:
    data = crossed(5)
    data["y"] = 2 + data["x"] + np.random.default_rng(0).normal(size=len(data))
    centred = data["y"] - data.groupby("item")["y"].transform("mean")
    results = mixedlm("y ~ x + (1 | pid) + (1 | item)", data.assign(y=centred)).fit()
    assert "singular" in results.flags
    assert results.random_sds.set_index("group").loc["item", "sd"] == 0


@pytest.mark.long
def test_coverage_of_a_between_item_effect_is_nominal() -> None:
    """160 small data sets: the 95 % interval of a factor between items, on unit-based degrees of freedom."""
    hits = 0
    for seed in range(160):
        draws = np.random.default_rng(seed)
        pid, item = (grid.ravel() for grid in np.meshgrid(np.arange(15), np.arange(12), indexing="ij"))
        level = (item % 2) - 0.5
        y = 0.3 * level + draws.normal(size=15)[pid] + 0.8 * draws.normal(size=12)[item] + draws.normal(size=len(pid))
        data = pd.DataFrame({"pid": pid, "item": item, "level": level, "y": y})
        low, high = mixedlm("y ~ level + (1 | pid) + (1 | item)", data).fit().conf_int().loc["level"]
        hits += low <= 0.3 <= high
    assert stats.binomtest(hits, 160, 0.95).pvalue > 0.001


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(pid=0), "grouping 'pid': it has one level"),
        (lambda d: d.assign(pid=range(len(d))), "grouping 'pid': it has 108 levels for 108 rows"),
        (lambda d: d.assign(y=1.0), "the fixed effects give it exactly"),
        (lambda d: d.assign(x=2.0), "combinations of the others"),
        (lambda d: d.iloc[:0], "given no row"),
        (lambda d: d.assign(y=d["y"].where(d["pid"] > 0)), r"missing or infinite values in y \(9\) of 108 rows"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(change, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        mixedlm("y ~ x + (1 | pid) + (1 | item)", change(crossed())).fit()


def test_rows_in_another_order_give_the_same_fit() -> None:
    data = crossed(6)
    one, other = (
        mixedlm("y ~ x + (1 + x | pid) + (1 | item)", part).fit()
        for part in (data, data.sample(frac=1, random_state=1))
    )
    assert one.llf == pytest.approx(other.llf, abs=1e-8)
    assert one.params.to_numpy() == pytest.approx(other.params.to_numpy(), abs=1e-7)


def test_an_offset_is_taken_off_the_response() -> None:
    data = crossed(7).assign(o=1.5)
    shifted = mixedlm("y ~ x + (1 | pid)", data, offset="o").fit()
    assert shifted.params["Intercept"] == pytest.approx(
        mixedlm("y ~ x + (1 | pid)", data).fit().params["Intercept"] - 1.5
    )


def test_a_fit_without_inference_has_the_same_likelihood() -> None:
    data = crossed(8)
    terms = [RandomTerm.of("pid", data["pid"].to_numpy())]
    design = pd.DataFrame({"one": 1.0, "x": data["x"]})
    quick, whole = (fit_lmm(design, data["y"].to_numpy(), terms, inference=flag) for flag in (False, True))
    assert quick.log_likelihood == whole.log_likelihood
    assert not quick.effects
