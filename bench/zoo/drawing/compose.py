"""Objects put onto grounds: placement, coverage, blending, and the exact masks that come with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PIXELS_AT_ONCE = 2**19


@dataclass(frozen=True)
class Placement:
    """Where the object of each picture stands.

    Attributes
    ----------
    centre : float32 (B, 2), x and y in [-1, 1], y down
    radius : float32 (B,), in half picture widths
    angle : float32 (B,), radians, clockwise on the screen
    mirror : float32 (B,), 1 or -1
    """

    centre: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    mirror: np.ndarray

    def frame(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates (B, S, S) of each pixel in the object's own frame."""
        across = (x - self.centre[:, 0, None, None]) / self.radius[:, None, None]
        down = (y - self.centre[:, 1, None, None]) / self.radius[:, None, None]
        cosine, sine = np.cos(self.angle)[:, None, None], np.sin(self.angle)[:, None, None]
        u = (cosine * across + sine * down) * self.mirror[:, None, None]
        return u.astype(np.float32), (cosine * down - sine * across).astype(np.float32)


def coverage(distance: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """Return the share of each pixel that the object covers, from its signed distance in object units."""
    pixels = distance * (radius[:, None, None] * (size / 2))
    return np.clip(0.5 - pixels, 0, 1)


def lay(background: np.ndarray, surface: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Lay a thing over a ground, float32 (B, S, S, 3)."""
    return np.asarray(background + cover[..., None] * (surface - background))


def blend(background: np.ndarray, surface: np.ndarray, cover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay an object over a ground, and finish the pictures.

    Returns
    -------
    pictures : uint8 (B, S, S, 3)
    object : bool (B, S, S)
        True on every pixel the object touches; all others show the ground alone.
    """
    pictures = np.rint(np.clip(lay(background, surface, cover), 0, 1) * 255).astype(np.uint8)
    return pictures, cover > 0


def batches(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut indices into pieces small enough to draw at once."""
    step = max(1, PIXELS_AT_ONCE // size**2)
    for start in range(0, len(indices), step):
        yield indices[start : start + step]


def generators(indices: np.ndarray, *key: int) -> list[np.random.Generator]:
    """Return one generator per picture, so that no picture depends on which others are drawn."""
    return [np.random.default_rng([*key, int(index)]) for index in indices]
