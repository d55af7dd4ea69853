"""The zoo's own networks, as the recipes they are trained from: same recipe, same network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ..engine.training import initialised
from .pictures import IMAGES
from .resnet import ResidualNetwork

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
WIDTHS = {"resnet": (16, 48, 128, 240), "tiny": (8, 12, 16, 28)}
STRIDES = {32: (1, 2, 2, 2, 1), 64: (2, 1, 2, 2, 1)}
"""Strides of stem and stages by picture size."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a trained network.

    Attributes
    ----------
    architecture : key of `WIDTHS`
    images : name of an image set
    size : side of its pictures in pixels
    train : number of training pictures; None takes the whole split
    epochs : 0 leaves the network as initialised (the untrained control)
    floor : test accuracy below which training has failed
    seed : of initialisation, order and augmentation
    deletion : cells a side of a grid: half of the training pictures lose one random cell, set to the normalised 0, so
        that a deleted cell is nothing new to the network (IDSDS, arXiv:2407.11910); 0 deletes nothing
    """

    architecture: str
    images: str
    size: int
    train: int | None = None
    epochs: int = 0
    batch_size: int = 128
    learning_rate: float = 3e-3
    flip: bool = False
    floor: float = 0.0
    seed: int = 0
    deletion: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what the cache key is made of, the version of the pictures included."""
        facts = asdict(self)
        # A recipe without deletion is what it was before there was any, and so is its key.
        if not self.deletion:
            del facts["deletion"]
        facts["widths"] = list(WIDTHS[self.architecture])
        facts["strides"] = list(STRIDES[self.size])
        facts["normalisation"] = [*MEAN, *STD]
        facts["images_version"] = IMAGES.card(self.images).version
        return facts

    def build(self, classes: int) -> nn.Module:
        """Return the network with fresh, seeded weights; the caller's random state is left alone."""
        widths, strides = WIDTHS[self.architecture], STRIDES[self.size]
        return initialised(lambda: ResidualNetwork(classes, widths, strides), self.seed)


RECIPES: dict[str, Recipe] = {
    "resnet@digits": Recipe(architecture="resnet", images="digits", size=32, epochs=6, floor=0.95),
    "resnet@scenes": Recipe(
        architecture="resnet", images="scenes", size=64, train=8000, epochs=3, batch_size=64, flip=True, floor=0.9
    ),
    "resnet@scenes_biased": Recipe(
        architecture="resnet", images="scenes_biased", size=64, train=2000, epochs=3, flip=True, floor=0.95
    ),
    "tiny@digits": Recipe(
        architecture="tiny", images="digits", size=32, epochs=4, batch_size=64, learning_rate=1e-2, floor=0.85
    ),
    "resnet@scenes_deletion": Recipe(
        architecture="resnet",
        images="scenes",
        size=64,
        train=8000,
        epochs=3,
        batch_size=64,
        flip=True,
        floor=0.9,
        deletion=4,
    ),
    "tiny@digits_deletion": Recipe(
        architecture="tiny",
        images="digits",
        size=32,
        epochs=6,
        batch_size=64,
        learning_rate=1e-2,
        floor=0.85,
        deletion=4,
    ),
    "untrained@digits": Recipe(architecture="resnet", images="digits", size=32, seed=1),
    "untrained@scenes": Recipe(architecture="resnet", images="scenes", size=64, seed=1),
    "untrained@scenes_biased": Recipe(architecture="resnet", images="scenes_biased", size=64, seed=1),
}
