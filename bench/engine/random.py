"""Seeded random numbers: drawn on the CPU and then moved, so that no device changes an answer."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..registry import LimenError
from .content import digests

Key = str | int | float | bytes | None
_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


class Placed(Protocol):
    """What lies on a device: a tensor, or rows of a layer."""

    @property
    def device(self) -> torch.device: ...


class Draws:
    """A stream of random numbers, known by a seed and a key; it moves on with every draw.

    Parameters
    ----------
    seed : int
    *key : str, int, float, bytes or None
        What the stream is for; other keys give independent streams.
    device : torch.device or str
        Where the numbers are put. They are drawn on the CPU.
    """

    def __init__(self, seed: int, *key: Key, device: torch.device | str = "cpu") -> None:
        self._seeded, self._key = int(seed), key
        self._device = torch.device(device)
        text = "|".join(f"{type(part).__name__}:{part!r}" for part in (self._seeded, *key))
        self._digest = hashlib.sha256(text.encode()).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(self._digest[:8], "big") >> 1)

    @classmethod
    def beside(cls, values: Placed, seed: int, *key: Key) -> Draws:
        """Return a stream whose numbers are put where `values` are, for callers that hold no engine."""
        return cls(seed, *key, device=values.device)

    def __repr__(self) -> str:
        return f"Draws{(self._seeded, *self._key)}"

    def spawn(self, *key: Key) -> Draws:
        """Return an independent stream; what was drawn from this one so far does not change it."""
        return Draws(self._seeded, *self._key, *key, device=self._device)

    def for_images(self, images: Tensor) -> list[Draws]:
        """Return one stream an image, keyed by its content: order and batch mates never change an answer."""
        return [self.spawn("image", digest) for digest in digests(images)]

    def uniform(self, *shape: int) -> Tensor:
        """Draw float32 uniformly in [0, 1)."""
        return self._move(torch.rand(shape, generator=self._generator))

    def normal(self, *shape: int) -> Tensor:
        """Draw float32 from the standard normal distribution."""
        return self._move(torch.randn(shape, generator=self._generator))

    def bernoulli(self, p: float, *shape: int) -> Tensor:
        """Draw float32 that is 1 with probability `p`, else 0."""
        if not 0 <= p <= 1:
            raise LimenError(f"draws, bernoulli: given p = {p}, allowed is 0 to 1.")
        return self._move((torch.rand(shape, generator=self._generator, dtype=torch.float64) < p).float())

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw int64 uniformly in 0 .. high - 1."""
        if high < 1:
            raise LimenError(f"draws, integers: given high = {high}, allowed is 1 or more.")
        return self._move(torch.randint(high, shape, generator=self._generator))

    def permutation(self, n: int) -> Tensor:
        """Draw an order of 0 .. n - 1, int64 (n,)."""
        return self._move(torch.randperm(n, generator=self._generator))

    def subsets(self, count: int, cells: int, size: int) -> Tensor:
        """Draw subsets of exactly `size` cells, each such subset equally likely.

        Returns
        -------
        Tensor bool (count, cells)
            True = in the subset.
        """
        if not 0 <= size <= cells:
            raise LimenError(f"draws, subsets: given a size of {size} of {cells} cells, allowed is 0 to {cells}.")
        keys = torch.rand(count, cells, generator=self._generator, dtype=torch.float64)
        # The cells of the smallest keys; where they are more than half of all, those of the largest are left out.
        few = min(size, cells - size)
        found = keys.topk(few, dim=1, largest=few < size, sorted=False).indices
        return self._move(torch.full(keys.shape, few < size).scatter_(1, found, few == size))

    def sobol(self, count: int, dims: int, *, scramble: bool = True) -> Tensor:
        """Draw `count` points of a scrambled Sobol sequence, float32 (count, dims) in [0, 1).

        Unscrambled, the sequence is the same for every seed and its first point is 0.
        """
        if not 1 <= dims <= SobolEngine.MAXDIM:
            raise LimenError(f"draws, sobol: given {dims} dimensions, allowed is 1 to {SobolEngine.MAXDIM}.")
        sequence = SobolEngine(dims, scramble=scramble, seed=self._seed() if scramble else None)
        points = sequence.draw(count, dtype=torch.float64).float()
        return self._move(points.clamp_(0.0, _BELOW_ONE))

    def numpy(self) -> np.random.Generator:
        """Return a numpy generator seeded by the next draw; each call gives another."""
        return np.random.default_rng([self._seed(), *self._digest])

    def _seed(self) -> int:
        return int(torch.randint(2**62, (), generator=self._generator))

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)
