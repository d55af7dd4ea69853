"""The cumulative logit mixed model: exact gradient, R's clmm, the logistic mixed model, planted effects."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special

from analysis.mixed_models import RandomTerm, fit_glmm
from analysis.mixed_models.ordered import fit_ordered
from analysis.mixed_models.ordered_laplace import Ordered, OrderedLaplace
from analysis.mixed_models.terms import Layout
from analysis.models.ordinal import ordinal
from bench.registry import LimenError

CUTS = (-1.0, 0.0, 0.8, 2.0)


def simulate(
    seed: int, *, people: int = 40, items: int = 12, effect: float = 0.6, slope: float = 0.0, within: bool = False
) -> pd.DataFrame:
    """Ratings of everyone on every item, two conditions between people or within."""
    draws = np.random.default_rng(seed)
    who, what = np.repeat(np.arange(people), items), np.tile(np.arange(items), people)
    side = (who + what * within) % 2
    own, ease, change = draws.normal(0, 0.7, people), draws.normal(0, 0.5, items), draws.normal(0, slope, items)
    latent = own[who] + ease[what] + (effect + change[what]) * side
    rating = 1.0 + np.digitize(latent + draws.logistic(size=len(who)), CUTS)
    return pd.DataFrame({"participant_id": who, "item_id": what, "maps": side * 1.0, "rating": rating,
                         "condition": np.where(side, "maps", "baseline")})  # fmt: skip


def terms(data: pd.DataFrame) -> list[RandomTerm]:
    return [
        RandomTerm.of(unit, data[column].to_numpy())
        for unit, column in (("participant", "participant_id"), ("item", "item_id"))
    ]


def test_the_gradient_is_that_of_the_deviance() -> None:
    data = simulate(1, people=12, items=6)
    slope = RandomTerm.of(
        "item", data["item_id"].to_numpy(), intercept=np.ones(len(data)), maps=data["maps"].to_numpy()
    )
    layout = Layout([terms(data)[0], slope])
    model = OrderedLaplace(Ordered(data[["maps"]].to_numpy(), data["rating"].to_numpy(dtype=int) - 1, 5), layout)
    at = np.array([-1.0, 0.1, 0.7, 2.1, 0.5, 0.6, 0.4, 0.2, 0.3])
    _, in_fixed, in_theta = model.evaluate(at[:5], at[5:])
    for place, exact in enumerate([*in_fixed, *in_theta]):
        step = np.zeros(9)
        step[place] = 1e-5
        sides = [model.evaluate((at + sign * step)[:5], (at + sign * step)[5:])[0] for sign in (1, -1)]
        assert exact == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=2e-6)


def test_the_deviance_is_the_integral_where_each_person_says_much() -> None:
    """One grouping: the likelihood of each person is a one-dimensional integral; Laplace's error falls with answers."""
    data = simulate(2, people=4, items=60)
    code = data["rating"].to_numpy(dtype=int) - 1
    layout = Layout(terms(data)[:1])
    model = OrderedLaplace(Ordered(data[["maps"]].to_numpy(), code, 5), layout)
    fixed, sd = np.array([*CUTS, 0.6]), 0.7
    cuts = np.array([-np.inf, *CUTS, np.inf])

    def likelihood(z: float, rows: np.ndarray) -> float:
        eta = 0.6 * data["maps"].to_numpy()[rows] + sd * z
        inside = special.expit(cuts[code[rows] + 1] - eta) - special.expit(cuts[code[rows]] - eta)
        return float(np.exp(np.log(inside).sum() + 90 - z**2 / 2) / math.sqrt(2 * math.pi))

    whole = 0.0
    for person in range(4):
        rows = np.flatnonzero(data["participant_id"] == person)
        whole += math.log(integrate.quad(likelihood, -6, 6, args=(rows,), epsabs=0, limit=200)[0]) - 90
    assert -model.evaluate(fixed, np.array([sd]))[0] / 2 == pytest.approx(whole, abs=0.01)


def test_two_levels_are_the_logistic_mixed_model() -> None:
    data = simulate(3)
    high = (data["rating"] > 3).to_numpy(dtype=float)
    ordered = fit_ordered(data[["maps"]], high, terms(data))
    logistic = fit_glmm(data[["maps"]].assign(intercept=1.0)[["intercept", "maps"]], high, terms(data))
    assert ordered.log_likelihood == pytest.approx(logistic.log_likelihood, abs=1e-6)
    assert ordered.params["maps"] == pytest.approx(logistic.params["maps"], abs=1e-4)
    assert ordered.params["0|1"] == pytest.approx(-logistic.params["intercept"], abs=1e-4)
    assert ordered.bse["maps"] == pytest.approx(logistic.bse["maps"], rel=1e-3)
    assert np.abs(ordered.theta) == pytest.approx(np.abs(logistic.theta), abs=1e-4)


CLMM = (
    -730.1523581,
    [-0.77954101, 0.45690455, 1.16663399, 2.15480327, 0.39473837],
    [0.74848365, 0.15919575],
    0.28867849,
)
"""Log-likelihood, thresholds with the effect, standard deviations, and the effect's error."""


