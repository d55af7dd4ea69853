"""How much the network reacts to each cell: the square change of the score while the cell alone holds other values."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..engine import Draws, Engine
from ..spaces import Space
from ..spaces.space import cell_boxes

Range = tuple[float, float]


class Reaction(NamedTuple):
    """Mean square change (N, d) float64 for each cell, and the size (N, 1) of the scores behind it."""

    square: Tensor
    rounding: Tensor


def reaction(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: int | None,
    samples: int,
    score: Literal["logit", "probability"],
    within: Range | None = None,
) -> Reaction:
    """Average the square change of the score over uniform replacements of each cell.

    Parameters
    ----------
    engine, images, targets, space : as for a metric
    draws : Draws; the replacements are keyed by each image's content
    side : cells along each axis; None = places
    samples : replacements a cell
    score : 'logit' or 'probability'
    within : smallest and largest replacement; None = those of each image and channel
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    boxes = cell_boxes(space, coordinates, side)
    numbers = coordinates.new_ones(cells, dtype=torch.int64).cumsum(dim=0) - 1
    streams = draws.for_images(images)
    low, high = _limits(coordinates, within)
    ask = partial(engine.altered_scores, images, targets=targets, space=space, score=score)
    clean = ask(1, lambda held, image, copy: held, key="unchanged").double()
    square, size = clean.new_zeros(len(clean), cells), clean.abs()
    for sample in range(samples):
        # One picture of noise serves all cells: they do not overlap, so each still has values of its own.
        noise = low + (high - low) * torch.stack([stream.uniform(*coordinates.shape[1:]) for stream in streams])

        def alter(held: Tensor, image: Tensor, copy: Tensor, noise: Tensor = noise) -> Tensor:
            alone = (numbers == copy[:, None]).type_as(held)
            return torch.where(space.spread(alone, held, side) > 0, noise[image], held)

        key = f"replacement {sample} of each cell, {draws!r}, {side}, {within}"
        changed = ask(cells, alter, key=key, within=boxes).double()
        square = square + (clean - changed).square() / samples
        size = size.maximum(changed.abs().amax(dim=1, keepdim=True))
    return Reaction(square, size)


def _limits(coordinates: Tensor, within: Range | None) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest replacement, (N, C, 1, ...) each."""
    flat = coordinates.flatten(2)
    shape = (*coordinates.shape[:2], *[1] * (coordinates.ndim - 2))
    low, high = flat.amin(dim=2).reshape(shape), flat.amax(dim=2).reshape(shape)
    if within is None:
        return low, high
    return torch.full_like(low, within[0]), torch.full_like(high, within[1])
