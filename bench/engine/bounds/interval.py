"""Intervals, and the outward slack that pays for float32 rounding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SLACK = 4 * torch.finfo(torch.float32).eps
"""Share of the size of what is summed that each bound is moved outwards by: a few roundings, not a proof of them."""


class Interval(NamedTuple):
    """Bounds (B, *S) of the values at a place of the network, one pair a box."""

    low: Tensor
    high: Tensor

    @property
    def centre(self) -> Tensor:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Tensor:
        """Half the width."""
        return (self.high - self.low) / 2

    def meet(self, other: Interval) -> Interval:
        """Return what two sound intervals leave; rounding may cross them by a hair, and then the ends are swapped."""
        low, high = torch.maximum(self.low, other.low), torch.minimum(self.high, other.high)
        return Interval(torch.minimum(low, high), torch.maximum(low, high))


def around(centre: Tensor, radius: Tensor) -> Interval:
    """Return the interval of a centre and a radius, with slack."""
    radius = radius + SLACK * (centre.abs() + radius)
    return Interval(centre - radius, centre + radius)
