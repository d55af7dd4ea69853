"""Smooth random fields on fixed lattices, so that one scene looks the same at any picture size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LATTICES = {
    "broad": (6, 6),
    "medium": (11, 11),
    "fine": (22, 22),
    "grain": (67, 67),
    "waves": (30, 9),
    "blades": (15, 84),
}
"""Rows and columns of each field's lattice; uneven ones give streaks."""
_COUNTS = {name: rows * columns for name, (rows, columns) in LATTICES.items()}


def draw_lattices(generators: list[np.random.Generator]) -> dict[str, np.ndarray]:
    """Draw every lattice for a batch, one generator per picture: name -> float32 (B, rows, columns) in [-1, 1)."""
    flat = np.stack([generator.random(sum(_COUNTS.values()), dtype=np.float32) for generator in generators]) * 2 - 1
    lattices, start = {}, 0
    for name, count in _COUNTS.items():
        lattices[name] = flat[:, start : start + count].reshape(-1, *LATTICES[name])
        start += count
    return lattices


@lru_cache(maxsize=64)
def _spline(size: int, knots: int) -> np.ndarray:
    """Cubic B-spline weights (size, knots) from lattice knots to pixel centres; rows sum to 1."""
    position = (np.arange(size) + 0.5) / size * (knots - 3) + 1
    base = np.minimum(np.floor(position).astype(int), knots - 3)
    t = position - base
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((size, knots), dtype=np.float32)
    for offset, tap in enumerate(taps):
        weights[np.arange(size), base - 1 + offset] = tap / 6
    return weights


@dataclass(frozen=True)
class Fields:
    """The noise of a batch of pictures, read at one picture size.

    Attributes
    ----------
    lattices : name -> float32 (B, rows, columns)
    size : picture size in pixels
    """

    lattices: dict[str, np.ndarray]
    size: int

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one field, float32 (B, size, size), about zero with a spread near 0.3."""
        lattice = self.lattices[name]
        rows, columns = _spline(self.size, lattice.shape[1]), _spline(self.size, lattice.shape[2])
        return np.matmul(np.matmul(rows, lattice), columns.T)

    def take(self, members: np.ndarray) -> Fields:
        """Return the noise of some pictures of the batch."""
        return Fields({name: lattice[members] for name, lattice in self.lattices.items()}, self.size)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel centres x (1, 1, size) and y (1, size, 1) in [-1, 1], y down."""
        centre = ((np.arange(self.size, dtype=np.float32) + 0.5) / self.size) * 2 - 1
        return centre[None, None, :], centre[None, :, None]
