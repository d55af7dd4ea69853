"""What a player of a reveal trial has uncovered: from strokes to a mask, the same in every language."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.store import sha256_bytes


def revealed_mask(strokes: Sequence[Sequence[float]], size: tuple[int, int], box_px: int) -> NDArray[np.bool_]:
    """Return which pixels the boxes of a round uncover.

    A box of side b at (x, y) covers the columns floor(x - (b-1)/2) to that + b - 1, and the rows likewise.

    Parameters
    ----------
    strokes : sequence of (ms, x, y)
        Centres in image pixels.
    size : (width, height)
        Of the picture, in pixels.
    box_px : int
        Side of a box, in image pixels.

    Returns
    -------
    mask : array (height, width) of bool
    """
    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    for _, x, y in strokes:
        left, top = math.floor(x - (box_px - 1) / 2), math.floor(y - (box_px - 1) / 2)
        mask[max(0, top) : max(0, top + box_px), max(0, left) : max(0, left + box_px)] = True
    return mask


def mask_sha256(mask: NDArray[np.bool_]) -> str:
    """Return the SHA-256 of a mask's pixels, one byte each (0 or 1), row by row."""
    return sha256_bytes(np.ascontiguousarray(mask, dtype=np.uint8).tobytes())


def masked_picture(picture: NDArray[np.uint8], mask: NDArray[np.bool_], *, fill: int = 0) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) in which what is not revealed is plain grey `fill`."""
    return np.where(mask[..., None], picture, np.uint8(fill)).astype(np.uint8)
