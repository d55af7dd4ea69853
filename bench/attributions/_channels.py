"""How the values of an image's channels become one value a place."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..spaces import Space

Channels = Literal["sum", "mean"]
"""'sum' keeps completeness; 'mean' is Xplique's, the sum over the number of channels."""


def credit(values: Tensor, space: Space, channels: Channels) -> Tensor:
    """Return signed values (N, *S) as (N, 1, *S[1:])."""
    total = space.credit(values)
    return total / values.shape[1] if channels == "mean" else total
