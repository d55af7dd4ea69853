"""The metrics that compare credit with drops, in pixels, wavelets and concepts: exact credit has its closed form in each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain, fit_dictionary, score
from bench.engine import Engine
from bench.spaces import Concepts, Pixels, Space
from bench.spaces.wavelets import Wavelets

CORRELATIONS: dict[str, dict[str, Any]] = {
    "mu_fidelity": {"side": 4, "fraction": 0.4, "subsets": 60},
    "faithfulness_correlation": {"side": 4, "fraction": 0.4, "subsets": 60},
    "faithfulness_estimate": {"side": 4},
    "single_deletion": {"side": 4},
    "sensitivity_n": {"side": 4, "sizes": 3, "subsets": 20},
}
CASES = ["pixels", "wavelets of images", "wavelets of waveforms", "concepts"]
Case = tuple[Engine, Space, Tensor, Tensor]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, engine: Engine, images: Tensor) -> Case:
    """Return an engine, a space in which its logits are additive, inputs, and what each place adds to logit 1."""
    if request.param == "concepts":
        # The head is a mean over positions and a linear layer.
        space: Space = Concepts(fit_dictionary("nmf", engine.tap(images, "stage"), 6), "stage")
        return engine, space, images, explain("gradient_input", engine, images, 1, space=space)
    space = Pixels() if request.param == "pixels" else Wavelets(levels=2)
    if request.param == "wavelets of waveforms":
        images = images[:, :, :4].flatten(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 3))
    linear = Engine(network, device="cpu", precision="fp32")
    return linear, space, images, explain("gradient_input", linear, images, 1, space=space)


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_exact_credit_scores_one_and_inverted_minus_one(case: Case, metric: str) -> None:
    engine, space, images, maps = case
    for credit, expected in ((maps, 1), (-maps, -1)):
        found = score(metric, engine, images, credit, 1, space=space, null=np.zeros(4), seed=1, **CORRELATIONS[metric])
        np.testing.assert_allclose(found.values, expected, atol=5e-3)


def test_exact_credit_is_complete(case: Case) -> None:
    engine, space, images, maps = case
    np.testing.assert_allclose(score("completeness", engine, images, maps, 1, space=space).values, 0, atol=1e-3)


def test_exact_credit_has_no_infidelity_under_patches(case: Case) -> None:
    engine, space, images, maps = case
    options = {"perturbation": "patches", "side": 4}
    exact, half = (
        score("infidelity", engine, images, credit, 1, space=space, null=np.zeros(4), **options).values
        for credit in (maps, maps / 2)
    )
    assert (exact < 1e-6 * half).all()


def test_a_slope_has_no_infidelity_under_noise(case: Case) -> None:
    engine, space, images, _ = case
    slope = space.credit(engine.gradients(images, torch.ones(4, dtype=torch.int64), space=space))
    exact, wrong = (
        score("infidelity", engine, images, credit, 1, space=space, null=np.zeros(4), samples=8).values
        for credit in (slope, torch.zeros_like(slope))
    )
    assert (exact < 1e-6 * wrong).all()


@pytest.mark.parametrize("metric", ["monotonicity", "monotonicity_correlation", "non_sensitivity"])
def test_a_metric_of_single_cells_has_a_value_in_every_space(case: Case, metric: str) -> None:
    engine, space, images, maps = case
    options = {"side": 4} if metric == "monotonicity" else {"side": 4, "samples": 2}
    found = score(metric, engine, images, maps, 1, space=space, null=np.zeros(4), **options)
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize("metric", ["sufficiency", "consistency"])
def test_maps_of_equal_images_are_alike_in_every_space(case: Case, metric: str) -> None:
    engine, space, images, maps = case
    pair = [0, 0]
    found = score(metric, engine, images[pair], maps[pair], 1, space=space, side=4)
    assert found.values.tolist() == [1, 1]
