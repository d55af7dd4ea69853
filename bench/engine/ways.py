"""Two ways through a network for copies of images: whole passes, or the windows that a box reaches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from ..registry import LimenError
from .batching import Batches
from .coordinates import Coordinates
from .copies import Altered, Copies
from .cost import Meters
from .forward import Forward, Run
from .local import Local, cut
from .masks import Within

Piece = tuple[int, int, Tensor, Tensor]
"""Copies start .. stop, their logits (B, K), and the image of each (B,)."""


class Way(Protocol):
    """How the logits of copies are come by."""

    def pieces(self, batches: Batches, meters: Meters) -> Iterator[Piece]:
        """Run all copies, batch by batch."""
        ...


class Whole:
    """Whole passes, in batches that span images.

    Parameters
    ----------
    forward : Forward
    run : the network or its head
    copies : what goes through it
    space : makes inputs of coordinates
    most : copies a batch at most
    """

    def __init__(self, forward: Forward, run: Run, copies: Copies | Altered, space: Coordinates, most: int) -> None:
        sample = space.inputs(copies.image(0))
        self._most = min(most, forward.most(sample))
        self._forward, self._run, self._copies, self._space = forward, run, copies, space
        self._graph = forward.frozen(run, sample, len(copies), self._most)

    def pieces(self, batches: Batches, meters: Meters) -> Iterator[Piece]:
        """Run all copies, batch by batch."""
        for start, stop, (logits, image_index) in batches.sweep(len(self._copies), self._work, self._most):
            meters.count(forwards=stop - start)
            yield start, stop, logits, image_index

    def _work(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        perturbed, image_index = self._copies.build(start, stop)
        inputs = self._space.inputs(perturbed)
        # A graph runs its whole batch whatever is asked of it: a short rest is cheaper without.
        if self._graph is not None and 2 * len(inputs) > self._most:
            return self._graph(inputs), image_index
        return self._forward(self._run, inputs), image_index


class Windowed:
    """Windows of what a box reaches; the maps of the image, or of the first copy of a run, are made before.

    Parameters
    ----------
    forward : Forward
    local : the network for these boxes
    copies : inputs of the network
    within : the boxes
    most : copies a batch at most
    """

    def __init__(self, forward: Forward, local: Local, copies: Copies | Altered, within: Within, most: int) -> None:
        self._forward, self._local, self._copies, self._within = forward, local, copies, within
        self._count = len(within.starts)
        most = min(most, forward.most(copies.image(0)))
        boxes = self._count if within.run is None else within.run - 1
        self._most = ceil(boxes / ceil(boxes / most))
        self._starts = within.starts.to(copies.image(0).device)
        self._base = copies.image(0)
        self._maps: list[Tensor] = []
        self._graph = forward.frozen_local(local, self._base, len(copies), self._most)

    def pieces(self, batches: Batches, meters: Meters) -> Iterator[Piece]:
        """Run all copies, run by run.

        Raises
        ------
        LimenError
            If a copy of the first batch is not as its image, or as the first of its run, outside of its box.
        """
        length = self._within.run or self._count
        for first in range(0, len(self._copies), length):
            begin = first
            if self._within.run is None:
                self._enter(self._copies.image(first // self._count))
            else:
                base, image_index = self._copies.build(first, first + 1)
                begin += 1
                yield first, begin, self._enter(base), image_index
            meters.count(forwards=1)
            work = partial(self._work, begin)
            for start, stop, (logits, image_index) in batches.sweep(first + length - begin, work, self._most):
                meters.count(forwards=stop - start)
                yield begin + start, begin + stop, logits, image_index

    def _enter(self, base: Tensor) -> Tensor:
        """Make the maps of what the next copies are like (1, C, H, W); return its logits."""
        self._base = base
        self._maps, logits = self._forward.maps(self._local, base)
        if self._graph is not None:
            self._graph.hold(self._maps)
        return logits

    def _work(self, begin: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        perturbed, image_index = self._copies.build(begin + start, begin + stop)
        rows, columns = self._starts[(begin + start) % self._count :][: stop - start].unbind(dim=1)
        if begin + start < 2:
            self._check(perturbed, rows, columns)
        boxes = cut(perturbed, rows, columns, self._within.sides)
        if self._graph is not None and 2 * len(boxes) > self._most:
            return self._graph(boxes, rows, columns), image_index
        return self._forward.windows(self._local, boxes, (rows, columns), self._maps), image_index

    def _check(self, copies: Tensor, rows: Tensor, columns: Tensor) -> None:
        changed = (copies != self._base).any(dim=1)
        for axis, starts in ((1, rows), (2, columns)):
            places = torch.arange(copies.shape[axis + 1], device=copies.device)
            side = self._within.sides[axis - 1]
            outside = (places < starts[:, None]) | (places >= starts[:, None] + side)
            if bool((changed.any(dim=3 - axis) & outside).any()):
                like = "their image" if self._within.run is None else "the first of their run"
                raise LimenError(
                    f"copies within boxes of {' x '.join(map(str, self._within.sides))}: given copies that differ from "
                    f"{like} elsewhere too, allowed is a change inside the box alone."
                )
