"""A map laid over its picture, as people see it in reports and studies; equal input gives equal pixels."""

from __future__ import annotations

from functools import cache

import matplotlib
import numpy as np
from PIL import Image

SEQUENTIAL = "inferno"
"""Perceptually uniform, told apart under every common colour-vision deficiency, and light where a map is strong."""
FAINT, STRONG = 0.05, 0.75
"""Opacity of the overlay at no and at full strength: the picture stays recognisable under the strongest colour."""
DARKEN = 0.75
"""The grey picture keeps this share of its brightness, which leaves the light end to the map."""


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
