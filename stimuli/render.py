"""The pictures of a study: what of a map is shown, on which scale, and the album they are kept in."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Literal

import numpy as np
from PIL import Image

from bench.images import encode_png
from bench.overlay import span
from bench.registry import LimenError
from bench.store import sha256_bytes

VERSION = 1
"""Raised when a change here changes a pixel: it is part of a stimulus set's identity."""

Show = Literal["magnitude", "positive", "signed"]
Scope = Literal["image", "condition", "global"]


def strength(maps: np.ndarray, show: Show) -> np.ndarray:
    """Turn signed maps (N, H, W) into what is shown: |map|, the positive part, or the map itself."""
    if show == "magnitude":
        return np.abs(maps)
    return np.maximum(maps, 0) if show == "positive" else maps


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


class Album:
    """The pictures of a stimulus set, named by the SHA-256 of their PNG bytes."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}

    def add(self, pixels: np.ndarray) -> str:
        """Encode and keep a picture; return its SHA-256."""
        data = encode_png(pixels)
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
