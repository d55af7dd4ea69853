"""Noisy copies of images, and what an explainer says of them: the loop behind stability and smoothed randomisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..engine import Draws

AT_ONCE = 64
"""Most copies an explainer is given in one call: memory does not grow with their number."""
Kind = Literal["uniform", "positive", "normal"]
Explainer = Callable[..., Tensor]
Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`measure(image_index (B,), copies (B, C, H, W), maps (B, 1, H, W)) -> (B,)`."""


@dataclass(frozen=True)
class Noise:
    """Additive noise on the normalised image.

    Attributes
    ----------
    kind : 'uniform' in [-radius, radius), 'positive' in [0, radius), or 'normal' with standard deviation `radius`
    radius : in normalised units
    samples : copies an image
    relative : the radius is a share of each image's range (largest minus smallest number)
    """

    kind: Kind
    radius: float
    samples: int
    relative: bool = False

    def draw(self, stream: Draws, shape: tuple[int, ...]) -> Tensor:
        """Draw noise of radius 1."""
        if self.kind == "normal":
            return stream.normal(*shape)
        drawn = stream.uniform(*shape)
        return drawn if self.kind == "positive" else 2 * drawn - 1

    def sizes(self, images: Tensor) -> Tensor:
        """Return the radius for each image, (N,)."""
        values = images.flatten(1)
        spread = values.amax(dim=1) - values.amin(dim=1) if self.relative else torch.ones_like(values[:, 0])
        return self.radius * spread

    def __str__(self) -> str:
        size = f"{self.radius:g}"
        spread = {"uniform": f"U(-{size}, {size})", "positive": f"U(0, {size})", "normal": f"N(0, {size}^2)"}[self.kind]
        unit = " in units of the image's range" if self.relative else ""
        return f"{self.samples} copies with {spread} noise{unit} on the normalised image"


def batches(images: Tensor, noise: Noise, draws: Draws) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (image index (B,), copies (B, C, H, W)), at most `AT_ONCE` of them, copy after copy of all images.

    The noise is keyed by each image's content: batch mates, their order and the method change no copy.
    """
    streams = draws.for_images(images)
    sizes = noise.sizes(images)
    index: list[int] = []
    copies: list[Tensor] = []
    total = noise.samples * len(images)
    for item in range(total):
        number = item % len(images)
        index.append(number)
        copies.append(images[number] + sizes[number] * noise.draw(streams[number], tuple(images.shape[1:])))
        if len(index) == AT_ONCE or item == total - 1:
            yield sizes.new_tensor(index, dtype=torch.int64), torch.stack(copies)
            index, copies = [], []


def over_copies(
    images: Tensor, targets: Tensor, explainer: Explainer, noise: Noise, draws: Draws, measure: Measure
) -> Tensor:
    """Explain noisy copies, with the class of the clean image, and measure each: (N, samples) float64."""
    parts = [
        measure(index, copies, explainer(copies, targets[index])).double()
        for index, copies in batches(images, noise, draws)
    ]
    return torch.cat(parts).unflatten(0, (noise.samples, len(images))).T


def norm(values: Tensor) -> Tensor:
    """Return the Euclidean norm of each item, (B,) float64."""
    return values.double().flatten(1).norm(dim=1)
