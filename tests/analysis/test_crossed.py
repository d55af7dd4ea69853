"""The analysis of any crossed design: planted effects come back, slopes by the rule, chance, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis.models.crossed import crossed
from analysis.models.mixed_model import mixed_model
from bench.registry import LimenError

FORMULA = "correct ~ basis * layer + (1|participant) + (1|item)"


def simulate(
    seed: int,
    *,
    people: int = 20,
    items: int = 12,
    effect: float = 0.8,
    interaction: float = 0.0,
    slope_sd: float = 0.0,
) -> pd.DataFrame:
    """Everyone sees every item in both bases at both layers."""
    draws = np.random.default_rng(seed)
    ability, ease = draws.normal(0, 0.6, people), draws.normal(0, 0.5, items)
    own = draws.normal(0, slope_sd, people) if slope_sd else np.zeros(people)
    rows = [
        (
            f"p{p}",
            f"i{i}",
            basis,
            layer,
            0.4 + ability[p] + ease[i] + (effect + own[p] + interaction * (layer == "late")) * (basis == "nmf"),
        )
        for p in range(people)
        for i in range(items)
        for basis in ("neurons", "nmf")
        for layer in ("early", "late")
    ]
    table = pd.DataFrame(rows, columns=["participant_id", "item_id", "basis", "layer", "logit"])
    chance = special.expit(table.pop("logit"))
    return table.assign(correct=(draws.random(len(table)) < chance).astype(float))


def truth(effect: float) -> float:
    """The population's accuracy difference, by brute integration over people and items."""
    spread = np.random.default_rng(0).normal(0, np.hypot(0.6, 0.5), 400_000)
    return float(special.expit(0.4 + effect + spread).mean() - special.expit(0.4 + spread).mean())


def test_a_planted_effect_lies_in_the_interval_and_no_effect_does_not_show() -> None:
    result = crossed(simulate(1), formula=FORMULA, references={"basis": "neurons"}, chance=0.5)
    gap = result.get("accuracy difference of basis", "nmf - neurons")
    assert gap.low <= truth(0.8) <= gap.high
    assert gap.p < 0.01
    assert result.get("accuracy difference of layer", "late - early").p > 0.05


@pytest.mark.long
def test_the_reference_level_decides_the_sign() -> None:
    data = simulate(1)
    one = crossed(data, formula=FORMULA, references={"basis": "neurons"}).get(
        "accuracy difference of basis", "nmf - neurons"
    )
    two = crossed(data, formula=FORMULA, references={"basis": "nmf"}).get(
        "accuracy difference of basis", "neurons - nmf"
    )
    assert one.value == pytest.approx(-two.value, abs=1e-9)


def test_simple_differences_show_where_an_interaction_is() -> None:
    result = crossed(simulate(2, effect=0.0, interaction=1.2), formula=FORMULA, references={"basis": "neurons"})
    late = result.get("accuracy difference of basis at layer", "nmf - neurons at late")
    early = result.get("accuracy difference of basis at layer", "nmf - neurons at early")
    assert late.low > 0
    assert early.low < 0 < early.high
    terms = {item.label.replace("basis:layer", "interaction"): item.p for item in result.of("term")}
    assert terms["interaction"] < 0.01


@pytest.mark.long
def test_a_slope_that_is_there_is_kept_and_one_that_is_not_is_dropped() -> None:
    kept = crossed(simulate(3, slope_sd=1.2), formula=FORMULA)
    assert "(1 | participant:basis)" in kept.facts["formula"]
    dropped = {step["dropped"] for step in crossed(simulate(3), formula=FORMULA).facts["steps"]}
    assert {"(1 | participant:basis)", "(1 | item:layer)"} <= dropped


def test_ignoring_the_slope_would_make_the_interval_too_short() -> None:
    data = simulate(3, slope_sd=1.2)
    gap = crossed(data, formula=FORMULA).get("accuracy difference of basis", "nmf - neurons")
    from analysis.mixed_models import mixedlm

    plain = data.rename(columns={"participant_id": "participant", "item_id": "item"})
    fit = mixedlm(FORMULA, plain, family="binomial").fit()
    narrow = fit.margins("basis").contrast([1, -1])
    assert gap.high - gap.low > 1.3 * (narrow["high"] - narrow["low"])


