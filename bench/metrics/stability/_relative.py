"""Relative stability: the relative change of the map over the change of something the network computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from .._noisy import Explainer, Noise, norm, over_copies

EPSILON = 1e-6
"""Stands for a zero that would be divided by, and for a change that is smaller."""
Change = Callable[[Tensor, Tensor], Tensor]
"""`change(image_index (B,), copies (B, C, H, W)) -> (B,)`."""


def relative_stability(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    noise: Noise,
    change: Change,
    over: str,
) -> Measurement:
    """Take the largest ratio over the noisy copies that keep the prediction.

    Parameters
    ----------
    engine, images, targets, maps, explainer, draws : as in the metrics that call it
    noise : Noise
    change : how far a copy is from its image
    over : what `change` measures, for the convention

    Returns
    -------
    Measurement
        Values (N,), NaN where no copy keeps the prediction; `extra['kept']` is the share of those that do.
    """
    predicted = engine.scores(images).argmax(dim=1)

    def measure(index: Tensor, copies: Tensor, others: Tensor) -> Tensor:
        kept = engine.scores(copies).argmax(dim=1) == predicted[index]
        moved = norm(quotient(others - maps[index], maps[index]))
        return torch.where(kept, moved / change(index, copies).clamp(min=EPSILON), torch.nan)

    ratios = over_copies(images, targets, explainer, noise, draws, measure)
    counted = ~ratios.isnan()
    largest = ratios.nan_to_num(nan=-torch.inf, posinf=torch.inf).amax(dim=1)
    return Measurement(
        values=torch.where(counted.any(dim=1), largest, torch.nan),
        convention=(
            f"Euclidean norm of the place-wise relative change of the map (a zero counts as {EPSILON:g}) over {over}, "
            f"largest over those of {noise} that keep the predicted class"
        ),
        extra={"kept": counted.double().mean(dim=1)},
    )


def quotient(difference: Tensor, base: Tensor) -> Tensor:
    """Divide place by place; a zero in the base counts as `EPSILON`."""
    return difference.double() / torch.where(base == 0, EPSILON, base.double())
