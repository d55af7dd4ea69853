"""Power by simulation: closed forms where there are some, nominal errors at no effect, and the same numbers however it is run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from analysis.measures.importance_maps import People, Smoothing
from analysis.measures.map_agreement import split_half_ceiling, step_up
from analysis.power import grid, p_value, run_cell, runner, trials_of
from analysis.power.assume import Decision, assume, decision
from analysis.power.cli import power as command
from analysis.power.curve import Curve, Point, detectable
from analysis.power.data import Assumed, Contrast, seen_items, simulate
from analysis.power.files import Analysis, read_power, run_grid, write
from analysis.power.reliability import agreement_of, players_for, pooled_reliability
from analysis.power.shape import Other, Shape, shape_of
from bench.registry import LimenError
from stimuli.study import load_study, resolve

CONFIGS = Path(__file__).parents[2] / "configs" / "studies"
BETWEEN = Shape(
    protocol="intruder", analysis="crossed", factor="condition", levels=("a", "b"), within=False, crossed=True, items=20,
    trials=20, formula="correct ~ condition + (1|participant) + (1|item)",
)  # fmt: skip
AB = Contrast(level="b", reference="a")
TEST = Decision(contrast=AB)


def assumed(shape: Shape = BETWEEN, **sds: float) -> Assumed:
    logits = dict.fromkeys(shape.levels, (0.4,))
    names = {"participant": 0.6, "item": 0.7, **{name.replace("_", ":"): value for name, value in sds.items()}}
    return Assumed(shape=shape, contrast=AB, logits=logits, shifts={}, sds=names)


def test_a_stated_difference_of_accuracies_is_the_one_that_is_simulated():
    held = assumed(item_condition=0.5).with_effect(0.12)
    assert held.difference() == pytest.approx(0.12, abs=1e-9)
    frame = simulate(held, participants=3000, items=400, scale=1.0, stream=np.random.default_rng(0))
    means = frame.groupby("condition")["correct"].mean()
    assert means["b"] - means["a"] == pytest.approx(0.12, abs=0.025)
    assert means["a"] == pytest.approx(held.accuracies()["a"], abs=0.03)


def test_at_scale_zero_both_levels_have_one_accuracy():
    held = replace(assumed().with_effect(0.2), lapse=0.1)
    at = held.accuracies(0.0)
    assert at["a"] == pytest.approx(at["b"])
    assert held.difference(0.0) == 0


def test_against_chance_no_effect_is_the_accuracy_of_guessing_in_the_population():
    shape = replace(BETWEEN, levels=("b",), chance=0.25)
    held = Assumed(shape=shape, contrast=Contrast(level="b", reference=None), logits={"b": (0.3,)}, shifts={},
                   sds={"participant": 1.0, "item": 1.0})  # fmt: skip
    assert held.accuracies(0.0)["b"] == pytest.approx(0.25)


def test_an_effect_beyond_all_accuracies_is_refused():
    with pytest.raises(LimenError, match="allowed are those between"):
        assumed().with_effect(0.7)


def test_every_item_is_seen_equally_often_and_by_nobody_twice():
    seen = seen_items(replace(BETWEEN, trials=7), 12, 21)
    assert all(len(set(row)) == 7 for row in seen.tolist())
    assert set(np.bincount(seen.ravel())) == {4}


@pytest.mark.parametrize(("within", "crossed"), [(False, True), (False, False), (True, True), (True, False)])
def test_the_layout_is_the_one_that_the_shape_says(within, crossed):
    shape = replace(BETWEEN, within=within, crossed=crossed)
    frame = simulate(assumed(shape), participants=6, items=10, scale=1.0, stream=np.random.default_rng(1))
    assert (frame.groupby("participant_id")["condition"].nunique() == (2 if within else 1)).all()
    assert (frame.groupby("item_id")["condition"].nunique() == (2 if crossed else 1)).all()
    assert frame["participant_id"].nunique() == (6 if within else 12)
    assert not frame.duplicated(["participant_id", "item_id", "condition"]).any()


def test_a_slope_has_its_standard_deviation_between_two_levels_and_leaves_the_intercept_alone():
    shape = replace(BETWEEN, within=True)
    held = Assumed(shape=shape, contrast=AB, logits={"a": (0.0,), "b": (0.0,)}, shifts={},
                   sds={"participant": 0.0, "item": 0.0, "participant:condition": 2.0})  # fmt: skip
    wide = replace(held, shape=replace(shape, trials=800))
    frame = simulate(wide, participants=400, items=400, scale=1.0, stream=np.random.default_rng(2))
    share = frame.groupby(["participant_id", "condition"])["correct"].mean().unstack().clip(0.002, 0.998)
    logit = np.log(share / (1 - share))
    assert (logit["b"] - logit["a"]).std() == pytest.approx(2.0, rel=0.12)
    assert logit.mean(axis=1).std() < 0.15


def test_sessions_follow_one_another_and_layers_belong_to_items():
    others = (
        Other(name="session", levels=("1", "2"), place="answer"),
        Other(name="layer", levels=("x", "y"), place="item"),
    )
    frame = simulate(assumed(replace(BETWEEN, others=others)), participants=8, items=20, scale=1.0,
                     stream=np.random.default_rng(3))  # fmt: skip
    assert (frame.groupby("item_id")["layer"].nunique() == 1).all()
    assert (frame.groupby(["participant_id", "session"]).size() == 10).all()
    assert (frame.groupby("item_id")["session"].nunique() == 2).any()


def test_the_curve_finds_a_planted_detectable_effect_and_its_interval_holds_it():
    curve = Curve(sides=2, alpha=0.05)
    truth = (curve.critical + stats.norm.ppf(0.8)) / 2.0
    rng = np.random.default_rng(4)
    scales = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    hits = rng.binomial(4000, curve.power(scales, 2.0, curve.critical))
    points = [Point(scale=float(s), n=4000, rejected=int(h), failed=0) for s, h in zip(scales, hits, strict=True)]
    value, low, high = detectable(points, curve, 0.8)
    assert low < truth < high
    assert value == pytest.approx(truth, rel=0.03)


def test_no_detectable_effect_is_told_where_nothing_was_found():
    points = [Point(scale=s, n=50, rejected=2, failed=0) for s in (0.0, 1.0)]
    assert all(math.isnan(one) for one in detectable(points, Curve(sides=2, alpha=0.05), 0.8))


def test_one_sided_tests_halve_p_in_their_direction_only():
    held = assumed().with_effect(0.15)
    frame = simulate(held, participants=20, items=20, scale=1.0, stream=np.random.default_rng(5))
    both, up, down = (p_value(frame, held, replace(TEST, direction=one)) for one in ("two-sided", "greater", "less"))
    assert up == pytest.approx(both / 2)
    assert down == pytest.approx(1 - both / 2)


def tiny(sims: int = 3):
    others = (Other(name="machine", levels=("right", "wrong"), place="item"),)
    held = assumed(replace(BETWEEN, analysis="agreement", others=others)).with_effect(0.2)
    return grid(held, TEST, {"participants": (6,), "items": (8,)}, sims=sims, seed=1, search=False)


def test_a_cell_is_read_back_instead_of_simulated_again(tmp_path):
    with runner(1) as run:
        first = run_grid(tiny(), run, folder=tmp_path)

    def never(task, scale):
        raise AssertionError("simulated again")

    again = run_grid(tiny(), never, folder=tmp_path)
    assert again[0].points == first[0].points


def test_a_file_that_is_not_whole_is_simulated_again(tmp_path):
    with runner(1) as run:
        first = run_grid(tiny(), run, folder=tmp_path)
        file = next(tmp_path.glob("*.json"))
        file.write_text(file.read_text()[:20])
        again = run_grid(tiny(), run, folder=tmp_path)
    assert again[0].points == first[0].points


@pytest.mark.long
def test_two_processes_give_the_numbers_of_one():
    with runner(1) as run:
        one = run_cell(tiny(4)[0], run)
    with runner(2) as run:
        two = run_cell(tiny(4)[0], run)
    assert one.points == two.points


def test_the_files_hold_assumptions_with_sources_and_refuse_another_analysis(tmp_path):
    with runner(1) as run:
        cells = tuple(run_grid(tiny(), run))
    whole = Analysis(study="s", study_version=1, protocol="intruder", sources={"effect": "given"}, cells=cells)
    write(whole, tmp_path)
    write(whole, tmp_path)
    held = read_power(tmp_path)
    assert held["assumed"]["effect"] == pytest.approx(0.2)
    assert held["assumed"]["sources"] == {"effect": "given"}
    assert held["cells"][0]["power_n"] == 3
    with pytest.raises(LimenError, match="nothing is overwritten"):
        write(replace(whole, study="other"), tmp_path)


@pytest.mark.parametrize(
    "name",
    ["visualization", "basis", "intruder", "subcluster", "agreement", "distinction", "preference", "utility", "oddone"],
)
def test_each_protocols_own_analysis_answers_with_a_p(name):
    study = load_study(CONFIGS / f"{name}.yaml")
    shape = shape_of(resolve(study))
    test = decision(study, shape)
    held = assume(study, shape, test.contrast, effect=0.1).assumed
    frame = simulate(held, participants=12, items=12, scale=1.0, stream=np.random.default_rng(6))
    assert 0 <= p_value(frame, held, test) <= 1


def test_an_analysis_that_is_not_simulated_is_refused_by_name():
    study = load_study(CONFIGS / "clickme.yaml")
    with pytest.raises(LimenError, match="analysis 'clickme' of protocol 'clickme' is not simulated; allowed are"):
        shape_of(resolve(study))
    with pytest.raises(LimenError, match="plan the players of each image by the reliability of their pooled map"):
        shape_of(resolve(study))


def test_people_meet_rules_in_blocks_of_both_kinds_and_none_twice():
    study = load_study(CONFIGS / "oddone.yaml")
    shape = shape_of(resolve(study))
    held = assume(study, shape, decision(study, shape).contrast).assumed
    frame = simulate(held, participants=18, items=9, scale=1.0, stream=np.random.default_rng(0))
    met = frame.drop_duplicates(["participant_id", "rule"])
    assert (met.groupby("participant_id")["composition"].value_counts() == 3).all()
    assert set(met["rule"].value_counts()) == {6}
    assert (frame.groupby(["participant_id", "rule"])["problem"].agg(list).map(tuple) == tuple(range(1, 21))).all()
    assert trials_of(shape, 9) == len(frame) / 18 == 120
    assert (frame.groupby("item_id")["rule"].nunique() == 1).all()


def test_planted_rules_have_the_assumed_accuracies_and_learning():
    study = load_study(CONFIGS / "oddone.yaml")
    shape = shape_of(resolve(study))
    held = replace(assume(study, shape, decision(study, shape).contrast, sds={"rule": 0.3}).assumed, learning=0.0)
    frame = simulate(held, participants=600, items=300, scale=1.0, stream=np.random.default_rng(1))
    means = frame.groupby("composition")["correct"].mean()
    for name, accuracy in held.accuracies().items():
        assert means[name] == pytest.approx(accuracy, abs=0.015)
    steep = simulate(
        replace(held, learning=3.0), participants=200, items=50, scale=1.0, stream=np.random.default_rng(2)
    )
    by = steep.groupby("problem")["correct"].mean()
    assert by[20] - by[1] > 0.3


def test_a_study_of_elementary_rules_alone_has_no_contrast_to_simulate():
    resolved = resolve(load_study(CONFIGS / "oddone.yaml"))
    with pytest.raises(LimenError, match="it has 9 elementary and 0 composed rules in 6 blocks a person"):
        shape_of(replace(resolved, options={**resolved.options, "composed": 0}))


def test_players_reach_their_target_and_one_fewer_does_not():
    for agreement in (0.05, 0.2, 0.41):
        found = players_for(0.9, agreement)
        assert found.reached >= 0.9 > pooled_reliability(agreement, found.needed - 1)
        assert agreement_of(found.reached, found.needed) == pytest.approx(agreement)
    assert pooled_reliability(1 / 3, 2) == pytest.approx(step_up(1 / 3))


def test_simulated_maps_have_the_split_half_ceiling_that_the_formula_says():
    """Every image has a pattern, every player a noise of the same spread around it: two players correlate at a half."""
    draws = np.random.default_rng(5)
    images = [
        People(image_id=f"i{i}", participants=tuple(f"p{p}" for p in range(12)), weights=np.ones(12),
               masks=(draws.normal(size=(24, 24)) + draws.normal(size=(12, 24, 24))).astype(np.float32))
        for i in range(10)
    ]  # fmt: skip
    found = split_half_ceiling(images, Smoothing(kernel=1, sigma=1.0), halves=5)
    assert step_up(float(found.values.mean())) == pytest.approx(pooled_reliability(0.5, 12), abs=0.01)


def test_the_command_tells_the_players_of_a_reveal_game_and_refuses_others():
    call = [str(CONFIGS / "clickme.yaml"), "--reliability", "0.9", "--ceiling", "0.8", "10"]
    result = CliRunner().invoke(command, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    row = result.output.splitlines()[3].split()
    assert row[:2] == ["0.286", "23"]
    refused = CliRunner().invoke(command, [str(CONFIGS / "intruder.yaml"), "--reliability", "0.9"])
    assert isinstance(refused.exception, LimenError) or "importance maps" in refused.output


def test_a_primary_contrast_of_the_study_file_is_taken_and_a_wrong_level_refused():
    study = load_study(CONFIGS / "intruder.yaml")
    shape = shape_of(resolve(study))
    told = study.model_copy(update={"analysis": {"primary": {"level": "nmf", "direction": "greater", "alpha": 0.01}}})
    found = decision(told, shape)
    assert (found.contrast.reference, found.alpha, found.direction) == ("neurons", 0.01, "greater")
    with pytest.raises(LimenError, match="did you mean 'nmf'"):
        decision(study.model_copy(update={"analysis": {"primary": "nfm - neurons"}}), shape)


def test_a_slope_that_the_design_has_not_is_refused():
    study = load_study(CONFIGS / "intruder.yaml")
    shape = shape_of(resolve(study))
    with pytest.raises(LimenError, match="allowed are participant, item"):
        assume(study, shape, decision(study, shape).contrast, sds={"item:condition": 0.3})


def test_the_command_prints_the_grid_and_writes_it(tmp_path):
    call = [str(CONFIGS / "agreement.yaml"), "--participants", "8,12", "--effect", "0.2", "--sims", "4", "--processes", "1",
            "--store", str(tmp_path / "none"), "-o", str(tmp_path / "out")]  # fmt: skip
    result = CliRunner().invoke(command, call, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "Power by simulation" in result.output
    rows = (tmp_path / "out" / "power.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("participants,items,people,trials,power,power_low,power_high,power_n,type_i")


def spread_of_people(held: Assumed, items: int) -> float:
    """Return the standard deviation of people's accuracies within a condition, from very many of them."""
    big = simulate(held, participants=8000, items=items, scale=1.0, stream=np.random.default_rng(7))
    people = big.groupby(["condition", "participant_id"])["correct"].mean()
    return math.sqrt(np.mean([people[name].var(ddof=1) for name in ("a", "b")]))


