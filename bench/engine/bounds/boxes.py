"""What the input may be: boxes of coordinates, or of a layer's activations seen in samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...registry import LimenError
from .interval import Interval

Corners = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Make = Callable[[int, int], tuple[Interval, Tensor]]
"""`make(start, stop) -> (boxes start .. stop, the image (B,) of each)`."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """M boxes an image, built batch by batch on the device.

    Attributes
    ----------
    count : M
    build : callable
        `build(coordinates (B, *S), image_index (B,), box_index (B,)) -> (lower, upper)`, each (B, *S); a function of its
        arguments alone.
    layer : str or None
        None bounds the whole network over the box. Else only the part after this layer is bounded, over the smallest
        and largest activations that `noise` shows: no guarantee.
    noise : Tensor (N, n, *S) in [0, 1], needed with a layer
        Where in its box each of the n samples of an image lies, the same for all its boxes.
    """

    count: int
    build: Corners
    layer: str | None = None
    noise: Tensor | None = None

    def of(self, coordinates: Tensor, tap: Callable[[Tensor], Tensor]) -> Make:
        """Return the function that makes boxes start .. stop of N images and tells the image (B,) of each.

        Box `i` is box `i % M` of image `i // M`; `tap` gives the layer's activations at coordinates.

        Raises
        ------
        LimenError
            If there are no boxes, or a layer but no samples of every image.
        """
        wanted = (len(coordinates), *coordinates.shape[1:])
        noise = self.noise
        if self.count < 1:
            raise LimenError(f"boxes: given {self.count} an image, allowed is 1 or more.")
        if self.layer is not None and (noise is None or (len(noise), *noise.shape[2:]) != wanted or not noise.shape[1]):
            raise LimenError(
                f"boxes at layer '{self.layer}': given noise {None if noise is None else tuple(noise.shape)}, allowed is "
                f"at least one sample of each image, ({wanted[0]}, n, {', '.join(map(str, wanted[1:]))})."
            )

        def make(start: int, stop: int) -> tuple[Interval, Tensor]:
            flat = torch.arange(start, stop, device=coordinates.device)
            image = flat // self.count
            box = Interval(*self.build(coordinates[image], image, flat % self.count))
            return (box if noise is None else _seen(box, noise[image], tap)), image

        return make


def _seen(box: Interval, noise: Tensor, tap: Callable[[Tensor], Tensor]) -> Interval:
    """Return the smallest and largest activations over samples (B, n, *S) of the boxes."""
    found = tap(torch.lerp(box.low, box.high, noise[:, 0]))
    seen = Interval(found, found)
    for sample in range(1, noise.shape[1]):
        found = tap(torch.lerp(box.low, box.high, noise[:, sample]))
        seen = Interval(torch.minimum(seen.low, found), torch.maximum(seen.high, found))
    return seen
