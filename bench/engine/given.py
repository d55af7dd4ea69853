"""What the engine is given, checked and put on its device: pictures, inputs, any numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..registry import LimenError
from . import pictures as conversion
from .network import Network


class Given:
    """Puts what callers give on the device of one network.

    Parameters
    ----------
    network : Network
    device : torch.device
    where : opens the error sentences
    """

    def __init__(self, network: Network, device: torch.device, where: str) -> None:
        self.network, self.device, self.where = network, device, where

    def inputs(self, pictures: np.ndarray) -> Tensor:
        """Turn pictures into network inputs; see `Engine.inputs`."""
        images = conversion.to_device(pictures, self.device, f"pictures for {self.where}")
        size = self.network.size
        if size is not None and tuple(images.shape[2:]) != (size, size):
            images = conversion.fit(images, size)
        return conversion.normalise(images, self.network.mean, self.network.std).contiguous()

    def prepare(self, images: Tensor | np.ndarray) -> Tensor:
        """Return network inputs as contiguous float32 on the device.

        Raises
        ------
        LimenError
            If they are not floats, or there is none.
        """
        given = as_tensor(images)
        if not given.is_floating_point() or given.ndim < 2 or not len(given):
            raise LimenError(
                f"images for {self.where}: given {given.dtype} {tuple(given.shape)}, allowed is at least one "
                "normalised float image (N, C, H, W); `Engine.inputs` makes them from uint8 pictures."
            )
        return given.detach().to(self.device, torch.float32).contiguous()

    def place(self, values: Tensor | np.ndarray) -> Tensor:
        """Put any numbers on the device, as they are."""
        return torch.as_tensor(values).detach().to(self.device)

    def classes(self, targets: Any, images: int) -> Tensor:
        """Return one class index an image as int64 (N,) on the device; whether the network has them is not looked at.

        Raises
        ------
        LimenError
            If they are not one whole number an image.
        """
        chosen = as_tensor(targets)
        if chosen.ndim != 1 or len(chosen) != images or chosen.is_floating_point() or chosen.is_complex():
            raise LimenError(
                f"targets for {self.where}: given {chosen.dtype} {tuple(chosen.shape)} for {images} images, "
                "allowed is one class index an image."
            )
        return chosen.to(self.device, torch.int64)

    def nodes(self, nodes: Any, weights: Any) -> tuple[Tensor, Tensor]:
        """Return positions on a path and their weights, float64 (T,) each.

        Raises
        ------
        LimenError
            If they are not two lines of equal length.
        """
        places, shares = (as_tensor(line).to(self.device, torch.float64) for line in (nodes, weights))
        if places.ndim != 1 or places.shape != shares.shape or not len(places):
            raise LimenError(
                f"path gradients: given nodes {tuple(places.shape)} and weights {tuple(shares.shape)}, "
                "allowed are two lines (T,) of equal length."
            )
        return places, shares


def as_tensor(values: Any) -> Tensor:
    """Return a tensor of what a caller gave; an array that torch cannot share (read-only, reversed) is copied."""
    if isinstance(values, np.ndarray) and not (values.flags.writeable and values.flags.c_contiguous):
        values = values.copy(order="C")
    return torch.as_tensor(values)
