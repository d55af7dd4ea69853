"""The space of pixels: credit goes to places of the image, in square cells or one by one; of lines and volumes too."""

from __future__ import annotations

import math
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from ..engine import Engine
from ..engine.precision import exact
from ..registry import unknown
from . import _grid
from .space import Mode, Size

Baseline = Literal["zero", "mean", "blur", "min", "max"]
_BLUR_RADIUS, _BLUR_SIGMA = 5, 5.0
_WHERE = "space 'pixels'"


class Pixels:
    """Pixels of the normalised input, all channels of a place together.

    Images are (N, C, H, W); a waveform (N, C, T) and a volume (N, C, D, H, W) are explained the same way, in cells of
    `side` along each axis.

    Parameters
    ----------
    baseline : {'zero', 'mean', 'blur', 'min', 'max'}
        What replaces a place: 0 (the mean of the data set, once normalised), the image's own mean of each channel,
        the image under a Gaussian of 11 pixels and sigma 5 (edges repeated), or the image's smallest or largest
        number (Quantus' "black" and "white").
    """

    layer: str | None = None
    ordered = True

    def __init__(self, baseline: Baseline = "zero") -> None:
        if baseline not in get_args(Baseline):
            raise unknown("space 'pixels', baseline", baseline, get_args(Baseline))
        self.kind = baseline
        self.name = f"pixels ({baseline})"
        self.identity: str | None = repr(self)

    def __repr__(self) -> str:
        return f"Pixels(baseline={self.kind!r})"

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        """Return the images: (N, C, H, W) float32 on the device."""
        return engine.prepare(images)

    def baseline(self, coordinates: Tensor) -> Tensor:
        """Return the baseline image of each image, (N, C, H, W)."""
        axes = tuple(range(2, coordinates.ndim))
        if self.kind == "mean":
            return coordinates.mean(dim=axes, keepdim=True).expand_as(coordinates).contiguous()
        if self.kind == "blur":
            return _blur(coordinates)
        if self.kind in ("min", "max"):
            low, high = coordinates.flatten(1).aminmax(dim=1)
            extreme = low if self.kind == "min" else high
            return extreme.reshape(-1, 1, *[1] * len(axes)).expand_as(coordinates).contiguous()
        return torch.zeros_like(coordinates)

    def rebased(self, baseline: str) -> Pixels:
        """Return the same space with another baseline, by name."""
        return Pixels(baseline=cast(Baseline, baseline))

    def inputs(self, coordinates: Tensor) -> Tensor:
        """Return the coordinates: the network eats pixels."""
        return coordinates

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        """Return side x side, or H x W where `side` is None."""
        return _grid.cells(tuple(coordinates.shape[2:]), side, _WHERE)

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor:
        """Spread weights (B, d) over the image, (B, 1, H, W).

        Parameters
        ----------
        side : int or None
            Cells a side, d = side x side; None = what d says (H x W: one weight a pixel).
        mode : {'nearest', 'bilinear'}
            Blocks, or weights interpolated between the centres of the cells. Row r belongs to cell r * side // H.
        """
        return _grid.spread(weights, tuple(coordinates.shape[2:]), side, mode, _WHERE)

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        """Sum credit (N, 1, H, W) in each cell, (N, side x side); None gives each pixel's own, (N, H x W)."""
        return _grid.pool(credit, side, _WHERE)

    def credit(self, gradients: Tensor) -> Tensor:
        """Sum signed values over the channels, (N, 1, H, W)."""
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: Size) -> Tensor:
        """Resize credit (N, 1, h, w) bilinearly to (N, 1, H, W)."""
        return _grid.resize(credit, size)


def _blur(images: Tensor) -> Tensor:
    """Pass a Gaussian along each axis; the edges are repeated."""
    axes = images.ndim - 2
    offsets = range(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = [math.exp(-(offset**2) / (2 * _BLUR_SIGMA**2)) for offset in offsets]
    kernel = images.new_tensor([weight / sum(weights) for weight in weights])
    blurred = functional.pad(images, [_BLUR_RADIUS] * 2 * axes, mode="replicate").flatten(0, 1).unsqueeze(1)
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    with exact(images.device):
        for axis in range(axes):
            blurred = convolve(blurred, kernel.reshape(1, 1, *(-1 if one == axis else 1 for one in range(axes))))
    return blurred.reshape(images.shape)
