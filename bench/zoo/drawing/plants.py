"""Two plants that can stand beside an animal: a toadstool and a bluebell."""

from __future__ import annotations

import numpy as np

from .creatures import limb

PLANTS = ("toadstool", "bluebell")
Colour = tuple[float, float, float]
_DOTS = ((-0.52, -0.22, 0.13), (-0.08, -0.50, 0.15), (0.40, -0.32, 0.14), (0.04, -0.12, 0.10))


def _over(surface: np.ndarray, distance: np.ndarray, colour: Colour) -> np.ndarray:
    """Paint a part over what is there; edges are soft over a few hundredths of the plant's radius."""
    share = np.clip(0.5 - distance / 0.05, 0, 1)[..., None]
    return surface + share * (np.asarray(colour, dtype=np.float32) - surface)


def toadstool(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a red cap with white dots on a pale stem; returns distance and surface."""
    stem = limb(u, v, (0.0, 0.0), (0.0, 0.70), (0.17, 0.24))
    cap = np.maximum(0.75 * (np.hypot(u / 0.95, (v - 0.02) / 0.82) - 1), v - 0.06)
    surface = np.broadcast_to(np.asarray((0.93, 0.90, 0.82), dtype=np.float32), (*u.shape, 3))
    surface = _over(surface, cap, (0.84, 0.13, 0.10))
    for x, y, radius in _DOTS:
        surface = _over(surface, np.maximum(np.hypot(u - x, v - y) - radius, cap), (0.97, 0.96, 0.93))
    return np.minimum(stem, cap), surface


def bluebell(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw five blue petals about a yellow heart, on a green stem with a leaf; returns distance and surface."""
    x, y = u, v + 0.24
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    petals = 0.8 * (radius - (0.56 + 0.16 * np.cos(5 * angle)))
    stem = limb(u, v, (0.0, 0.3), (0.0, 0.92), (0.08, 0.09))
    leaf = limb(u, v, (0.04, 0.84), (0.50, 0.46), (0.06, 0.13))
    surface = np.broadcast_to(np.asarray((0.16, 0.50, 0.16), dtype=np.float32), (*u.shape, 3))
    surface = _over(surface, petals, (0.18, 0.26, 0.86))
    surface = _over(surface, radius - 0.19, (0.98, 0.83, 0.15))
    return np.minimum(np.minimum(stem, leaf), petals), surface


def draw_plants(kinds: np.ndarray, u: np.ndarray, v: np.ndarray, nap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw one plant per picture, in its own frame, upright.

    Parameters
    ----------
    kinds : str (B,), names in `PLANTS`
    u, v : float32 (B, S, S), coordinates in the plant's frame, v down
    nap : float32 (B, S, S), fine noise

    Returns
    -------
    distance : float32 (B, S, S), signed, negative inside
    surface : float32 (B, S, S, 3)
    """
    first = (kinds == PLANTS[0])[:, None, None]
    (near, red), (far, blue) = toadstool(u, v), bluebell(u, v)
    distance = np.where(first, near, far)
    tone = (1.0 + 0.16 * nap) * (1 - 0.3 * np.clip(1 + distance / 0.07, 0, 1))
    surface = np.where(first[..., None], red, blue) * tone[..., None]
    return distance.astype(np.float32), surface.astype(np.float32)