def test_accuracies_are_compared_with_chance() -> None:
    result = crossed(simulate(4, effect=0.8), formula=FORMULA, chance=0.5)
    above = result.get("above chance of basis", "nmf")
    accuracy = result.get("accuracy of basis", "nmf")
    assert above.value == pytest.approx(accuracy.value - 0.5)
    assert above.p < 0.05


def test_a_design_without_factors_gives_one_accuracy_over_chance() -> None:
    result = crossed(simulate(5), formula="correct ~ 1 + (1|participant) + (1|item)", chance=0.2)
    assert result.get("above chance", "all").low > 0
    assert result.get("accuracy", "all").value == pytest.approx(simulate(5)["correct"].mean(), abs=0.02)


def test_a_number_among_the_factors_has_a_slope_in_log_odds() -> None:
    data = simulate(6)
    data = data.assign(depth=(data["layer"] == "late") * 2.0)
    result = crossed(data, formula="correct ~ basis + depth + (1|participant) + (1|item)")
    assert result.get("slope of depth", "log-odds for one unit").low < 0.1


def test_the_companion_agrees_on_a_plain_design() -> None:
    result = crossed(simulate(7), formula=FORMULA, references={"basis": "neurons"})
    gap = result.get("accuracy difference of basis", "nmf - neurons")
    theirs = result.facts["companion"]["basis: nmf - neurons"]
    assert theirs["value"] == pytest.approx(gap.value, abs=0.02)
    assert theirs["standard_error"] == pytest.approx(gap.extra["standard_error"], rel=0.5)
    assert "disagrees_with_companion" not in result.flags


def test_between_people_it_agrees_with_the_model_of_conditions_and_sessions() -> None:
    draws = np.random.default_rng(8)
    people = [(f"p{p}", ("baseline", "grad_cam")[p % 2], draws.normal(0, 0.5)) for p in range(40)]
    rows = [
        (
            name,
            condition,
            f"i{i}",
            1,
            float(draws.random() < special.expit(0.3 + own + 0.8 * (condition != "baseline"))),
        )
        for name, condition, own in people
        for i in range(20)
    ]
    data = pd.DataFrame(rows, columns=["participant_id", "condition", "item_id", "session", "correct"])
    ours = crossed(
        data, formula="correct ~ condition + (1|participant) + (1|item)", references={"condition": "baseline"}
    )
    theirs = mixed_model(data, baseline="baseline")
    gap = ours.get("accuracy difference of condition", "grad_cam - baseline")
    assert gap.value == pytest.approx(theirs.get("accuracy difference", "grad_cam").value, abs=2e-3)


def test_gaussian_responses_give_means() -> None:
    draws = np.random.default_rng(9)
    data = simulate(9).assign(log_rt=lambda t: draws.normal(7, 0.3, len(t)) + 0.2 * (t["basis"] == "nmf"))
    result = crossed(data, formula="log_rt ~ basis + (1|participant) + (1|item)", family="gaussian")
    gap = result.get("mean difference of basis", "nmf - neurons")
    assert gap.low <= 0.2 <= gap.high


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda t: t.assign(correct=1.0), "separation"),
        (lambda t: t.assign(participant_id="one"), "undefined"),
        (lambda t: t.assign(correct=np.nan), "undefined"),
    ],
)
def test_what_cannot_be_fitted_is_flagged_and_gives_no_number(change, flag) -> None:
    result = crossed(change(simulate(10, people=6, items=6)), formula=FORMULA)
    assert flag in result.flags
    assert result.estimates == ()


def test_a_column_that_is_missing_is_one_sentence() -> None:
    with pytest.raises(LimenError, match="column 'layer' is missing"):
        crossed(simulate(1, people=4).drop(columns="layer"), formula=FORMULA)


@pytest.mark.long
def test_without_an_effect_it_rejects_at_the_nominal_rate() -> None:
    """400 studies of 16 people and 12 items with slopes of people: 95 % of a binomial lies within .03 to .075."""
    p = [
        crossed(
            simulate(seed, people=16, items=12, effect=0.0, slope_sd=0.5),
            formula="correct ~ basis + (1|participant) + (1|item)",
        )
        .of("accuracy difference of basis")[0]
        .p
        for seed in range(100, 500)
    ]
    assert 0.025 <= float(np.mean(np.array(p) < 0.05)) <= 0.08
