"""From pictures to what a network eats."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..registry import LimenError


def to_device(pictures: np.ndarray, device: torch.device, where: str) -> Tensor:
    """Return pictures uint8 (N, H, W, 3) as uint8 (N, 3, H, W) on the device.

    Raises
    ------
    LimenError
        If they are not such pictures; `where` opens the sentence.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3 or not len(pictures):
        raise LimenError(
            f"{where}: given {pictures.dtype} {pictures.shape}, allowed is uint8 (N, H, W, 3) with N of 1 or more."
        )
    host = torch.from_numpy(np.array(pictures, order="C"))
    if device.type == "cuda":
        host = host.pin_memory()
    return host.to(device, non_blocking=True).permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return `(images / 255 - mean) / std` per channel as float32, for uint8 or float (N, C, H, W) in 0 .. 255."""
    plain = images.float() / 255
    centre, spread = (plain.new_tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return (plain - centre) / spread


def fit(images: Tensor, size: int) -> Tensor:
    """Crop images (N, C, H, W) centrally to a square and resize it to `size` pixels (bilinear, antialiased), float32."""
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, :, top : top + side, left : left + side].float()
    if side == size:
        return square
    return functional.interpolate(square, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
