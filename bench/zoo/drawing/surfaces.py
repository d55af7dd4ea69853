"""What an object is covered with: colours and patterns, shaded from the upper left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.16, 0.14),
    "yellow": (0.98, 0.82, 0.12),
    "green": (0.10, 0.62, 0.30),
    "blue": (0.13, 0.33, 0.86),
    "purple": (0.58, 0.22, 0.72),
    "white": (0.95, 0.95, 0.93),
}


def plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.full_like(u, -1)


def striped(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin(9.5 * u)


def dotted(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 2.0 * np.cos(7.4 * u) + 2.0 * np.cos(7.4 * v) - 1.4


def checkered(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return 1.6 * np.sin(5.4 * u + 0.7) * np.sin(5.4 * v + 0.7)


TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checkered": checkered,
}


def paint(u: np.ndarray, v: np.ndarray, distance: np.ndarray, textures: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Paint a batch of objects in their own frames.

    Parameters
    ----------
    u, v : float32 (B, S, S), coordinates in the object's frame, radius about one
    distance : float32 (B, S, S), signed distance to the outline in the same unit
    textures : str (B,), names in `TEXTURES`
    colours : float32 (B, 3)

    Returns
    -------
    float32 (B, S, S, 3)
    """
    pattern = np.empty_like(u)
    for name in np.unique(textures):
        members = np.flatnonzero(textures == name)
        pattern[members] = TEXTURES[str(name)](u[members], v[members])
    dark = np.clip(0.5 + 2.5 * pattern, 0, 1)
    rim = np.clip(1 + distance / 0.09, 0, 1)
    tone = (1 - 0.55 * dark) * (1 - 0.45 * rim)
    return tone[..., None] * colours[:, None, None, :]
