"""What a space is: the coordinates an explanation distributes credit over."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ..engine import Engine, Within

Mode = Literal["nearest", "bilinear"]
Size = int | tuple[int, ...]
"""Places along each axis of a drawing; one number means that many along each."""


@runtime_checkable
class Space(Protocol):
    """Coordinates, how the network reads them, what their cells are and how a map is drawn.

    `S` is the shape of one image's coordinates, (3, H, W) for pixels: channels, whose credit is summed, then places.

    Attributes
    ----------
    name : str
        Name used in tables.
    layer : str or None
        None: the coordinates lead to network inputs; else to activations of this layer, and only the head runs.
    identity : str or None
        All that decides what the space does, as text: answers are remembered by it. None: nothing is remembered.
    ordered : bool
        Places side by side belong together, so that windows and smooth masks over them mean something: true of
        pixels, false of concepts.
    """

    name: str
    layer: str | None
    identity: str | None
    ordered: bool

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        """Return the coordinates (N, *S) of images."""
        ...

    def baseline(self, coordinates: Tensor) -> Tensor:
        """Return the coordinates (N, *S) of an input that holds nothing."""
        ...

    def rebased(self, baseline: str) -> Space:
        """Return the same space with another baseline, by name.

        Raises
        ------
        UnknownName
            If the space has no such baseline.
        """
        ...

    def inputs(self, coordinates: Tensor) -> Tensor:
        """Return what the network, or the head at `layer`, eats; differentiable."""
        ...

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        """Return the number of cells an image has at `side` cells a side (None: one cell a coordinate place).

        A space whose places are not ordered takes no notice of `side`: each place is a cell.
        """
        ...

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor:
        """Spread cell weights (B, d) over the places of the coordinates, (B, 1, *S[1:])."""
        ...

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        """Sum credit (N, 1, *S[1:]) in each cell, (N, d)."""
        ...

    def credit(self, gradients: Tensor) -> Tensor:
        """Sum signed values (N, *S) over the channels, (N, 1, *S[1:])."""
        ...

    def map(self, credit: Tensor, size: Size) -> Tensor:
        """Draw credit (N, 1, ...) as a picture (N, 1, H, W), or as what the inputs are: a line, a volume."""
        ...


def cell_boxes(space: Space, coordinates: Tensor, side: int | None) -> Within | None:
    """Return the box of each cell, where coordinates (N, C, H, W) are places in rows and columns; else None."""
    if coordinates.ndim != 4 or space.layer is not None or not space.ordered:
        return None
    return Within.cells((coordinates.shape[2], coordinates.shape[3]), side)
