"""Which level the others are compared with: the study file's primary contrast before the protocol's habit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.answers.utility import utility_answer
from analysis.battery import primary_results
from analysis.battery.references import references
from analysis.battery.utility import utility_results

TRIALS = pd.DataFrame(
    {"condition": ["a", "b", "c"], "layer": ["early", "late", "late"], "basis": ["neuron", "dictionary", "neuron"]}
)


@pytest.mark.parametrize(
    ("primary", "expected"),
    [
        (None, {"condition": "a", "basis": "neuron"}),
        ("c - b", {"condition": "b", "basis": "neuron"}),
        ("neuron - dictionary", {"condition": "a", "basis": "dictionary"}),
        ({"level": "late", "reference": "early"}, {"condition": "a", "basis": "neuron", "layer": "early"}),
        ("c", {"condition": "a", "basis": "neuron"}),
        ("d - b", {"condition": "a", "basis": "neuron"}),
    ],
)
def test_the_declared_contrast_names_the_reference(primary, expected):
    file = {"analysis": {} if primary is None else {"primary": primary}}
    study = SimpleNamespace(
        baseline="a", conditions=("a", "b", "c"), provenance={"study_file": file}, card={"within": ["basis", "layer"]}
    )
    assert references(study, TRIALS) == expected


def utility_study(primary: object) -> SimpleNamespace:
    """Thirty people a condition, of which each answers ten questions; gradcam is far better than both others."""
    draws = np.random.default_rng(0)
    rows = [
        {"participant_id": f"{name}{p}", "item_id": f"i{i}", "condition": name, "session": 1 + i // 5, "k_seen": 5 * (1 + i // 5),
         "correct": float(draws.random() < share), "model_correct": float(i % 2)}
        for name, share in (("baseline", 0.5), ("control", 0.55), ("gradcam", 0.9)) for p in range(30) for i in range(10)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    return SimpleNamespace(
        baseline="baseline", conditions=("baseline", "control", "gradcam"), within=False, source="participant",
        card={"analysis": "utility"}, provenance={"study_file": {"analysis": {"primary": primary}}}, simulated=False, chance=0.5,
        answers=lambda exclusions=True, scored=True: table,
    )  # fmt: skip


@pytest.mark.parametrize(("primary", "reference"), [(None, "baseline"), ("gradcam - control", "control")])
def test_the_utility_protocol_is_tested_against_the_declared_reference_too(primary, reference):
    study = utility_study(primary)
    results, companion = primary_results(study, exclusions=False)
    others = sorted({"baseline", "control", "gradcam"} - {reference})
    for name in ("mixed_model", companion):
        assert sorted(item.label for item in results[name].of("accuracy difference")) == others
    assert f"condition against {reference} " in results["mixed_model"].method
    told = utility_answer(study, results["mixed_model"])
    assert f"against {reference}" in told.sentence
    assert "gradcam most" in told.sentence


def test_utility_stays_a_ratio_to_the_baseline_whatever_is_declared():
    study = utility_study("gradcam - control")
    labels = {item.label for item in utility_results(study)["utility"].of("utility (ratio_of_means)")}
    assert {"control", "gradcam"} <= labels
