"""Masks of images, built only when their batch is run: 1 keeps, 0 replaces by the baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..registry import LimenError

Build = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Within:
    """Boxes outside of which copies are as their image: what they cannot reach need not be computed again.

    Attributes
    ----------
    starts : int64 (M, 2)
        First row and column of the box of each copy; the same for all images.
    sides : rows and columns of every box, inside the image
    run : int or None
        Copies come in runs of so many, and outside of their boxes are as the first of their run, which has none.
    """

    starts: Tensor
    sides: tuple[int, int]
    run: int | None = None

    @classmethod
    def cells(cls, lengths: tuple[int, int], side: int | None) -> Within:
        """Return the box of each cell of a grid, `side` x `side` or one a place: row r is in row r * side // H of them."""
        edges = [
            [-(-cell * length // (side or length)) for cell in range((side or length) + 1)] for length in lengths
        ]  # fmt: skip
        # Cells of uneven sides lie in boxes of the longest, moved back where they would stick out.
        rows, columns = (max(stop - start for start, stop in pairwise(axis)) for axis in edges)
        inside = (
            torch.tensor(axis[:-1]).clamp(max=length - box)
            for axis, length, box in zip(edges, lengths, (rows, columns), strict=True)
        )
        return cls(torch.cartesian_prod(*inside), (rows, columns))

    def runs(self, count: int) -> Within:
        """Return `count` runs, in each of which these boxes come after a first copy."""
        starts = torch.cat([self.starts[:1], self.starts])
        return Within(starts.repeat(count, 1), self.sides, len(starts))


@dataclass(frozen=True, eq=False)
class Masks:
    """`count` masks an image.

    Attributes
    ----------
    count : int
        Masks an image.
    build : callable
        `build(image_index (B,), mask_index (B,))` gives (B, d) cell weights or (B, 1, H, W) masks in [0, 1]. It must
        be a function of the indices alone (draw beforehand, not inside): batches are cut, and cut again when memory
        runs out.
    """

    count: int
    build: Build
    values: Tensor | None = None
    """Cell weights (M, d) that all images share: answers to them are remembered."""
    within: Within | None = None
    """Boxes outside of which every mask is 1."""

    @classmethod
    def lazy(cls, count: int, build: Build, within: Within | None = None) -> Masks:
        """Return masks that are computed when their batch is run; they hide nothing outside of `within`."""
        return cls(count, build, within=within)

    @classmethod
    def shared(cls, values: Tensor, within: Within | None = None) -> Masks:
        """Return the same masks for all images, from (M, d) or (M, 1, *places); they hide nothing outside of `within`."""
        if values.ndim < 2:
            raise LimenError(
                f"shared masks: given shape {tuple(values.shape)}, allowed are (M, d) and (M, 1, *places)."
            )
        placed = _Placed(values)
        return cls(
            len(values), lambda image, mask: placed.beside(mask)[mask], values if values.ndim == 2 else None, within
        )

    @classmethod
    def each(cls, values: Tensor) -> Masks:
        """Return own masks for each image, from (N, M, d) or (N, M, 1, *places)."""
        if values.ndim < 3:
            raise LimenError(f"masks: given shape {tuple(values.shape)}, allowed are (N, M, d) and (N, M, 1, *places).")
        placed = _Placed(values)
        return cls(values.shape[1], lambda image, mask: placed.beside(mask)[image, mask])


class _Placed:
    """Masks made anywhere, moved once to where they are asked for."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def beside(self, index: Tensor) -> Tensor:
        if self._values.device != index.device:
            self._values = self._values.to(index.device)
        return self._values
