"""Textured grounds that cover the whole picture: grass, sky, sand, water, snow, brick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .noise import Fields

Colour = tuple[float, float, float]


def _mix(low: Colour, high: Colour, share: np.ndarray) -> np.ndarray:
    """Blend two colours by `share` (B, S, S), clipped to [0, 1]; returns (B, S, S, 3)."""
    share = np.clip(share, 0, 1)[..., None]
    bottom = np.asarray(low, dtype=np.float32)
    return bottom + share * (np.asarray(high, dtype=np.float32) - bottom)


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def grass(fields: Fields) -> np.ndarray:
    """Draw a lawn: upright blades over lighter and darker patches."""
    _, y = fields.axes()
    share = 0.5 + 0.55 * fields["blades"] + 0.35 * fields["medium"] + 0.45 * fields["grain"] - 0.08 * y
    return _mix((0.13, 0.29, 0.07), (0.53, 0.68, 0.25), share)


def sky(fields: Fields) -> np.ndarray:
    """Draw soft clouds over a blue that pales towards the horizon."""
    _, y = fields.axes()
    blue = _mix((0.25, 0.50, 0.85), (0.66, 0.82, 0.95), np.broadcast_to(0.5 + 0.5 * y, fields["broad"].shape))
    cloud = fields["broad"] + 0.6 * fields["medium"] + 0.35 * fields["fine"]
    share = 0.9 * _step(cloud, 0.02, 0.55)[..., None]
    return blue * (1 - share) + np.float32(0.97) * share


def sand(fields: Fields) -> np.ndarray:
    """Draw dune ripples, bent by slow noise, with a fine grain."""
    x, y = fields.axes()
    ripples = np.sin(20 * y + 4 * x + 9 * fields["broad"] + 2 * fields["medium"])
    share = 0.5 + 0.24 * ripples + 0.35 * fields["grain"] + 0.25 * fields["medium"]
    return _mix((0.66, 0.51, 0.31), (0.95, 0.84, 0.62), share)


def water(fields: Fields) -> np.ndarray:
    """Draw level waves with bright crests."""
    _, y = fields.axes()
    swell = fields["waves"] + 0.35 * fields["fine"]
    base = _mix((0.02, 0.24, 0.36), (0.14, 0.52, 0.62), 0.5 + 0.9 * swell - 0.12 * y)
    crest = 0.75 * _step(swell, 0.28, 0.62)[..., None]
    return base * (1 - crest) + np.asarray((0.80, 0.93, 0.95), dtype=np.float32) * crest


def snow(fields: Fields) -> np.ndarray:
    """Draw wind-blown drifts with bluish hollows and a fine glitter."""
    waves = fields["waves"]
    hollow = _step(waves, 0.02, 0.45) * _step(fields["broad"] + 0.5 * fields["medium"], -0.35, 0.35)
    share = 0.86 - 0.62 * hollow + 0.2 * fields["broad"] + 0.34 * fields["grain"]
    return _mix((0.70, 0.77, 0.88), (1.0, 1.0, 1.0), share)


def brick(fields: Fields) -> np.ndarray:
    """Draw a wall of staggered bricks with pale joints, each brick in its own tone."""
    x, y = fields.axes()
    row = np.floor((y + 1) * 4)
    along = (x + 1) * 2 + 0.5 * (row % 2)
    column = np.floor(along)
    down, across = (y + 1) * 4 - row, along - column
    joint = np.maximum(_step(np.abs(down - 0.5), 0.36, 0.46), _step(np.abs(across - 0.5), 0.43, 0.48))
    lattice = fields.lattices["grain"]
    rows, columns = np.broadcast_arrays(row.astype(int), column.astype(int))
    tone = lattice[:, (7 * rows + 3) % 67, (5 * columns + 11) % 67][:, 0]
    face = _mix((0.42, 0.17, 0.12), (0.74, 0.38, 0.27), 0.5 + 0.35 * tone + 0.4 * fields["grain"])
    mortar = _mix((0.62, 0.60, 0.56), (0.80, 0.78, 0.74), 0.5 + 0.6 * fields["grain"])
    share = joint[..., None]
    return face * (1 - share) + mortar * share


BACKGROUNDS: dict[str, Callable[[Fields], np.ndarray]] = {
    "grass": grass,
    "sky": sky,
    "sand": sand,
    "water": water,
    "snow": snow,
    "brick": brick,
}


def draw_backgrounds(kinds: np.ndarray, fields: Fields, light: np.ndarray) -> np.ndarray:
    """Draw one ground per picture.

    Parameters
    ----------
    kinds : str (B,), names in `BACKGROUNDS`
    fields : noise of the batch
    light : float32 (B, 3), factor per channel (the time of day)

    Returns
    -------
    float32 (B, S, S, 3) in [0, 1]
    """
    pictures = np.empty((len(kinds), fields.size, fields.size, 3), dtype=np.float32)
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        pictures[members] = BACKGROUNDS[str(kind)](fields.take(members))
    return np.clip(pictures * light[:, None, None, :], 0, 1)
