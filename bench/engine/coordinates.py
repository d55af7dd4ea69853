"""What the engine asks of a space, and of images in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Mode = Literal["nearest", "bilinear"]


class Coordinates(Protocol):
    """How coordinates become what the network eats; `bench.spaces.space.Space` says what each member means."""

    layer: str | None

    def baseline(self, coordinates: Tensor) -> Tensor: ...

    def inputs(self, coordinates: Tensor) -> Tensor: ...

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Asked:
    """Images in a space, and the class of each that is asked about.

    Attributes
    ----------
    images : float32 (N, ...)
    chosen : int64 (N,)
    coordinates : float32 (N, *S), those of the images
    space : Coordinates
    """

    images: Tensor
    chosen: Tensor
    coordinates: Tensor
    space: Coordinates
