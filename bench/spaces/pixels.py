"""The space of pixels: credit goes to places of the image, in square cells or one by one."""

from __future__ import annotations

import math
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from ..engine import Engine
from ..registry import LimenError, unknown
from .space import Mode

Baseline = Literal["zero", "mean", "blur", "min", "max"]
_BLUR_RADIUS, _BLUR_SIGMA = 5, 5.0


class Pixels:
    """Pixels of the normalised input, all channels of a place together.

    Parameters
    ----------
    baseline : {'zero', 'mean', 'blur', 'min', 'max'}
        What replaces a place: 0 (the mean of the data set, once normalised), the image's own mean of each channel,
        the image under a Gaussian of 11 pixels and sigma 5 (edges repeated), or the image's smallest or largest
        number (Quantus' "black" and "white").
    """

    layer: str | None = None

    def __init__(self, baseline: Baseline = "zero") -> None:
        if baseline not in get_args(Baseline):
            raise unknown("space 'pixels', baseline", baseline, get_args(Baseline))
        self.kind = baseline
        self.name = f"pixels ({baseline})"

    def __repr__(self) -> str:
        return f"Pixels(baseline={self.kind!r})"

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        """Return the images: (N, C, H, W) float32 on the device."""
        return engine.prepare(images)

    def baseline(self, coordinates: Tensor) -> Tensor:
        """Return the baseline image of each image, (N, C, H, W)."""
        if self.kind == "mean":
            return coordinates.mean(dim=(2, 3), keepdim=True).expand_as(coordinates).contiguous()
        if self.kind == "blur":
            return _blur(coordinates)
        if self.kind in ("min", "max"):
            low, high = coordinates.flatten(1).aminmax(dim=1)
            extreme = low if self.kind == "min" else high
            return extreme.reshape(-1, 1, 1, 1).expand_as(coordinates).contiguous()
        return torch.zeros_like(coordinates)

    def rebased(self, baseline: str) -> Pixels:
        """Return the same space with another baseline, by name."""
        return Pixels(baseline=cast(Baseline, baseline))

    def inputs(self, coordinates: Tensor) -> Tensor:
        """Return the coordinates: the network eats pixels."""
        return coordinates

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        """Return side x side, or H x W where `side` is None."""
        height, width = coordinates.shape[-2:]
        if side is None:
            return height * width
        _check_side(side, height, width)
        return side * side

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor:
        """Spread weights (B, d) over the image, (B, 1, H, W).

        Parameters
        ----------
        side : int or None
            Cells a side, d = side x side; None = what d says (H x W: one weight a pixel).
        mode : {'nearest', 'bilinear'}
            Blocks, or weights interpolated between the centres of the cells. Row r belongs to cell r * side // H.
        """
        height, width = coordinates.shape[-2:]
        cells = weights.shape[1]
        if cells == height * width and side is None:
            return weights.reshape(-1, 1, height, width)
        side = math.isqrt(cells) if side is None else side
        _check_side(side, height, width)
        if side * side != cells:
            raise LimenError(f"space 'pixels': given {cells} weights for {side} x {side} cells; they must agree.")
        grid = weights.reshape(-1, 1, side, side)
        if mode == "bilinear":
            return functional.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)
        if mode != "nearest":
            raise unknown("space 'pixels', mode", mode, get_args(Mode))
        rows, columns = _cell_of(grid, height, side), _cell_of(grid, width, side)
        return grid.index_select(2, rows).index_select(3, columns)

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        """Sum credit (N, 1, H, W) in each cell, (N, side x side); None gives each pixel's own, (N, H x W)."""
        height, width = credit.shape[-2:]
        if side is None:
            return credit.reshape(len(credit), height * width)
        _check_side(side, height, width)
        rows, columns = _cell_of(credit, height, side), _cell_of(credit, width, side)
        plane = credit.reshape(len(credit), height, width)
        return (_members(rows, side, plane).T @ plane @ _members(columns, side, plane)).reshape(len(credit), -1)

    def credit(self, gradients: Tensor) -> Tensor:
        """Sum signed values over the channels, (N, 1, H, W)."""
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: int | tuple[int, int]) -> Tensor:
        """Resize credit (N, 1, h, w) bilinearly to (N, 1, H, W)."""
        wanted = (size, size) if isinstance(size, int) else tuple(size)
        if tuple(credit.shape[-2:]) == wanted:
            return credit
        return functional.interpolate(credit, size=wanted, mode="bilinear", align_corners=False)


def _check_side(side: int, height: int, width: int) -> None:
    if not 1 <= side <= min(height, width):
        raise LimenError(
            f"space 'pixels': given {side} cells a side for images of {height} x {width} pixels, "
            f"allowed is 1 to {min(height, width)}."
        )


def _cell_of(like: Tensor, length: int, side: int) -> Tensor:
    """Return the cell (length,) each row or column belongs to, made where `like` is."""
    place = like.new_ones(length, dtype=torch.int64).cumsum(0) - 1
    return place * side // length


def _members(cells: Tensor, side: int, like: Tensor) -> Tensor:
    """Return the indicator matrix (length, side) of cells."""
    numbers = cells.new_ones(side).cumsum(0) - 1
    return (cells[:, None] == numbers).type_as(like)


def _blur(images: Tensor) -> Tensor:
    places = range(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = [math.exp(-(place**2) / (2 * _BLUR_SIGMA**2)) for place in places]
    kernel = images.new_tensor([weight / sum(weights) for weight in weights])
    padded = functional.pad(images, [_BLUR_RADIUS] * 4, mode="replicate")
    channels = images.shape[1]
    tall = kernel.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1)
    wide = kernel.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return functional.conv2d(functional.conv2d(padded, tall, groups=channels), wide, groups=channels)
