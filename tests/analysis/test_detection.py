"""Sensitivity and thresholds: planted d', bias and thresholds come back, each person by the closed form, refusals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.figures import pictures_of
from analysis.measures.psychophysics import m_afc_accuracy
from analysis.models.detection import detection, sensitivities
from analysis.models.psychometric import psychometric
from bench.registry import LimenError


def yes_no_trials(
    seed: int = 0, *, people: int = 24, trials: int = 200, gain: float = 0.8, bias: float = 0.4
) -> pd.DataFrame:
    """Everyone answers both conditions; d' is 1 and 1 + gain, the criterion `bias`."""
    draws = np.random.default_rng(seed)
    rows = []
    for p in range(people):
        for name, sensitivity in (("baseline", 1.0), ("maps", 1.0 + gain)):
            there = draws.integers(0, 2, trials)
            said = sensitivity * (there - 0.5) + draws.normal(0, 1, trials) > bias
            rows.append(pd.DataFrame({"participant_id": f"p{p}", "condition": name, "expected": np.where(there, "yes", "no"),
                                      "response": np.where(said, "yes", "no"), "correct": (said == (there == 1)) * 1.0}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_planted_sensitivity_and_bias_come_back() -> None:
    result = detection(yes_no_trials(), signal="yes")
    for name, value in (("baseline", 1.0), ("maps", 1.8)):
        item = result.get("d prime", name)
        assert item.low < value < item.high
        assert item.n == 24
        bias = result.get("criterion", name)
        assert bias.low < 0.4 < bias.high
        assert bias.p < 0.01
    gap = result.get("d prime difference", "maps - baseline")
    assert gap.low < 0.8 < gap.high
    assert gap.interval == "paired t"


def test_each_persons_value_is_the_closed_form_with_the_correction() -> None:
    data = yes_no_trials(1, people=2, trials=30)
    points = sensitivities(data, "yes/no", signal="yes")
    part = data[(data["participant_id"] == "p1") & (data["condition"] == "maps")]
    signal = part["expected"] == "yes"
    said = part["response"] == "yes"
    rates = [((said & side).sum() + 0.5) / (side.sum() + 1) for side in (signal, ~signal)]
    mine = points[(points["participant_id"] == "p1") & (points["condition"] == "maps")].iloc[0]
    assert mine["d_prime"] == pytest.approx(stats.norm.ppf(rates[0]) - stats.norm.ppf(rates[1]))
    assert mine["criterion"] == pytest.approx(-(stats.norm.ppf(rates[0]) + stats.norm.ppf(rates[1])) / 2)


def test_two_positions_are_a_forced_choice_with_a_bias_of_side() -> None:
    data = yes_no_trials(2)
    data = data.assign(
        option_position=(data["response"] == "no").astype(int), expected_position=(data["expected"] == "no").astype(int)
    )
    result = detection(data.drop(columns=["response", "expected"]))
    assert result.facts["task"] == "2afc"
    plain = detection(data, signal="yes")
    assert result.get("d prime", "maps").value == pytest.approx(plain.get("d prime", "maps").value / math.sqrt(2))
    assert result.get("criterion", "maps").value == pytest.approx(plain.get("criterion", "maps").value)
    assert "bias of side" in result.method


def test_among_more_alternatives_accuracy_gives_the_sensitivity() -> None:
    draws = np.random.default_rng(3)
    data = yes_no_trials(3, people=12, trials=500)
    share = data["condition"].map({"baseline": m_afc_accuracy(0.8, 4), "maps": m_afc_accuracy(1.5, 4)})
    result = detection(data.assign(correct=(draws.random(len(data)) < share) * 1.0), task="m-afc", alternatives=4)
    for name, value in (("baseline", 0.8), ("maps", 1.5)):
        assert result.get("d prime", name).value == pytest.approx(value, abs=0.05)
    assert result.of("criterion") == ()


def test_people_below_chance_are_counted_and_named() -> None:
    data = yes_no_trials(4, people=6)
    data.loc[data["participant_id"] == "p0", "correct"] = 0.0
    result = detection(data, task="m-afc")
    assert result.facts["below_chance"] == 2
    assert "undefined" in result.flags
    assert result.get("d prime", "maps").n == 5


def test_without_answers_of_both_kinds_there_is_no_sensitivity() -> None:
    result = detection(yes_no_trials(5, people=3).assign(expected="yes"), signal="yes")
    assert result.flags == ("undefined",)
    assert result.estimates == ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"task": "yes-no"}, "yes/no"),
        ({"task": "yes/no"}, "the expected answer that is the signal"),
        ({"task": "2afc"}, "column 'option_position' is missing"),
        ({"task": "m-afc", "alternatives": 1}, "allowed is 2 or more"),
    ],
)
def test_what_is_no_task_is_one_sentence(options, text) -> None:
    with pytest.raises(LimenError, match=text):
        detection(yes_no_trials(6, people=2), **options)


def graded(seed: int = 0, *, people: int = 8, trials: int = 150, shift: float = 0.5) -> pd.DataFrame:
    """Thresholds are 0 and -`shift`, plus each person's own; 3 % lapses."""
    draws = np.random.default_rng(seed)
    rows = []
    for p in range(people):
        own = draws.normal(0, 0.1)
        for name, at in (("baseline", 0.0), ("maps", -shift)):
            x = draws.choice(np.linspace(-1.5, 1.5, 7), trials)
            right = 0.5 + (0.5 - 0.03) * stats.norm.cdf(2 * (x - at - own))
            rows.append(pd.DataFrame({"participant_id": f"p{p}", "condition": name, "stimulus_level": x,
                                      "correct": (draws.random(trials) < right) * 1.0}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_planted_thresholds_come_back_by_each_persons_function() -> None:
    result = psychometric(graded())
    gap = result.get("threshold difference", "maps - baseline")
    assert gap.low < -0.5 < gap.high < 0
    item = result.get("threshold", "maps")
    truth = -0.5 + stats.norm.ppf((0.75 - 0.5) / 0.47) / 2
    assert item.low < truth < item.high
    assert item.n == 8
    assert item.extra["deviance_p"] > 0.01
    assert 0 <= item.extra["lapse"] <= 0.06
    levels = [one for one in result.of("accuracy at level") if one.label == "maps"]
    data = graded().query("condition == 'maps'")
    for one in levels:
        rows = data[data["stimulus_level"] == one.extra["level"]]
        assert one.value == pytest.approx(rows.groupby("participant_id")["correct"].mean().mean())
        assert one.low <= one.value <= one.high
    curve = result.facts["curves"]["maps"]
    assert np.interp(item.value, curve["level"], curve["accuracy"]) == pytest.approx(0.75, abs=0.03)
    assert pictures_of(result)[0].name == "psychometric_psychometric"


def test_few_answers_a_person_are_pooled_with_a_bootstrap_over_people() -> None:
    result = psychometric(graded(1, people=10, trials=36))
    gap = result.get("threshold difference", "maps - baseline")
    assert gap.interval == "bootstrap over participants"
    assert gap.low < -0.5 < gap.high


def test_accuracy_that_does_not_rise_has_no_threshold() -> None:
    data = graded(2, people=4, trials=20).assign(correct=lambda t: np.arange(len(t)) % 2 * 1.0)
    assert "undefined" in psychometric(data).all_flags()


def test_no_graded_stimulus_is_flagged_and_an_odd_target_is_one_sentence() -> None:
    assert psychometric(graded(3).drop(columns="stimulus_level")).flags == ("undefined",)
    with pytest.raises(LimenError, match=r"allowed is between 0\.500 and 0\.94"):
        psychometric(graded(3), target=0.4)
