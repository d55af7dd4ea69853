"""Irregular closed shapes: random contours of unit area that are told from each other, their mirror and their rotations."""

from __future__ import annotations

import numpy as np

POINTS = 96
"""Vertices of a contour."""
LOBES = (2, 6)
"""Lowest and highest frequency of a contour."""
FAR_LOBES = (4, 9)
"""The same for contours outside the distribution of training."""
DISTINCT = 0.6
"""Largest correlation between two radial profiles, over all rotations and mirrors, that counts as another shape."""
CHIRAL = 0.7
"""Largest correlation between a profile and its mirror image, over all rotations."""
TURNED = 0.8
"""Largest correlation between a profile and itself turned by 40 degrees or more."""
SMALLEST_TURN = 40.0
REACH = 0.85
"""No contour of unit area reaches farther from its centre."""


def profile(draws: np.random.Generator, lobes: tuple[int, int] = LOBES) -> np.ndarray:
    """Draw the radii (POINTS,) of a closed contour: unit area, and unlike its mirror image and its own rotations.

    Parameters
    ----------
    draws
        A seeded generator.
    lobes
        Lowest and highest frequency of the radius over the angle.
    """
    angle = 2 * np.pi * np.arange(POINTS) / POINTS
    waves = np.arange(lobes[0], lobes[1] + 1)
    while True:
        strength = draws.uniform(0, 1, len(waves)) ** 2
        strength *= draws.uniform(0.32, 0.42) / np.sqrt((strength**2).sum())
        phase = draws.uniform(0, 2 * np.pi, len(waves))
        radius = 1 + (strength[:, None] * np.cos(waves[:, None] * angle + phase[:, None])).sum(axis=0)
        radius /= np.sqrt(_area(radius))
        if radius.min() > 0.12 and radius.max() < REACH and _is_distinct_from_itself(radius):
            return radius


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest correlation of two profiles over all rotations of one, mirrored or not."""
    return float(max(_turned(first, second).max(), _turned(first, second[::-1]).max()))


def outline(radius: np.ndarray, *, side: float, turn: float, mirrored: bool, at: tuple[float, float]) -> np.ndarray:
    """Place a contour in the unit square.

    Parameters
    ----------
    radius
        Radii (POINTS,) of unit area.
    side
        Side of the square of the same area.
    turn
        Degrees.
    mirrored
        Whether it is mirrored, before it is turned.
    at
        x and y of its centre.

    Returns
    -------
    float (POINTS, 2)
    """
    angle = 2 * np.pi * np.arange(POINTS) / POINTS
    across = -np.cos(angle) if mirrored else np.cos(angle)
    flat = side * radius[:, None] * np.stack([across, np.sin(angle)], axis=1)
    bend = np.deg2rad(turn)
    rotation = np.array([[np.cos(bend), np.sin(bend)], [-np.sin(bend), np.cos(bend)]])
    return np.asarray(flat @ rotation + np.array(at))


def _area(radius: np.ndarray) -> float:
    after = np.roll(radius, -1)
    return float(0.5 * np.sin(2 * np.pi / POINTS) * (radius * after).sum())


def _turned(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate two profiles at every rotation (POINTS,)."""
    a, b = first - first.mean(), second - second.mean()
    product = np.fft.ifft(np.fft.fft(a) * np.conj(np.fft.fft(b))).real
    return np.asarray(product / np.sqrt((a**2).sum() * (b**2).sum()))


def _is_distinct_from_itself(radius: np.ndarray) -> bool:
    step = int(np.ceil(SMALLEST_TURN / 360 * POINTS))
    alone = _turned(radius, radius)[step : POINTS - step + 1]
    return bool(alone.max() < TURNED and _turned(radius, radius[::-1]).max() < CHIRAL)
