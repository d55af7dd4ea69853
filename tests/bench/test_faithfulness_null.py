"""Random maps score at the null; on planted truth the true map beats a random one, which beats the inverted one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import ScoreResult, explain, null, score
from bench.engine import Engine, Network
from bench.registry import METRICS

QUICK: dict[str, dict[str, Any]] = {
    "deletion": {"steps": 8},
    "insertion": {"steps": 8},
    "insertion_deletion": {"steps": 8},
    "pixel_flipping": {"steps": 8},
    "region_perturbation": {"patch": 4},
    "selectivity": {"patch": 4},
    "irof": {"segments": 16},
    "road": {"percentages": (40,)},
    "mu_fidelity": {"subsets": 40, "side": 8},
    "faithfulness_correlation": {"subsets": 40},
    "monotonicity_correlation": {"samples": 4},
    "infidelity": {"samples": 16},
}
BLIND = {"monotonicity", "sufficiency", "consistency"}
"""Metrics that the order of a map cannot move here, planted in files of their own: monotonicity asks about interactions,
and this network adds its pixels; the other two ask whether the classes of a set differ, and it gives all one class."""
FAITHFULNESS = [
    name
    for name in METRICS.names()
    if METRICS.group(name) == "faithfulness" and METRICS.card(name).of == "maps" and name not in BLIND  # type: ignore[attr-defined]
]
PATCH = (slice(2, 8), slice(6, 14))
IMPUTE = {"road"}
"""Metrics that fill what they remove from its surroundings: of a patch that looks like them they take nothing away."""


class PatchNetwork(nn.Module):
    """Logit 1 is the mean brightness of one patch; nothing else is seen."""

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, :, PATCH[0], PATCH[1]].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(seen), 8 * seen - 2], dim=1)


@pytest.fixture(scope="module")
def patch_engine() -> Engine:
    network = Network(name="patch", module=PatchNetwork(), classes=("no", "yes"), size=16)
    return Engine(network, device="cpu", precision="fp32", batch_size=512)


@pytest.fixture(scope="module")
def noise_images() -> Tensor:
    return torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def visible(name: str, images: Tensor) -> Tensor:
    """Darken all but the patch for the metrics that impute it."""
    if name not in IMPUTE:
        return images
    dark = images / 2
    dark[:, :, PATCH[0], PATCH[1]] += 0.5
    return dark


@pytest.fixture(scope="module")
def true_map() -> Tensor:
    maps = torch.zeros(24, 1, 16, 16)
    maps[:, :, PATCH[0], PATCH[1]] = 1
    return maps + 0.01 * torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_random_maps_score_at_the_null_within_their_interval(
    name: str, patch_engine: Engine, noise_images: Tensor
) -> None:
    """Each seed draws the maps, the null and the metric's own numbers anew.

    A 95 % interval leaves out the truth in 1 of 20 runs; a percentile bootstrap of 24 images in about 1 of 15. Of 20
    runs at that rate, 5 or more would fail with a probability below .01, and the seeds are fixed.
    """
    noise_images = visible(name, noise_images)
    found = [
        score(
            name,
            patch_engine,
            noise_images,
            explain("random", patch_engine, noise_images, 1, seed=1000 + seed),
            1,
            seed=seed,
            null_draws=2,
            **QUICK.get(name, {}),
        )
        for seed in range(20)
    ]
    assert sum(run.at_null for run in found) >= 16
    # No drift in either direction: the mean gain over the runs is within four of its standard errors of 0.
    gains = np.array([run.gain.mean for run in found])
    assert abs(gains.mean()) < 4 * gains.std(ddof=1) / np.sqrt(len(gains))


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_the_true_map_beats_a_random_one_which_beats_the_inverted_one(
    name: str, patch_engine: Engine, noise_images: Tensor, true_map: Tensor
) -> None:
    options, noise_images = QUICK.get(name, {}), visible(name, noise_images)
    floor = null(name, patch_engine, noise_images, 1, **options)

    def run(maps: Tensor) -> ScoreResult:
        return score(name, patch_engine, noise_images, maps, 1, null=floor, **options)

    # Inverted by order and not by sign, which some metrics leave out.
    true, inverted = run(true_map), run(true_map.amax() - true_map)
    assert true.gain.low > 0
    assert inverted.gain.high < 0
    assert not true.at_null
    assert not inverted.at_null


def test_mu_fidelity_does_not_reward_a_map_for_being_positive(patch_engine: Engine, noise_images: Tensor) -> None:
    """With subsets of varying size any positive map would score .7 on a positive network; with a fixed size, none."""
    maps = explain("random", patch_engine, noise_images, 1, seed=9) + 1
    found = score("mu_fidelity", patch_engine, noise_images, maps, 1, null=np.zeros(24), side=8)
    assert abs(found.value.mean) < 0.1
