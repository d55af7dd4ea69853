"""Regions of an image, square or not, ranked by the mean credit of their places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Draws, Engine
from ...registry import LimenError
from ...spaces import Space
from ._curves import ranks


def check_pixels(space: Space, engine: Engine, images: Tensor, where: str, instead: str = "") -> None:
    """Refuse a space whose coordinates are not the images: what looks at neighbours means nothing elsewhere.

    Raises
    ------
    LimenError
        With `where` in front and what is allowed `instead` behind.
    """
    coordinates = space.coordinates(engine, images)
    same = images.ndim == 4 and coordinates.shape == images.shape
    if not same or not (images.is_meta or torch.equal(coordinates, images)):
        raise LimenError(
            f"{where}: given the space '{space.name}', allowed is one whose coordinates are the pixels{instead}."
        )


def patches(like: Tensor, width: int) -> tuple[Tensor, int]:
    """Number the patches of `width` places a side of (N, 1, *places); the last ones of an axis may be smaller.

    Returns
    -------
    labels (*places,) int64, and how many patches there are
    """
    cells = [_places(like, length) // width for length in like.shape[2:]]
    return _numbered(cells, [-(-length // width) for length in like.shape[2:]])


def grid(like: Tensor, sides: Sequence[int]) -> tuple[Tensor, int]:
    """Number the cells of a grid over (N, 1, *places), `sides` of them along each axis, as even as they can be."""
    lengths = like.shape[2:]
    return _numbered(
        [_places(like, length) * side // length for length, side in zip(lengths, sides, strict=True)], sides
    )


def region_ranks(maps: Tensor, labels: Tensor, count: int, draws: list[Draws]) -> tuple[Tensor, Tensor]:
    """Rank each place by its region's mean credit, largest = 0, ties between regions in an order drawn for the image.

    Parameters
    ----------
    maps : (N, 1, *places)
    labels : (*places,) or (N, *places) int64 below `count`
    count : regions an image; those without a place rank last
    draws : one an image

    Returns
    -------
    rank (N, 1, *places) int64, and how many regions (N,) have a place
    """
    flat = maps.flatten(1).double()
    where = labels.reshape(-1, flat.shape[1]).expand_as(flat)
    nothing = flat.new_zeros(len(flat), count)
    size = nothing.scatter_add(1, where, torch.ones_like(flat))
    # In float32: sums that differ by the order of their terms alone stay ties.
    mean = (nothing.scatter_add(1, where, flat) / size).float().masked_fill(size == 0, -torch.inf)
    rank = ranks(mean[:, None], draws)[:, 0]
    return rank.gather(1, where).reshape(maps.shape), (size > 0).sum(dim=1)


def _places(like: Tensor, length: int) -> Tensor:
    return like.new_ones(length, dtype=torch.int64).cumsum(0) - 1


def _numbered(cells: Sequence[Tensor], sides: Sequence[int]) -> tuple[Tensor, int]:
    """Join the cell of each place along each axis to one number."""
    labels, count = cells[0], sides[0]
    for cell, side in zip(cells[1:], sides[1:], strict=True):
        labels, count = labels[..., None] * side + cell, count * side
    return labels, count
