"""A mixed model as a user meets it: formulas, tests, predictions, margins, likelihood ratios, the bootstrap, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import special, stats

import analysis
from analysis.cli import analyze
from analysis.mixed_models import bootstrap_intervals, bootstrap_test, mixedlm
from analysis.mixed_models.bootstrap import simulate
from analysis.mixed_models.formula import parse
from bench.registry import LimenError

CSV = Path(__file__).parent / "data" / "crossed_2afc_sim.csv"
REFERENCE = json.loads((CSV.parent / "crossed_2afc_sim_reference.json").read_text())
SLOPE = "correct ~ condition * layer + (1 | pid) + (1 | item) + (0 + condition | item)"


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return pd.read_csv(CSV).assign(layer=lambda frame: frame["layer"].astype(str))


@pytest.fixture(scope="module")
def slope(trials: pd.DataFrame) -> analysis.MixedResults:
    return analysis.mixedlm(SLOPE, trials, family="binomial").fit()


def test_a_formula_matches_glmmtmb(slope: analysis.MixedResults) -> None:
    reference = REFERENCE["glmmTMB"]["slope"]
    assert slope.llf == pytest.approx(reference["logLik"], abs=1e-6)
    assert slope.params.to_numpy() == pytest.approx([one["estimate"] for one in reference["coef"].values()], abs=2e-5)
    assert slope.bse.to_numpy() == pytest.approx([one["se"] for one in reference["coef"].values()], rel=1e-5)


@pytest.mark.parametrize(
    ("text", "random"),
    [
        ("y ~ x + (1 + x | g)", ["(1 + x | g)"]),
        ("y ~ (x || g) + x", ["(x || g)"]),
        ("y ~ log(x) * a + (1|g) + (0 + a | h:g)", ["(1 | g)", "(0 + a | h:g)"]),
        ("y ~ 1 + (1 | a/b)", ["(1 | a)", "(1 | a:b)"]),
    ],
)
def test_random_terms_are_read(text: str, random: list[str]) -> None:
    assert [str(part) for part in parse(text).random] == random


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y x + (1|g)", "allowed is 'response ~ fixed"),
        ("y ~ x + (1|g", "a bracket is not closed"),
        ("y ~ x + 1|g", "brackets of their own"),
        ("y ~ x +* z + (1|g)", "cannot be read"),
        ("y ~ x + (1|g + h)", "needs effects and a group"),
        ("log(y) ~ x + (1|g)", "the response a column's name"),
    ],
)
def test_a_formula_that_cannot_be_read_is_told(text: str, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("correct ~ conditon + (1|pid)", {}, "unknown name 'conditon'.*did you mean 'condition'"),
        ("correct ~ condition + (1|pidd)", {}, "unknown name 'pidd'.*did you mean 'pid'"),
        ("correct ~ condition + (1|pid)", {"family": "binomal"}, "did you mean 'binomial'"),
        ("correct ~ condition", {}, "given no random term"),
        ("trial ~ condition + (1|pid)", {"family": "binomial"}, "response 'trial': given 2, allowed are 0 and 1"),
        ("layer ~ condition + (1|pid)", {}, "response 'layer': given .*, allowed are numbers"),
        ("correct ~ condition + (1|pid)", {"weights": "trial", "family": "binomial"}, "weights: given for the family"),
        ("correct ~ condition + (1|pid)", {"missing": "dorp"}, "did you mean 'drop'"),
        ("correct ~ foo(condition) + (1|pid)", {}, "cannot be computed"),
    ],
)
def test_a_model_that_cannot_be_made_is_told(trials: pd.DataFrame, formula: str, options: dict, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        mixedlm(formula, trials, **options).fit()


def test_a_formula_may_transform_columns(trials: pd.DataFrame) -> None:
    plain = mixedlm("correct ~ trial + (1|pid)", trials).fit()
    moved = mixedlm("correct ~ center(trial) + C(layer, contr.sum) + I(trial ** 2) + (1|pid)", trials)
    assert moved.predictors == ["trial", "layer"]
    assert list(moved.fit().params.index)[1] == "center(trial)"
    centred = mixedlm("correct ~ center(trial) + (1|pid)", trials).fit()
    assert centred.params.iloc[1] == pytest.approx(plain.params["trial"])
    assert centred.predict(trials.head(3)) == pytest.approx(plain.predict(trials.head(3)))


def test_unit_based_degrees_of_freedom(trials: pd.DataFrame) -> None:
    """60 people less two conditions, 24 items less three layers; a slope's grouping is no unit."""
    whole = mixedlm(SLOPE + " + (1 | item:condition)", trials, family="binomial")
    assert whole.unit_df() == 21
    assert mixedlm("correct ~ condition + (1|pid)", trials).unit_df() == 58
    assert mixedlm("correct ~ layer + (1|pid)", trials).unit_df() == 59