@pytest.mark.long
def test_power_and_the_detectable_effect_are_those_of_a_t_test_where_people_alone_differ():
    """Agreement is tested by Welch's t over people; without an item effect only people and answers vary."""
    shape = replace(BETWEEN, analysis="agreement", trials=40,
                    others=(Other(name="machine", levels=("right", "wrong"), place="item"),))  # fmt: skip
    held = replace(assumed(shape), sds={"participant": 0.6, "item": 0.0}).with_effect(0.1)
    deviation = spread_of_people(held, 40)
    test = TTestIndPower()
    with runner(1) as run:
        cell = run_cell(
            grid(held, TEST, {"participants": (25,), "items": (40,)}, sims=150, seed=3, search=True)[0], run
        )
    expected = test.power(0.1 / deviation, 25, 0.05)
    assert abs(cell.power.rate - expected) < 3 * math.sqrt(expected * (1 - expected) / 150)
    assert stats.binomtest(cell.type_i.rejected, 150, 0.05).pvalue > 0.01
    assert cell.detectable_low < deviation * test.solve_power(nobs1=25, power=0.8, alpha=0.05) < cell.detectable_high
    assert cell.failed == 0


@pytest.mark.long
def test_the_mixed_models_power_is_the_normal_approximations_and_it_errs_nominally():
    held = assumed(replace(BETWEEN, crossed=True), item_condition=0.0).with_effect(0.12)
    task = grid(held, TEST, {"participants": (30,), "items": (20,)}, sims=40, seed=8, search=False)[0]
    # Items are shared and have no slope, so they cancel in the difference of people's means.
    expected = TTestIndPower().power(0.12 / spread_of_people(held, 20), 30, 0.05)
    with runner(1) as run:
        cell = run_cell(task, run)
    assert abs(cell.power.rate - expected) < 3 * math.sqrt(expected * (1 - expected) / 40)
    assert stats.binomtest(cell.type_i.rejected, 40, 0.05).pvalue > 0.01
