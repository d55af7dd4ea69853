"""Square cells on a grid of places, in one, two or three dimensions: counting, spreading, pooling, resizing."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from ..registry import LimenError, unknown
from .space import Mode, Size

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""How the library calls linear interpolation, by the number of axes."""


def cells(places: tuple[int, ...], side: int | None, where: str) -> int:
    """Return side cells along each axis, multiplied; None counts the places.

    Raises
    ------
    LimenError
        If an axis has fewer places than cells.
    """
    if side is None:
        return math.prod(places)
    if not 1 <= side <= min(places):
        raise LimenError(
            f"{where}: given {side} cells a side for {' x '.join(map(str, places))} places, "
            f"allowed is 1 to {min(places)}."
        )
    return int(side ** len(places))


def spread(weights: Tensor, places: tuple[int, ...], side: int | None, mode: Mode, where: str) -> Tensor:
    """Spread cell weights (B, d) over the places, (B, 1, *places); `side` None = what d says.

    Raises
    ------
    LimenError
        If the weights are not one a cell, or the mode is unknown.
    """
    count, axes = weights.shape[1], len(places)
    if side is None and count == math.prod(places):
        return weights.reshape(-1, 1, *places)
    side = _root(count, axes) if side is None else side
    if cells(places, side, where) != count:
        shape = " x ".join([str(side)] * axes)
        raise LimenError(f"{where}: given {count} weights for {shape} cells; they must agree.")
    grid = weights.reshape(-1, 1, *[side] * axes)
    if mode == "bilinear":
        return functional.interpolate(grid, size=places, mode=LINEAR[axes], align_corners=False)
    if mode != "nearest":
        raise unknown(f"{where}, mode", mode, get_args(Mode))
    # The last axis first, while there is little of it: the others then copy whole rows.
    for axis in range(axes + 1, 1, -1):
        grid = grid.index_select(axis, _cell_of(grid, places[axis - 2], side))
    return grid


def pool(credit: Tensor, side: int | None, where: str) -> Tensor:
    """Sum credit (N, 1, *places) in each cell, (N, d)."""
    places = tuple(credit.shape[2:])
    cells(places, side, where)
    found = credit.reshape(len(credit), *places)
    if side is None:
        return found.flatten(1)
    for length in places:
        found = torch.tensordot(found, _members(_cell_of(found, length, side), side, found), dims=([1], [0]))
    return found.flatten(1)


def resize(maps: Tensor, size: Size) -> Tensor:
    """Resize maps (N, c, *places) linearly to the size asked for; one number means that many places along each axis."""
    axes = maps.ndim - 2
    wanted = (size,) * axes if isinstance(size, int) else tuple(size)
    if tuple(maps.shape[2:]) == wanted:
        return maps
    return functional.interpolate(maps, size=wanted, mode=LINEAR[axes], align_corners=False)


def _root(count: int, axes: int) -> int:
    """Return the largest side whose power is at most `count`."""
    side = round(count ** (1 / axes))
    return side if side**axes <= count else side - 1


def _cell_of(like: Tensor, length: int, side: int) -> Tensor:
    """Return the cell (length,) each place of an axis belongs to, made where `like` is."""
    place = like.new_ones(length).long().cumsum(0) - 1
    return place * side // length


def _members(cell_of: Tensor, side: int, like: Tensor) -> Tensor:
    """Return the indicator matrix (length, side) of cells."""
    numbers = cell_of.new_ones(side).cumsum(0) - 1
    return (cell_of[:, None] == numbers).type_as(like)