def test_tests_agree_with_each_other(slope: analysis.MixedResults) -> None:
    one = slope.t_test("condition")
    several = slope.wald_test(["condition"])
    assert several.statistic == pytest.approx(one.statistic**2)
    assert several.p == pytest.approx(one.p)
    assert slope.pvalues["condition"] == pytest.approx(one.p)
    low, high = slope.conf_int().loc["condition"]
    assert (one.low, one.high) == pytest.approx((low, high))
    table = slope.anova()
    assert list(table.index) == ["condition", "layer", "condition:layer"]
    assert table.loc["condition:layer", "df1"] == 2
    assert slope.t_test({"condition": 2.0}).estimate == pytest.approx(2 * one.estimate)
    assert slope.t_test("condition", df="normal").p < one.p


def test_main_effects_of_the_table_are_averages_whatever_the_coding(trials: pd.DataFrame) -> None:
    """R, lme4 1.1-31 with contr.sum: Wald F of condition 15.60638, layer 0.30551, interaction 2.80700."""
    data = trials.assign(side=np.where(trials["condition"] > 0, "with", "without"))
    found = mixedlm("correct ~ side * layer + (1 | pid) + (1 | item)", data).fit()
    assert list(found.anova()["F"]) == pytest.approx([15.60638, 0.30551, 2.80700], rel=1e-4)
    assert found.wald_test("layer").statistic == pytest.approx(0.88483, rel=1e-4)
    other = mixedlm("correct ~ condition * layer + (1 | pid) + (1 | item)", data).fit()
    assert list(other.anova()["F"]) == pytest.approx([15.60638, 0.30551, 2.80700], rel=1e-4)


def test_likelihood_ratios_match_the_reference(trials: pd.DataFrame, slope: analysis.MixedResults) -> None:
    tail = " + (1 | pid) + (1 | item) + (0 + condition | item)"
    for fixed, name in (("layer", "condition_and_interaction_3df"), ("condition + layer", "interaction_2df")):
        smaller = mixedlm(f"correct ~ {fixed}{tail}", trials, family="binomial").fit()
        found, reference = slope.lr_test(smaller), REFERENCE["lrt"][name]["glmmTMB"]
        assert (found.statistic, found.df[0], found.p) == pytest.approx(
            (reference["chisq"], reference["df"], reference["p"]), abs=1e-4
        )
    intercepts = mixedlm("correct ~ condition * layer + (1 | pid) + (1 | item)", trials, family="binomial").fit()
    boundary = slope.lr_test(intercepts)
    assert boundary.p == pytest.approx(REFERENCE["lrt"]["slope_variance_boundary"]["p_boundary"], abs=1e-5)
    with pytest.raises(LimenError, match="not nested"):
        intercepts.lr_test(slope)


def test_reml_fits_with_other_fixed_parts_are_not_compared(trials: pd.DataFrame) -> None:
    fits = [mixedlm(f"correct ~ {fixed} + (1|pid)", trials).fit() for fixed in ("condition + layer", "layer")]
    with pytest.raises(LimenError, match="reml=False"):
        fits[0].lr_test(fits[1])


