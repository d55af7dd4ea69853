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


class Reach(Stretch):
    """The places of a map that a box of the input can change: one stretch of the axis, inside it.

    Parameters
    ----------
    low, high : int64 (S,), the first and the last place changed by a box that begins at 0 .. S - 1
    length : places of the axis
    """

    def __init__(self, low: Tensor, high: Tensor, length: int) -> None:
        count = min(length, int((high - low).max()) + 1)
        super().__init__(low.clamp(0, length - count), count)
        object.__setattr__(self, "length", length)

    length: int

    @classmethod
    def of_boxes(cls, length: int, side: int) -> Reach:
        """Return the boxes of `side` places themselves."""
        start = torch.arange(length - side + 1)
        return cls(start, start + side - 1, length)

    def after(self, step: Sliding, length: int) -> Reach:
        """Return the reach behind a convolution or pooling whose output has `length` places."""
        low = self.start + step.padding - step.span + step.stride
        high = self.start + self.count - 1 + step.padding
        return Reach(
            (low // step.stride).clamp(0, length - 1), (high // step.stride).clamp(0, length - 1), length
        )  # fmt: skip

    def seen_by(self, step: Sliding) -> Stretch:
        """Return the places before a convolution or pooling that it looks at to give these; some lie outside."""
        return Stretch(self.start * step.stride - step.padding, (self.count - 1) * step.stride + step.span)

    def whole(self) -> Stretch:
        """Return the whole axis."""
        return Stretch(torch.zeros_like(self.start), self.length)

    def joined(self, other: Reach) -> Reach:
        """Return what either reaches."""
        low, high = (
            torch.minimum(self.start, other.start),
            torch.maximum(self.start + self.count, other.start + other.count),
        )
        return Reach(low, high - 1, self.length)
