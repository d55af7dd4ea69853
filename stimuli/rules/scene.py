"""What a picture of a problem holds, and how it is drawn: filled and outlined shapes on white, anti-aliased."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLE = 4
"""Pictures are drawn this much larger and averaged down."""
GROUND = (255, 255, 255)
LINE = 0.022
"""Width of an outline, as a share of the picture."""
COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 114, 178),
    "sky blue": (86, 180, 233),
    "green": (0, 158, 115),
    "orange": (230, 159, 0),
    "vermilion": (213, 94, 0),
    "pink": (204, 121, 167),
}
"""Colours that people with any common colour deficiency can tell apart (Okabe and Ito), without yellow, which is faint on white."""
NAMES = tuple(COLOURS)


@dataclass(frozen=True)
class Figure:
    """One shape of a picture.

    Attributes
    ----------
    points : float (n, 2), x and y in [0, 1]
    colour : a name of `COLOURS`
    filled : False draws the outline only
    """

    points: np.ndarray
    colour: str
    filled: bool = True


def draw(figures: tuple[Figure, ...], size: int) -> np.ndarray:
    """Draw the figures of one picture, first one lowest; return uint8 (size, size, 3)."""
    side = OVERSAMPLE * size
    canvas = Image.new("RGB", (side, side), GROUND)
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(LINE * side))
    for figure in figures:
        corners = [(float(x), float(y)) for x, y in figure.points * side]
        if figure.filled:
            pen.polygon(corners, fill=COLOURS[figure.colour])
        else:
            pen.line([*corners, *corners[:2]], fill=COLOURS[figure.colour], width=width, joint="curve")
    return np.asarray(canvas.reduce(OVERSAMPLE), dtype=np.uint8)


def inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Say which points (n, 2) lie within a polygon (m, 2), by the even-odd rule; bool (n,)."""
    x, y = points[:, :1], points[:, 1:]
    here, after = polygon, np.roll(polygon, -1, axis=0)
    crosses = (here[:, 1] > y) != (after[:, 1] > y)
    rise = after[:, 1] - here[:, 1]
    slope = (after[:, 0] - here[:, 0]) / np.where(rise == 0, 1.0, rise)
    left = x < here[:, 0] + slope * (y - here[:, 1])
    return np.asarray((crosses & left).sum(axis=1) % 2 == 1)


def gap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the smallest distance between the vertices of two contours."""
    return float(np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1)).min())


def overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two contours share an area."""
    return bool(inside(first, second).any() or inside(second, first).any())


def within(points: np.ndarray, margin: float) -> bool:
    """Whether all points keep a distance from the edge of the picture."""
    return bool(points.min() >= margin and points.max() <= 1 - margin)
