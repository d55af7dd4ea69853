"""Pictures as people see them: the image at a fixed size, and a map laid over it; equal input gives equal PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image

from bench.registry import LimenError
from bench.store import sha256_bytes

VERSION = 1
"""Raised when a change here changes a pixel: it is part of a stimulus set's identity."""

Show = Literal["magnitude", "positive", "signed"]
Scope = Literal["image", "condition", "global"]

SEQUENTIAL = "inferno"
"""Perceptually uniform, told apart under every common colour-vision deficiency, and light where a map is strong."""
FAINT, STRONG = 0.12, 0.9
"""Opacity of the overlay where the map is zero and where it is at its scale."""


def strength(maps: np.ndarray, show: Show) -> np.ndarray:
    """Turn signed maps (N, H, W) into what is shown: |map|, the positive part, or the map itself."""
    if show == "magnitude":
        return np.abs(maps)
    return np.maximum(maps, 0) if show == "positive" else maps


def scale(maps: np.ndarray, percentile: float) -> float:
    """Return the value drawn at full strength: a percentile of |maps|, or their maximum where that is zero."""
    size = np.abs(np.asarray(maps, dtype=np.float64))
    clipped = float(np.percentile(size, percentile))
    return clipped if clipped > 0 else float(size.max())


def scales(maps: dict[str, np.ndarray], scope: Scope, percentile: float) -> dict[str, np.ndarray]:
    """Return for each condition's maps (N, H, W) one scale an image (N,), shared within `scope`.

    Parameters
    ----------
    maps
        Condition -> maps of the same images.
    scope
        'image': each map by itself; 'condition': one scale a condition; 'global': one scale in the study.
    percentile
        Percentile of |map| that is drawn at full strength.
    """
    if scope == "image":
        return {name: np.array([scale(one, percentile) for one in group]) for name, group in maps.items()}
    if scope == "condition":
        return {name: np.full(len(group), scale(group, percentile)) for name, group in maps.items()}
    whole = scale(np.concatenate([group.ravel() for group in maps.values()]), percentile) if maps else 0.0
    return {name: np.full(len(group), whole) for name, group in maps.items()}


def enlarge(picture: np.ndarray, size: int) -> np.ndarray:
    """Resize a picture uint8 (H, W, 3) smoothly to `size` pixels in width, keeping its proportions."""
    height = max(1, round(size * picture.shape[0] / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((size, height), Image.Resampling.LANCZOS), dtype=np.uint8)


def overlay(picture: np.ndarray, shown: np.ndarray, full: float, size: int) -> np.ndarray:
    """Lay one map over its picture.

    The picture turns grey and darker, so that all colour is the map's and all shape is the picture's; the map is
    enlarged linearly (no overshoot), divided by `full` and clipped. A map with negative values is drawn in blue
    (against) and orange (for), a map without them in a light-is-strong scale.

    Parameters
    ----------
    picture
        uint8 (H, W, 3).
    shown
        Map (h, w) as given by `strength`.
    full
        The value drawn at full strength; 0 leaves the picture bare.
    size
        Width in pixels.

    Returns
    -------
    uint8 array (size * H / W, size, 3)
    """
    large = enlarge(picture, size)
    grey = large @ np.array([0.2126, 0.7152, 0.0722])
    height, width = grey.shape
    values = Image.fromarray(shown.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    ratio = np.clip(np.asarray(values, dtype=np.float64) / full, -1, 1) if full > 0 else np.zeros_like(grey)
    base = (0.55 * grey + 20)[..., None]
    alpha = (FAINT + (STRONG - FAINT) * np.abs(ratio))[..., None]
    colours = _diverging(ratio) if shown.min() < 0 else _sequential()[np.rint(ratio * 255).astype(int)]
    return np.rint(np.clip((1 - alpha) * base + alpha * colours, 0, 255)).astype(np.uint8)


@cache
def _sequential() -> np.ndarray:
    return np.asarray(matplotlib.colormaps[SEQUENTIAL](np.linspace(0.05, 1, 256)))[:, :3] * 255


def _diverging(ratio: np.ndarray) -> np.ndarray:
    positive, negative = np.array([255.0, 158.0, 40.0]), np.array([70.0, 160.0, 255.0])
    return np.where(ratio[..., None] >= 0, positive, negative)


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as a PNG without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


class Album:
    """The pictures of a stimulus set, named by the SHA-256 of their PNG bytes."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}

    def add(self, pixels: np.ndarray) -> str:
        """Encode and keep a picture; return its SHA-256."""
        data = png(pixels)
        name = sha256_bytes(data)
        self.pictures[name] = data
        return name

    def pixels(self, name: str) -> np.ndarray:
        """Decode a kept picture."""
        with Image.open(io.BytesIO(self.pictures[name])) as picture:
            return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def check_finite(maps: np.ndarray, ids: Iterable[str], where: str) -> None:
    """Refuse maps that cannot be drawn.

    Raises
    ------
    LimenError
        Names the first image whose map holds NaN or infinity.
    """
    bad = [name for name, one in zip(ids, maps, strict=True) if not np.isfinite(one).all()]
    if bad:
        raise LimenError(
            f"{where}: the map of image '{bad[0]}' holds values that are not finite"
            f"{f' (and {len(bad) - 1} more)' if len(bad) > 1 else ''}; only finite maps can be drawn."
        )
