"""Small networks and images that the tests of `bench` share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.engine import Engine, Network


class TinyConv(nn.Module):
    """Two convolutions, global pooling and a linear head: 16-pixel images, 5 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.stage(self.stem(images))).flatten(1))


class Linear(nn.Module):
    """logits = W x + b on flattened pixels: every attribution of it has a closed form."""

    def __init__(self, size: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * size * size, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.flatten(1))


def seeded(build: type[nn.Module], seed: int = 0) -> nn.Module:
    """Build a module whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


@pytest.fixture
def conv_network() -> Network:
    """A seeded convolutional classifier of 16-pixel images."""
    return Network(
        name="tiny",
        module=seeded(TinyConv),
        classes=("a", "b", "c", "d", "e"),
        size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        layer="stage",
    )


@pytest.fixture
def linear_network() -> Network:
    """A seeded linear classifier of 8-pixel images."""
    return Network(name="linear", module=seeded(Linear), classes=("a", "b", "c", "d"), size=8)


@pytest.fixture
def engine(conv_network: Network) -> Engine:
    """An engine on the convolutional classifier, on the CPU in float32, with batches that span images."""
    return Engine(conv_network, device="cpu", precision="fp32", batch_size=7)


@pytest.fixture
def linear_engine(linear_network: Network) -> Engine:
    """An engine on the linear classifier, on the CPU in float32."""
    return Engine(linear_network, device="cpu", precision="fp32", batch_size=7)


@pytest.fixture
def images() -> Tensor:
    """Four normalised images of 16 pixels."""
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def small_images() -> Tensor:
    """Four normalised images of 8 pixels, for the linear classifier."""
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