def reference(seed: int) -> pd.DataFrame:
    """The data set that the numbers of `CLMM` are of, with the condition centred before the thresholds are applied."""
    draws = np.random.default_rng(seed)
    who, what = np.repeat(np.arange(40), 12), np.tile(np.arange(12), 40)
    own, ease = draws.normal(0, 0.7, 40)[who], draws.normal(0, 0.5, 12)[what]
    draws.normal(0, 0.0, 12)
    latent = own + ease + 0.6 * (who % 2 - 0.5) + draws.logistic(size=480)
    return pd.DataFrame({"participant_id": who, "item_id": what, "maps": who % 2 * 1.0, "rating": 1.0 + np.digitize(latent, CUTS)})  # fmt: skip


def test_numbers_are_those_of_clmm() -> None:
    """R 4.2.2, ordinal 2022.11-16: clmm(rating ~ maps + (1|participant) + (1|item)), gradTol 1e-8."""
    found = fit_ordered((data := reference(1))[["maps"]], data["rating"].to_numpy(), terms(data))
    likelihood, params, sds, error = CLMM
    assert found.log_likelihood == pytest.approx(likelihood, abs=1e-5)
    assert list(found.params) == pytest.approx(params, abs=1e-4)
    assert [float(found.sd(i).iloc[0]) for i in (0, 1)] == pytest.approx(sds, abs=1e-4)
    assert found.bse["maps"] == pytest.approx(error, rel=0.01)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
@pytest.mark.parametrize(
    ("seed", "within", "people", "items"), [(5, True, 60, 24), (6, False, 20, 8), (7, True, 30, 30)]
)
def test_other_data_sets_agree_with_clmm(tmp_path: Path, seed: int, within: bool, people: int, items: int) -> None:
    data = simulate(seed, people=people, items=items, slope=0.5, within=within)
    data.to_csv(tmp_path / "ratings.csv", index=False)
    code = (
        "if (!requireNamespace('ordinal', quietly = TRUE)) quit(status = 9); suppressMessages(library(ordinal)); "
        f"d <- read.csv('{tmp_path / 'ratings.csv'}'); d$rating <- factor(d$rating, ordered = TRUE); "
        "d$p <- factor(d$participant_id); d$i <- factor(d$item_id); d$c <- factor(paste(d$item_id, d$maps)); "
        "m <- clmm(rating ~ maps + (1|p) + (1|i) + (1|c), data = d, control = clmm.control(gradTol = 1e-7)); "
        "cat(sprintf('%.8f', c(m$logLik, coef(m))), sep = '\\n')"
    )
    ran = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    if ran.returncode == 9:
        pytest.skip("R's package ordinal is not installed")
    theirs = [float(line) for line in ran.stdout.split()]
    cell = np.char.add(data["item_id"].astype(str).to_numpy().astype(str), data["condition"].to_numpy().astype(str))
    found = fit_ordered(
        data[["maps"]], data["rating"].to_numpy(), [*terms(data), RandomTerm.of("item:condition", cell)]
    )
    assert found.log_likelihood == pytest.approx(theirs[0], abs=1e-4)
    assert list(found.params) == pytest.approx(theirs[1:], abs=1e-3)


def test_effects_far_apart_and_few_levels_are_told() -> None:
    data = simulate(8)
    apart = fit_ordered(data[["maps"]], np.where(data["maps"] > 0, 4.0, 1.0) + data["item_id"] % 2, terms(data)[:1])
    assert not apart.converged
    assert apart.params.isna().all()
    with pytest.raises(LimenError, match="given 1 level of answers"):
        fit_ordered(data[["maps"]], np.ones(len(data)), terms(data))
    with pytest.raises(LimenError, match="combinations of the others"):
        fit_ordered(data[["maps"]].assign(one=1.0), data["rating"].to_numpy(), terms(data))


@pytest.mark.parametrize("within", [False, True])
def test_the_report_has_both_odds_ratios_and_the_conditional_one_is_farther_from_one(within: bool) -> None:
    result = ordinal(simulate(11, effect=1.2, within=within))
    own, marginal = (result.get(name, "maps - baseline") for name in ("odds ratio", "marginal odds ratio"))
    assert own.low < math.exp(1.2) < own.high
    assert own.value > marginal.value > 1
    assert own.df == (11.0,)
    assert result.estimates[0].quantity == "probability of superiority"
    assert result.facts["mixed"]["terms"][:2] == ["(1 | participant)", "(1 | item)"]


def test_one_rating_a_person_of_one_thing_has_no_mixed_model() -> None:
    data = simulate(10, people=60, items=4).drop_duplicates("participant_id").drop(columns="item_id")
    result = ordinal(data)
    assert result.of("odds ratio") == ()
    assert result.of("marginal odds ratio")


@pytest.mark.long
def test_intervals_of_the_odds_ratio_cover_it_within_items() -> None:
    """100 studies of 30 people and 16 items, whose condition effect differs between items (SD .4)."""
    held = 0
    for seed in range(100):
        one = ordinal(simulate(seed, people=30, items=16, slope=0.4, within=True)).of("odds ratio")
        held += bool(one) and one[0].low <= math.exp(0.6) <= one[0].high
    assert 90 <= held <= 99
