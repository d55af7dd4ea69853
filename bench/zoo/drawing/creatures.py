"""Two made-up animals seen from the side, alike but for ears and tail: the dax and the wug."""

from __future__ import annotations

import numpy as np

CREATURES = ("dax", "wug")
FURS = ((0.55, 0.36, 0.20), (0.42, 0.40, 0.40), (0.70, 0.52, 0.32), (0.30, 0.22, 0.18))
"""Fur colours both animals share: chestnut, grey, fawn, dark brown."""
Point = tuple[float, float]


def limb(u: np.ndarray, v: np.ndarray, start: Point, end: Point, radii: tuple[float, float]) -> np.ndarray:
    """Return the distance to a limb that tapers from `radii[0]` at its start to `radii[1]` at its end."""
    along_u, along_v = end[0] - start[0], end[1] - start[1]
    length = along_u**2 + along_v**2
    share = np.clip(((u - start[0]) * along_u + (v - start[1]) * along_v) / length, 0, 1)
    gap = np.hypot(u - start[0] - share * along_u, v - start[1] - share * along_v)
    return gap - (radii[0] + share * (radii[1] - radii[0]))


def _join(first: np.ndarray, second: np.ndarray, softness: float = 0.08) -> np.ndarray:
    """Unite two distances with a smooth seam."""
    share = np.clip(0.5 + 0.5 * (second - first) / softness, 0, 1)
    return second + share * (first - second) - softness * share * (1 - share)


def _legs(u: np.ndarray, v: np.ndarray, pairs: tuple[tuple[float, float], ...]) -> np.ndarray:
    legs = [limb(u, v, (top, 0.2), (foot, 0.72), (0.13, 0.075)) for top, foot in pairs]
    return np.minimum(*legs)


def _body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    trunk = limb(u, v, (-0.42, 0.06), (0.28, 0.02), (0.30, 0.27))
    neck = limb(u, v, (0.30, -0.05), (0.60, -0.36), (0.20, 0.16))
    head = limb(u, v, (0.60, -0.40), (0.90, -0.30), (0.20, 0.09))
    return _join(_join(trunk, neck), head)


def _dax_marks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the round ears and the short upright tail of a dax."""
    ears = np.minimum(np.hypot(u - 0.46, v + 0.58), np.hypot(u - 0.66, v + 0.62)) - 0.115
    return np.minimum(ears, limb(u, v, (-0.62, -0.06), (-0.86, -0.36), (0.09, 0.075)))


def _wug_marks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the pointed ears and the long hanging tail of a wug."""
    ears = np.minimum(
        limb(u, v, (0.50, -0.50), (0.42, -0.80), (0.11, 0.01)), limb(u, v, (0.66, -0.52), (0.68, -0.84), (0.11, 0.01))
    )
    return np.minimum(ears, limb(u, v, (-0.66, 0.0), (-0.98, 0.34), (0.08, 0.12)))


def draw_creatures(
    kinds: np.ndarray, u: np.ndarray, v: np.ndarray, furs: np.ndarray, nap: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one animal per picture, in its own frame, facing right.

    Parameters
    ----------
    kinds : str (B,), names in `CREATURES`
    u, v : float32 (B, S, S), coordinates in the animal's frame, v down
    furs : float32 (B, 3)
    nap : float32 (B, S, S), fine noise in the fur

    Returns
    -------
    distance : float32 (B, S, S), signed, negative inside
    surface : float32 (B, S, S, 3)
    """
    far_legs = _legs(u, v, ((-0.34, -0.30), (0.20, 0.14)))
    body = _join(_body(u, v), _legs(u, v, ((-0.52, -0.56), (0.32, 0.36))), 0.05)
    dax = (kinds == "dax")[:, None, None]
    body = _join(body, np.where(dax, _dax_marks(u, v), _wug_marks(u, v)), 0.04)
    distance = np.minimum(body, far_legs)
    tone = 1.02 - 0.30 * np.clip(v + 0.25, -0.6, 0.9) + 0.22 * nap
    tone = np.where(far_legs < body, 0.62 * tone, tone)
    tone = tone * (1 - 0.35 * np.clip(1 + distance / 0.06, 0, 1))
    surface = tone[..., None] * furs[:, None, None, :]
    belly = np.clip((v - 0.14) / 0.14, 0, 1) * np.clip((0.34 - np.abs(u + 0.08)) / 0.12, 0, 1) * (body <= far_legs)
    surface += 0.16 * belly[..., None]
    for centre, radius, shade in (
        ((0.70, -0.42), 0.055, 0.05),
        ((0.965, -0.30), 0.055, 0.06),
        ((0.715, -0.44), 0.02, 0.95),
    ):
        spot = np.clip(0.5 - (np.hypot(u - centre[0], v - centre[1]) - radius) / 0.03, 0, 1)[..., None]
        surface = surface * (1 - spot) + np.float32(shade) * spot
    return distance.astype(np.float32), surface.astype(np.float32)
