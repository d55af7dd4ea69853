"""How natural pictures look: their colours and the mean magnitude of their spectrum, measured on an image set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine import Engine
from ..engine.pictures import fit
from ..registry import LimenError

_EDGE = 0.01
"""Pixel values are held this far from black and white, where the logit has no end."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Natural:
    """The colours of an image set, and its spectrum at one size.

    A *buffer* (n, 3, S, S) is a picture whose logits were centred and whose channels were decorrelated: `paint` and
    `unpaint` go between the two and are each other's inverse within the edges of the range.

    Attributes
    ----------
    mean : float32 (3,)
        Mean logit of the pixels, by channel.
    mix : float32 (3, 3)
        Symmetric square root of the covariance of the channels' logits.
    magnitude : float32 (3, S, S // 2 + 1)
        Mean over the pictures of |rfft2| of their buffers.
    count : number of pictures that it was measured on; 0 = none, grey noise with a spectrum of 1 / f
    """

    mean: Tensor
    mix: Tensor
    magnitude: Tensor
    count: int

    @property
    def size(self) -> int:
        """Side S of the pictures, in pixels."""
        return int(self.magnitude.shape[-2])

    def paint(self, buffer: Tensor) -> Tensor:
        """Turn buffers (n, 3, S, S) into pictures in 0 .. 1."""
        mixed = torch.einsum("ij,njhw->nihw", self.mix, buffer)
        return torch.sigmoid(mixed + self.mean.reshape(1, 3, 1, 1))

    def unpaint(self, pictures: Tensor) -> Tensor:
        """Turn pictures in 0 .. 1 into buffers; values are held a hundredth from black and white."""
        centred = torch.logit(pictures, eps=_EDGE) - self.mean.reshape(1, 3, 1, 1)
        return torch.einsum("ij,njhw->nihw", torch.linalg.inv(self.mix), centred)

    def spectrum_error(self, pictures: Tensor) -> Tensor:
        """Return, per picture (n,), the mean over bins of |log magnitude - log natural magnitude|, zero bins left out."""
        found = torch.fft.rfft2(self.unpaint(pictures)).abs()
        apart = (found.clamp(min=1e-6).log() - self.magnitude.clamp(min=1e-6).log()).abs()
        counted = (self.magnitude > 0).expand_as(apart)
        counted = counted.clone()
        counted[..., 0, 0] = False
        return torch.where(counted, apart, 0.0).flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1)


def frequencies(size: int, beside: Tensor) -> Tensor:
    """Return the length of each bin's frequency in cycles a pixel, (size, size // 2 + 1)."""
    down = torch.fft.fftfreq(size).type_as(beside)[:, None]
    across = torch.fft.rfftfreq(size).type_as(beside)[None, :]
    return torch.sqrt(down**2 + across**2)


def neutral(engine: Engine, size: int) -> Natural:
    """Return grey colours and a spectrum of 1 / f, for methods that are given no image set."""
    one = engine.place(torch.ones(1)).float()
    magnitude = size / frequencies(size, one).clamp(min=1 / size)
    magnitude[0, 0] = 0
    return Natural(one.new_zeros(3), torch.eye(3).type_as(one), magnitude.expand(3, -1, -1).contiguous(), 0)


def natural(engine: Engine, pictures: np.ndarray, size: int) -> Natural:
    """Measure colours and spectrum in two sweeps over the pictures.

    Parameters
    ----------
    engine : Engine, on whose device it is measured
    pictures : uint8 (N, H, W, 3), cropped to a square and resized to `size`
    size : side of the pictures to be made, in pixels

    Raises
    ------
    LimenError
        If there are fewer than two pictures, or they have no colour to speak of.
    """
    given: Any = pictures
    if getattr(given, "ndim", 0) != 4 or given.shape[-1] != 3 or len(given) < 2:
        raise LimenError(
            f"natural pictures: given {getattr(given, 'shape', type(given).__name__)}, allowed are at least two "
            "pictures uint8 (N, H, W, 3)."
        )
    total, square, pixels = None, None, 0
    for part in _parts(engine, pictures, size):
        flat = torch.logit(part, eps=_EDGE).movedim(1, -1).reshape(-1, 3).double()
        total = flat.sum(dim=0) if total is None else total + flat.sum(dim=0)
        square = flat.T @ flat if square is None else square + flat.T @ flat
        pixels += len(flat)
    assert total is not None
    assert square is not None
    mean = total / pixels
    covariance = square / pixels - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    if float(values[-1]) < 1e-8:
        raise LimenError("natural pictures: all pixels have one colour; allowed are pictures with something on them.")
    # Grey pictures have no spread along two axes of colour; a little of it keeps the square root invertible.
    roots = values.clamp(min=1e-4 * float(values[-1])).sqrt()
    mix = (vectors * roots) @ vectors.T
    colours = Natural(mean.float(), mix.float(), mean.new_zeros(3, size, size // 2 + 1).float(), 0)
    magnitude = torch.zeros_like(colours.magnitude, dtype=torch.float64)
    for part in _parts(engine, pictures, size):
        magnitude += torch.fft.rfft2(colours.unpaint(part)).abs().double().sum(dim=0)
    return Natural(colours.mean, colours.mix, (magnitude / len(pictures)).float(), len(pictures))


def _parts(engine: Engine, pictures: np.ndarray, size: int) -> Any:
    for start in range(0, len(pictures), _AT_ONCE):
        yield square_pictures(engine, pictures[start : start + _AT_ONCE], size)


def square_pictures(engine: Engine, pictures: np.ndarray, size: int) -> Tensor:
    """Put pictures uint8 (n, H, W, 3) on the device as float32 (n, 3, size, size) in 0 .. 1, cropped centrally."""
    return fit(engine.place(np.ascontiguousarray(pictures)).movedim(-1, 1), size) / 255
