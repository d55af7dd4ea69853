"""How far the maps of noisy copies lie from the map of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from ...engine import Draws
from .._noisy import Explainer, Noise, norm, over_copies

PLAIN = "Euclidean distance of the maps after the signed channel sum"


def distances(
    images: Tensor, targets: Tensor, maps: Tensor, *, explainer: Explainer, noise: Noise, draws: Draws
) -> Tensor:
    """Return |phi(x') - phi(x)| for each noisy copy x', (N, samples) float64; the class stays the clean image's."""

    def measure(index: Tensor, copies: Tensor, others: Tensor) -> Tensor:
        return norm(others - maps[index])

    return over_copies(images, targets, explainer, noise, draws, measure)


def relative(distance: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Divide distances (N, samples) by |phi(x)|; NaN where the map is zero, and whether it is (N,)."""
    length = norm(maps)
    zero = length == 0
    return torch.where(zero, torch.nan, length).reciprocal()[:, None] * distance, zero
