"""Which level the others are compared with: the study file's primary contrast before the protocol's habit."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.battery.references import references

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
