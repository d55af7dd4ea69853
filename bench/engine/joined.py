"""Rows of several networks side by side, each read from where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .activations import Activations
from .content import combined


@dataclass(frozen=True, eq=False)
class Joined(Activations):
    """Rows (n, d_1 + ... + d_M): row i of every part, for more rows of several networks than fit in memory.

    Batches, samples and moments are those of the rows joined in memory; only the digest is another.

    Attributes
    ----------
    parts : Activations of as many rows each, at the same images and positions
    """

    parts: tuple[Activations, ...] = ()

    @staticmethod
    def beside(parts: tuple[Activations, ...]) -> Joined:
        """Join parts of as many rows each; the caller has checked that these correspond."""
        first = parts[0]
        return Joined(first.shards, positions=first.positions, grid=first.grid, parts=parts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and the features of all parts."""
        return len(self), sum(part.shape[1] for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the digests of the parts, in order."""
        return combined("joined", *(part.digest for part in self.parts))

    def span(self, start: int, stop: int) -> Tensor:
        """Return the rows start .. stop as float32 (stop - start, d)."""
        return torch.cat([part.span(start, stop).float() for part in self.parts], dim=1)

    def take(self, rows: Tensor) -> Tensor:
        """Return chosen rows as float32 (len(rows), d), in the order asked for."""
        return torch.cat([part.take(rows) for part in self.parts], dim=1)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        means, spreads = zip(*(part.moments() for part in self.parts), strict=True)
        return torch.cat(means), torch.cat(spreads)
