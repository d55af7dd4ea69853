"""Two ways through a network for copies of images: whole passes, or the windows that a box reaches."""

from __future__ import annotations

from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from ..registry import LimenError
from .coordinates import Coordinates
from .copies import Altered, Copies
from .forward import Forward, Run
from .local import Local, cut
from .masks import Within


class Way(Protocol):
    """How the logits of copies are come by.

    Attributes
    ----------
    most : copies a batch
    groups : copies among which batches are cut
    """

    most: int
    groups: list[range]

    def enter(self, group: int) -> int:
        """Get ready for a group of copies; return the forwards that took."""
        ...

    def logits(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) of copies start .. stop of the group entered, and the image of each (B,)."""
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
        self.most = min(most, forward.most(sample))
        self.groups = [range(len(copies))]
        self._forward, self._run, self._copies, self._space = forward, run, copies, space
        self._graph = forward.frozen(run, sample, len(copies), self.most)

    def enter(self, group: int) -> int:
        """Need nothing."""
        return 0

    def logits(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) of copies, and the image of each (B,)."""
        perturbed, image_index = self._copies.build(start, stop)
        inputs = self._space.inputs(perturbed)
        # A graph runs its whole batch whatever is asked of it: a short rest is cheaper without.
        if self._graph is not None and 2 * len(inputs) > self.most:
            return self._graph(inputs), image_index
        return self._forward(self._run, inputs), image_index


class Windowed:
    """Windows of what a box reaches, image by image; the image's own maps are made first.

    Parameters
    ----------
    forward : Forward
    local : the network for these boxes
    copies : inputs of the network, M an image
    within : the boxes
    most : copies a batch at most
    """

    def __init__(self, forward: Forward, local: Local, copies: Copies | Altered, within: Within, most: int) -> None:
        self._count = len(within.starts)
        self.groups = [range(first, first + self._count) for first in range(0, len(copies), self._count)]
        most = min(most, forward.most(copies.image(0)))
        self.most = ceil(self._count / ceil(self._count / most))
        self._forward, self._local, self._copies, self._within = forward, local, copies, within
        self._starts = within.starts.to(copies.image(0).device)
        self._maps: list[Tensor] = []
        self._graph = forward.frozen_local(local, copies.image(0), len(copies), self.most)

    def enter(self, group: int) -> int:
        """Make the maps of an image."""
        self._maps = self._forward.maps(self._local, self._copies.image(group))
        if self._graph is not None:
            self._graph.hold(self._maps)
        return 1

    def logits(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) of copies, and the image of each (B,).

        Raises
        ------
        LimenError
            If a copy of the first batch is not as its image outside of its box.
        """
        perturbed, image_index = self._copies.build(start, stop)
        rows, columns = self._starts[start % self._count :][: stop - start].unbind(dim=1)
        if start == 0:
            self._check(perturbed, rows, columns)
        boxes = cut(perturbed, rows, columns, self._within.sides)
        if self._graph is not None and 2 * len(boxes) > self.most:
            return self._graph(boxes, rows, columns), image_index
        return self._forward.windows(self._local, boxes, (rows, columns), self._maps), image_index

    def _check(self, copies: Tensor, rows: Tensor, columns: Tensor) -> None:
        changed = (copies != self._copies.image(0)).any(dim=1)
        for axis, starts in ((1, rows), (2, columns)):
            places = torch.arange(copies.shape[axis + 1], device=copies.device)
            side = self._within.sides[axis - 1]
            outside = (places < starts[:, None]) | (places >= starts[:, None] + side)
            if bool((changed.any(dim=3 - axis) & outside).any()):
                raise LimenError(
                    f"copies within boxes of {' x '.join(map(str, self._within.sides))}: given copies that differ from "
                    "their image elsewhere too, allowed is a change inside the box alone."
                )
