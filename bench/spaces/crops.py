"""Crops of pictures on a regular grid: what the network sees, where each was cut, and its pooled activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..engine import Engine
from ..engine.pictures import fit
from ..registry import LimenError

_AT_ONCE = 256
"""Crops in memory at the size of the network's input."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Rectangles of pictures.

    Attributes
    ----------
    pictures : uint8 (N, H, W, 3)
    places : int64 (n, 3), picture, top and left of each crop; picture by picture, as many of each
    size : height and width of a crop
    """

    pictures: np.ndarray
    places: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.places)

    def cut(self, index: np.ndarray) -> np.ndarray:
        """Return crops as they are in the pictures, uint8 (n, h, w, 3)."""
        height, width = self.size
        return np.stack([self.pictures[i, y : y + height, x : x + width] for i, y, x in self.places[index]])

    def enlarged(self, engine: Engine, index: np.ndarray) -> np.ndarray:
        """Return crops at the size of the pictures, uint8 (n, H, W, 3), bilinear."""
        whole = self.pictures.shape[1:3]
        crops = self.cut(index)
        if self.size == whole:
            return crops
        planes = engine.place(crops).permute(0, 3, 1, 2).float()
        return _bytes(engine, functional.interpolate(planes, size=whole, mode="bilinear", align_corners=False))

    def activations(self, engine: Engine, layer: str) -> Tensor:
        """Return the activations (n, d) of enlarged crops at a layer, averaged over its positions."""
        parts = []
        for index in _parts(len(self)):
            found = engine.tap(engine.inputs(self.enlarged(engine, index)), layer)
            parts.append(
                found.flatten(2).mean(dim=2)
                if found.ndim == 4
                else found.reshape(len(found), -1, found.shape[-1]).mean(dim=1)
            )
        return torch.cat(parts)


def grid(pictures: np.ndarray, side: int | tuple[int, ...], stride: float) -> Crops:
    """Lay a grid of crops over pictures.

    Parameters
    ----------
    pictures : uint8 (N, H, W, 3)
    side : of a crop along the pictures' shorter side, the other one in proportion; or height and width
    stride : step between crops, in sides of a crop

    Raises
    ------
    LimenError
        If the side or the stride is out of range.
    """
    height, width = pictures.shape[1:3]
    shorter = min(height, width)
    if isinstance(side, int):
        if not 1 <= side <= shorter:
            raise LimenError(f"crops: given a side of {side} pixels, allowed is 1 to {shorter}.")
        size = (round(side * height / shorter), round(side * width / shorter))
    else:
        size = (side[0], side[1])
    if not 0 < stride <= 1:
        raise LimenError(f"crops: given a stride of {stride} sides, allowed is more than 0 and at most 1.")
    steps = [max(1, int(stride * one)) for one in size]
    tops, lefts = (
        np.arange(0, whole - one + 1, step) for whole, one, step in zip((height, width), size, steps, strict=True)
    )
    image, top, left = np.meshgrid(np.arange(len(pictures)), tops, lefts, indexing="ij")
    return Crops(pictures, np.stack([image, top, left], axis=-1).reshape(-1, 3), size)


def seen(engine: Engine, pictures: np.ndarray) -> np.ndarray:
    """Return pictures as the network sees them: cropped centrally and resized to its size, where it has one.

    Raises
    ------
    LimenError
        If they are not uint8 (N, H, W, 3) with one picture or more.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or not len(pictures):
        raise LimenError(
            f"crops: given pictures of {pictures.dtype} {pictures.shape}, allowed is uint8 (N, H, W, 3) with N of 1 "
            "or more."
        )
    size = engine.network.size
    if size is None or pictures.shape[1:3] == (size, size):
        return pictures
    parts = (engine.place(pictures[index]).permute(0, 3, 1, 2) for index in _parts(len(pictures)))
    return np.concatenate([_bytes(engine, fit(part, size)) for part in parts])


def _bytes(engine: Engine, planes: Tensor) -> np.ndarray:
    return engine.numpy(planes.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous())


def _parts(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, _AT_ONCE):
        yield np.arange(start, min(start + _AT_ONCE, count))
