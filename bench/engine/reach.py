"""How far a change of the input reaches along one axis of a network's maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sliding:
    """What a convolution or a pooling does along one axis."""

    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def span(self) -> int:
        """Places from the first to the last that one output sees."""
        return self.dilation * (self.kernel - 1) + 1


@dataclass(frozen=True, eq=False)
class Stretch:
    """Equally many places of an axis for each place at which a box of the input can begin.

    Attributes
    ----------
    start : int64 (S,), where they begin for a box that begins at 0 .. S - 1
    count : places
    """

    start: Tensor
    count: int

    def like(self, other: Stretch) -> bool:
        """Tell whether both are the same places."""
        return self.count == other.count and torch.equal(self.start, other.start)


@dataclass(frozen=True, eq=False)
class Reach(Stretch):
    """The places of a map that a box of the input can change: one stretch of the axis, inside it.

    Attributes
    ----------
    length : places of the axis
    """

    length: int

    @classmethod
    def spanning(cls, low: Tensor, high: Tensor, length: int) -> Reach:
        """Return the reach that holds the places low .. high (S,) each, which lie on an axis of `length`."""
        count = min(length, int((high - low).max()) + 1)
        return cls(low.clamp(0, length - count), count, length)

    @classmethod
    def of_boxes(cls, length: int, side: int) -> Reach:
        """Return the boxes of `side` places themselves."""
        return cls(torch.arange(length - side + 1), side, length)

    def after(self, step: Sliding, length: int) -> Reach:
        """Return the reach behind a convolution or pooling whose output has `length` places."""
        low = (self.start + step.padding - step.span + step.stride) // step.stride
        high = (self.start + self.count - 1 + step.padding) // step.stride
        return Reach.spanning(low.clamp(0, length - 1), high.clamp(0, length - 1), length)

    def seen_by(self, step: Sliding) -> Stretch:
        """Return the places before a convolution or pooling that it looks at to give these; some lie outside."""
        return Stretch(self.start * step.stride - step.padding, (self.count - 1) * step.stride + step.span)

    def whole(self) -> Stretch:
        """Return the whole axis."""
        return Stretch(torch.zeros_like(self.start), self.length)

    def joined(self, other: Reach) -> Reach:
        """Return what either reaches."""
        low = torch.minimum(self.start, other.start)
        stop = torch.maximum(self.start + self.count, other.start + other.count)
        return Reach.spanning(low, stop - 1, self.length)
