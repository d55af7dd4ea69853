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
FAINT, STRONG = 0.05, 0.75
"""Opacity of the overlay at no and at full strength: the picture stays recognisable under the strongest colour."""
DARKEN = 0.75
"""The grey picture keeps this share of its brightness, which leaves the light end to the map."""


def strength(maps: np.ndarray, show: Show) -> np.ndarray:
    """Turn signed maps (N, H, W) into what is shown: |map|, the positive part, or the map itself."""
    if show == "magnitude":
        return np.abs(maps)
    return np.maximum(maps, 0) if show == "positive" else maps


def span(maps: np.ndarray, percentile: float, *, signed: bool = False) -> tuple[float, float]:
    """Return the values drawn at no and at full strength.

    Both are percentiles, so that single outliers do not take the whole range; the lower one takes away what all places
    of an unsigned map share (RISE, for one, has no meaningful zero). Signed maps keep their zero. Where the percentiles
    fall together (a map that is empty but for a few pixels), the extremes are used.
    """
    values = np.asarray(maps, dtype=np.float64)
    if signed:
        size = np.abs(values)
        return 0.0, float(np.percentile(size, percentile)) or float(size.max())
    low, high = np.percentile(values, [100 - percentile, percentile])
    return (float(low), float(high)) if high > low else (float(values.min()), float(values.max()))


def spans(
    maps: dict[str, np.ndarray], scope: Scope, percentile: float, *, signed: bool = False
) -> dict[str, list[tuple[float, float]]]:
    """Return for each condition's maps (N, H, W) the span of each image, shared within `scope`.

    Parameters
    ----------
    maps
        Condition -> maps of the same images, as given by `strength`.
    scope
        'image': each map by itself; 'condition': one span a condition; 'global': one span in the study.
    percentile
        Percentile of the maps that is drawn at full strength.
    """
    if scope == "image":
        return {name: [span(one, percentile, signed=signed) for one in group] for name, group in maps.items()}
    if scope == "condition":
        return {name: [span(group, percentile, signed=signed)] * len(group) for name, group in maps.items()}
    if not maps:
        return {}
    whole = span(np.concatenate([group.ravel() for group in maps.values()]), percentile, signed=signed)
    return {name: [whole] * len(group) for name, group in maps.items()}


def enlarge(picture: np.ndarray, size: int) -> np.ndarray:
    """Resize a picture uint8 (H, W, 3) smoothly to `size` pixels in width, keeping its proportions."""
    height = max(1, round(size * picture.shape[0] / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((size, height), Image.Resampling.LANCZOS), dtype=np.uint8)


def overlay(
    picture: np.ndarray, shown: np.ndarray, span: tuple[float, float], size: int, *, signed: bool = False
) -> np.ndarray:
    """Lay one map over its picture.

    The picture turns grey and darker, so that all colour is the map's and all shape is the picture's; the map is
    enlarged linearly (no overshoot), stretched over its span and clipped. A signed map is drawn in blue (against) and
    orange (for), another one in a light-is-strong scale.

    Parameters
    ----------
    picture
        uint8 (H, W, 3).
    shown
        Map (h, w) as given by `strength`.
    span
        The values drawn at no and at full strength; where they are equal the picture stays bare.
    size
        Width in pixels.
    signed
        Whether the sign is drawn.

    Returns
    -------
    uint8 array (size * H / W, size, 3)
    """
    grey = enlarge(picture, size) @ np.array([0.2126, 0.7152, 0.0722])
    height, width = grey.shape
    large = Image.fromarray(shown.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    low, high = span
    ratio = np.clip((np.asarray(large, dtype=np.float64) - low) / (high - low), -1, 1) if high > low else 0 * grey
    ratio = ratio if signed else np.maximum(ratio, 0)
    colours = _diverging(ratio) if signed else _sequential()[np.rint(ratio * 255).astype(int)]
    alpha = (FAINT + (STRONG - FAINT) * np.abs(ratio))[..., None]
    mixed = (1 - alpha) * (DARKEN * grey)[..., None] + alpha * colours
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


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
