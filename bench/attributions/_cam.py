"""What the class activation maps share: a layer with places, and the way from its grid to the image."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import interpolate

from ..engine import Engine
from ..registry import LimenError

Upsampling = Literal["bilinear", "bicubic", "nearest"]


def check_places(activations: Tensor, engine: Engine, images: Tensor, layer: str | None, method: str) -> None:
    """Refuse a layer whose activations have no height and width.

    Raises
    ------
    LimenError
        Names the layer and the shape.
    """
    if activations.ndim != 4:
        raise LimenError(
            f"attribution '{method}', layer '{layer or engine.default_layer(images)}': given activations of shape "
            f"{tuple(activations.shape[1:])}, allowed is (channels, height, width)."
        )


def drawn(cam: Tensor, images: Tensor, *, relu: bool, upsampling: Upsampling, scaled: bool = False) -> Tensor:
    """Return a map (N, 1, h, w) at the size of the images, rectified first and scaled to [0, 1] last, as asked for."""
    cam = cam.relu() if relu else cam
    corners = None if upsampling == "nearest" else False
    maps = interpolate(cam, size=images.shape[-2:], mode=upsampling, align_corners=corners)
    return unit(maps) if scaled else maps


def unit(maps: Tensor) -> Tensor:
    """Scale each map (N, K, H, W) of its own to [0, 1]; one that does not vary becomes 0."""
    low, high = (values[..., None, None] for values in maps.flatten(2).aminmax(dim=2))
    return (maps - low) / (high - low).clamp(min=_FLOOR)


_FLOOR = 1e-12