def test_margins_give_the_reference_cells(slope: analysis.MixedResults) -> None:
    table = slope.margins(["condition", "layer"]).table()
    assert table["mean"].to_numpy() == pytest.approx([0.62678, 0.60515, 0.63984, 0.69077, 0.76297, 0.76280], abs=2e-5)
    found = slope.margins("condition").contrast({-0.5: -1, 0.5: 1}, margin=0.2)
    assert (found["estimate"], found["standard_error"]) == pytest.approx((0.11492, 0.03181), abs=1e-5)
    assert found["equivalence_p"] == pytest.approx(stats.t.cdf((0.11492 - 0.2) / 0.03181, 21), abs=1e-4)
    with pytest.raises(LimenError, match="unknown name '0.4'"):
        slope.margins("condition").contrast({0.4: 1})
    with pytest.raises(LimenError, match="did you mean 'layer'"):
        slope.margins("layr")


def test_a_margin_equals_a_large_simulated_population(slope: analysis.MixedResults) -> None:
    draws = np.random.default_rng(0)
    sds = slope.random_sds["sd"].to_numpy()
    u = draws.normal(size=(400_000, 3)) * sds * [1, 1, 0.5]
    mean = special.expit(slope.params["Intercept"] + 0.5 * slope.params["condition"] + u.sum(axis=1)).mean()
    table = slope.margins(["condition", "layer"]).table().set_index(["condition", "layer"])
    assert table.loc[(0.5, "0"), "mean"] == pytest.approx(mean, abs=1.5e-3)


def test_shares_of_the_latent_variance(slope: analysis.MixedResults) -> None:
    own = slope.random_sds.set_index(["group", "effect"])["sd"] ** 2
    total = own["pid", "Intercept"] + own["item", "Intercept"] + np.pi**2 / 3
    assert slope.icc()["item"] == pytest.approx(own["item", "Intercept"] / total)
    assert slope.icc().sum() < 1


def test_predictions_of_new_rows(slope: analysis.MixedResults, trials: pd.DataFrame) -> None:
    again = slope.predict(trials.head(5), level="conditional")
    assert again == pytest.approx(slope.fittedvalues[:5])
    stranger = trials.head(1).assign(pid=999, item=999)
    assert slope.predict(stranger, level="conditional") == pytest.approx(slope.predict(stranger, level="typical"))
    assert slope.resid.mean() == pytest.approx(0, abs=0.01)
    with pytest.raises(LimenError, match="unknown name '7'"):
        slope.predict(trials.head(1).assign(layer="7"))


def test_equal_rows_are_collapsed_without_a_change(trials: pd.DataFrame) -> None:
    twice = pd.concat([trials.drop(columns="trial")] * 3, ignore_index=True)
    formula = "correct ~ condition + (1 | pid) + (1 | item)"
    model = mixedlm(formula, twice, family="binomial")
    results = model.fit()
    assert len(model.prepared.y) < len(twice) / 3
    assert results.nobs == len(twice)
    counted = twice.groupby(["pid", "item", "condition"], as_index=False)["correct"].agg(["sum", "count"])
    counted = counted.rename(columns={"sum": "correct"})
    assert mixedlm(formula, counted, family="binomial", trials="count").fit().llf == pytest.approx(
        results.llf, abs=1e-6
    )


def test_missing_rows_are_dropped_when_asked_and_counted(trials: pd.DataFrame) -> None:
    holes = trials.assign(condition=trials["condition"].where(trials.index >= 40))
    model = mixedlm("correct ~ condition + (1|pid) + (1|item)", holes, family="binomial", missing="drop")
    assert model.dropped == 40
    assert "40 dropped" in model.fit().summary()


