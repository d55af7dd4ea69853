"""Curves of the score while places are removed or inserted in the order of a map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...spaces import Space


def ranks(maps: Tensor, draws: list[Draws]) -> Tensor:
    """Rank the places of each map, largest credit = 0; ties fall in an order drawn for the image.

    A rectified map is zero over wide areas: broken by position, its ties would delete the top of the image first.

    Parameters
    ----------
    maps : (N, 1, *places)
    draws : N sources of random numbers, one an image

    Returns
    -------
    (N, 1, *places) int64
    """
    flat = maps.flatten(1)
    shuffled = torch.stack([own.permutation(flat.shape[1]) for own in draws])
    order = flat.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    first_to_last = shuffled.gather(1, order)
    places = torch.ones_like(first_to_last).cumsum(dim=1) - 1
    return torch.empty_like(first_to_last).scatter_(1, first_to_last, places).reshape(maps.shape)


def curve(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    steps: int,
    score: Literal["logit", "probability"],
    insert: bool,
) -> Measurement:
    """Measure the area under the score against the fraction of places touched, best credit first."""
    rank = ranks(maps, draws.for_images(images))
    places = rank[0].numel()
    counts = sorted({step * places // steps for step in range(steps + 1)})
    touched = maps.new_tensor(counts)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        threshold = touched[mask_index].reshape(-1, *[1] * (rank.ndim - 1))
        chosen = rank[image_index] < threshold
        return (chosen if insert else ~chosen).type_as(maps)

    heights = engine.perturbed_scores(images, Masks.lazy(len(counts), build), targets, space=space, score=score)
    fractions = touched / places
    return Measurement(
        values=torch.trapezoid(heights.double(), fractions.double(), dim=1),
        curve_x=fractions,
        curve_y=heights,
        convention=(
            f"{score}; {'inserted into' if insert else 'replaced by'} the baseline '{space.name}' in {len(counts) - 1} "
            "steps equal in places, all channels at once, most relevant first, ties at random; trapezoid over the "
            "fraction touched, both ends included"
        ),
    )
