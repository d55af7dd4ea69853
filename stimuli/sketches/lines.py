"""Strokes as lines of points in the unit square, and their picture: black ink on white paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Sketch = tuple[np.ndarray, ...]
"""Strokes, float (n, 2) each: x to the right and y down, 0 to 1 over the paper."""
FINE = 4
"""Pictures are drawn so many times larger and averaged, so that lines have soft edges."""


def ink(strokes: Sequence[np.ndarray], side: int, pen: float = 0.02) -> np.ndarray:
    """Draw strokes with a round pen.

    Parameters
    ----------
    strokes
        Lines of points in the unit square; a single point is a dot.
    side
        Width and height of the picture in pixels.
    pen
        Width of the line, as a share of the side.

    Returns
    -------
    float32 array (side, side)
        0 = paper, 1 = ink.
    """
    fine = side * FINE
    paper = Image.new("L", (fine, fine), 0)
    draw = ImageDraw.Draw(paper)
    width = max(1, round(pen * fine))
    half = width / 2
    for stroke in strokes:
        points = [(float(x) * fine, float(y) * fine) for x, y in stroke]
        if len(points) > 1:
            draw.line(points, fill=255, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            draw.ellipse([x - half, y - half, x + half, y + half], fill=255)
    cells = np.asarray(paper, dtype=np.float32).reshape(side, FINE, side, FINE)
    return np.asarray(cells.mean(axis=(1, 3)) / 255, dtype=np.float32)


def picture(strokes: Sequence[np.ndarray], side: int, pen: float = 0.02) -> np.ndarray:
    """Draw strokes as a picture uint8 (side, side, 3), black on white."""
    grey = np.rint(255 * (1 - ink(strokes, side, pen))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def length(stroke: np.ndarray) -> float:
    """Return the length of a stroke, in sides of the paper."""
    return float(np.hypot(*np.diff(stroke, axis=0).T).sum()) if len(stroke) > 1 else 0.0


def resampled(stroke: np.ndarray, spacing: float) -> np.ndarray:
    """Return points at equal distances along a stroke, its ends included; a dot stays a dot."""
    whole = length(stroke)
    if whole == 0:
        return np.asarray(stroke[:1], dtype=float)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    at = np.linspace(0, whole, max(2, int(np.ceil(whole / spacing)) + 1))
    return np.stack([np.interp(at, along, stroke[:, axis]) for axis in (0, 1)], axis=1)