def test_no_number_comes_from_a_fit_that_failed(trials: pd.DataFrame) -> None:
    separated = trials.assign(correct=(trials["condition"] > 0).astype(int))
    results = mixedlm("correct ~ condition + (1|pid)", separated, family="binomial").fit()
    assert not results.converged
    assert results.params.isna().all()
    assert "separation" in results.summary()
    assert "estimate  " not in results.summary()
    with pytest.raises(LimenError, match="did not converge"):
        results.t_test("condition")


def small(seed: int, effect: float) -> pd.DataFrame:
    draws = np.random.default_rng(seed)
    pid, item = (grid.ravel() for grid in np.meshgrid(np.arange(16), np.arange(8), indexing="ij"))
    group = (pid % 2) - 0.5
    linear = effect * group + 0.6 * draws.normal(size=16)[pid] + 0.6 * draws.normal(size=8)[item]
    return pd.DataFrame({"pid": pid, "item": item, "group": group, "y": linear + draws.normal(size=len(pid))})


def test_the_bootstrap_is_seeded_and_no_matter_of_processes() -> None:
    data = small(0, 0.0)
    full, null = (mixedlm(f"y ~ {f} + (1|pid) + (1|item)", data, reml=False).fit() for f in ("group", "1"))
    one = bootstrap_test(full, null, draws=12, seed=3)
    two = bootstrap_test(full, null, draws=12, seed=3, processes=2)
    assert one.ratios == pytest.approx(two.ratios)
    assert one.p == (1 + (one.ratios >= one.ratio - 1e-8).sum()) / 13
    assert one.failed == 0


@pytest.mark.long
def test_the_bootstrap_finds_an_effect_and_its_interval_holds_it() -> None:
    data = small(1, 2.5)
    full, null = (mixedlm(f"y ~ {f} + (1|pid) + (1|item)", data, reml=False).fit() for f in ("group", "1"))
    assert bootstrap_test(full, null, draws=39, seed=0).p == pytest.approx(1 / 40)
    table = bootstrap_intervals(full, draws=60, seed=0)
    assert list(table.index) == ["Intercept", "group", "sd pid Intercept", "sd item Intercept", "sd residual"]
    assert table.loc["group", "low"] < 2.5 < table.loc["group", "high"]


def test_made_data_have_the_fitted_moments() -> None:
    results = mixedlm("y ~ group + (1|pid) + (1|item)", small(2, 1.0)).fit()
    made = np.array([simulate(results, np.random.default_rng(seed)) for seed in range(400)])
    assert made.mean() == pytest.approx(results.params["Intercept"], abs=0.05)
    total = (results.random_sds["sd"] ** 2).sum()
    assert made.var(axis=0).mean() == pytest.approx(total, rel=0.05)


def test_the_command_prints_and_writes_a_fit(tmp_path: Path) -> None:
    out = tmp_path / "fit.json"
    call = [str(CSV), SLOPE, "--family", "binomial", "--factor", "layer", "--json", str(out)]
    done = CliRunner().invoke(analyze, ["fit", *call], catch_exceptions=False)
    assert "Mixed model (binomial, logit, Laplace)" in done.output
    stored = json.loads(out.read_text())
    assert stored["log_likelihood"] == pytest.approx(-1382.884172, abs=1e-5)
    assert stored["df"] == 21
    assert [one["name"] for one in stored["fixed"]][1] == "condition"
    with pytest.raises(LimenError, match="already exists"):
        CliRunner().invoke(analyze, ["fit", *call], catch_exceptions=False)


def test_the_command_tells_a_wrong_column(tmp_path: Path) -> None:
    with pytest.raises(LimenError, match="did you mean 'layer'"):
        CliRunner().invoke(
            analyze, ["fit", str(CSV), "correct ~ 1 + (1|pid)", "--factor", "layr"], catch_exceptions=False
        )
    with pytest.raises(LimenError, match="cannot be read as a table"):
        CliRunner().invoke(analyze, ["fit", str(tmp_path / "no.csv"), "a ~ 1 + (1|b)"], catch_exceptions=False)
