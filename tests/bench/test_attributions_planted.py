"""Planted truth: on a network that looks at one known patch, every method must find it and no control may."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from bench.api import explain
from bench.engine import Engine, Network
from bench.registry import ATTRIBUTIONS

CONTROLS = ("random", "image_gradient")
"""Blind to the network on purpose."""
LAYERS = ("lrp",)
"""Has rules for layers, not for this network's product with a window; its own test plants a patch in weights."""
QUICK: dict[str, dict[str, Any]] = {
    "rise": {"masks": 1000},
    "sobol": {"samples": 8},
    # A third scale has blocks of 16 pixels, twice the patch.
    "wcam": {"levels": 2},
    # The network is linear on these images, so its gradient varies only where strong noise closes a ReLU.
    "vargrad": {"sigma": 3.0},
}
PATCH = (slice(4, 12), slice(18, 26))


class PatchNetwork(nn.Module):
    """Sees the pixels of one patch and nothing else: logit 1 grows with what the filters find there."""

    def __init__(self) -> None:
        super().__init__()
        window = torch.zeros(1, 1, 32, 32)
        window[..., PATCH[0], PATCH[1]] = 1
        self.register_buffer("window", window)
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.conv.weight.data.copy_(torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        seen = self.conv(images * self.window).relu().mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(seen), 8 * (seen - 0.2)], dim=1)


@pytest.fixture(scope="module")
def patch_engine() -> Engine:
    network = Network(name="patch", module=PatchNetwork(), classes=("no", "yes"), size=32, layer="conv")
    return Engine(network, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def noise_images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def area_under_roc(maps: Tensor) -> Tensor:
    """Return for each map the chance that a pixel of the patch outranks a pixel outside it, ties counting half."""
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[PATCH] = True
    ranks = torch.from_numpy(rankdata(maps.flatten(1).numpy(), axis=1))[:, inside.flatten()]
    hits, others = int(inside.sum()), int((~inside).sum())
    return (ranks.sum(dim=1) - hits * (hits + 1) / 2) / (hits * others)


@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS.names() if name not in CONTROLS + LAYERS])
def test_a_method_finds_the_patch_the_network_looks_at(name: str, patch_engine: Engine, noise_images: Tensor) -> None:
    maps = explain(name, patch_engine, noise_images, 1, **QUICK.get(name, {}))
    assert area_under_roc(maps).min() > 0.9


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_does_not_find_the_patch(name: str, patch_engine: Engine) -> None:
    many = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    areas = area_under_roc(explain(name, patch_engine, many, 1))
    # The mean of 64 maps is within four standard errors of chance.
    assert abs(float(areas.mean()) - 0.5) < 4 * float(areas.std()) / 8
