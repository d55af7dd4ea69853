"""Ways to let cell masks in [0, 1] change an image, for the methods of sensitivity analysis."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..engine import Engine, Masks
from ..spaces import Space

Perturbation = Literal["inpainting", "blur", "amplitude"]


def cell_scores(
    engine: Engine,
    images: Tensor,
    masks: Masks,
    targets: Tensor,
    *,
    space: Space,
    side: int | None,
    score: Literal["logit", "probability"],
    perturbation: Perturbation = "inpainting",
    sigma: float = 1.0,
) -> Tensor:
    """Return the scores float32 (N, M) of copies changed by cell masks (B, d).

    Parameters
    ----------
    engine, images, masks, targets, space, side, score : as for `Engine.perturbed_scores`
    perturbation : {'inpainting', 'blur', 'amplitude'}
        Fade to the space's baseline, fade to its blur, or add `(m - 1/2) sigma` to all channels of a place.
    sigma : range of the amplitude, in units of the coordinates
    """
    if perturbation == "amplitude":

        def alter(coordinates: Tensor, image_index: Tensor, copy_index: Tensor) -> Tensor:
            weights = space.spread(masks.build(image_index, copy_index), coordinates, side)
            return coordinates + (weights - 0.5) * sigma

        return engine.altered_scores(images, masks.count, alter, targets, space=space, score=score, within=masks.within)
    space = space.rebased("blur") if perturbation == "blur" else space
    return engine.perturbed_scores(images, masks, targets, space=space, score=score, side=side)
