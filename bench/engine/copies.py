"""Masked copies of images, built batch by batch on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..registry import LimenError
from .coordinates import Coordinates, Mode
from .masks import Masks, Within


class Copies:
    """The masked copies `m x + (1 - m) x0` of N images: item `i` is copy `i % M` of image `i // M`.

    Parameters
    ----------
    coordinates : Tensor (N, *S)
    masks : Masks, M an image
    space : gives the baseline, and spreads (B, d) masks
    side, mode : how they are spread

    Attributes
    ----------
    told : tuple or None
        What they are, by which their scores are remembered; None where only building them tells.
    within : Within or None
        Boxes outside of which they are as their image.
    """

    def __init__(
        self, coordinates: Tensor, masks: Masks, space: Coordinates, *, side: int | None = None, mode: Mode = "nearest"
    ) -> None:
        self._coordinates, self._baseline = coordinates, space.baseline(coordinates)
        self._masks, self._space, self._side, self._mode = masks, space, side, mode
        self.told: tuple[object, ...] | None = None if masks.values is None else ("masks", masks.values, side, mode)
        self.within = masks.within

    def __len__(self) -> int:
        return len(self._coordinates) * self._masks.count

    def image(self, index: int) -> Tensor:
        """Return the coordinates (1, *S) of an image, unchanged."""
        return self._coordinates[index : index + 1]

    def build(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the coordinates (B, *S) of the copies start .. stop, and the index (B,) of the image of each.

        Raises
        ------
        LimenError
            If the masks are not one a copy, or do not fit the coordinates.
        """
        count, device = self._masks.count, self._coordinates.device
        flat = torch.arange(start, stop, device=device)
        image_index = flat // count
        values = self._masks.build(image_index, flat % count).to(device, torch.float32)
        first, last = start // count, (stop - 1) // count
        # Copies of one image are broadcast: gathering would write the image B times.
        chosen: Any = slice(first, first + 1) if first == last else image_index
        kept, replaced = self._coordinates[chosen], self._baseline[chosen]
        if values.ndim == 2:
            places = kept.expand(stop - start, *kept.shape[1:])
            values = self._space.spread(values, places, self._side, self._mode)
        wanted = (stop - start, *kept.shape[1:])
        fits = len(values) == wanted[0] and values.ndim == len(wanted)
        if not fits or any(have not in (1, want) for have, want in zip(values.shape, wanted, strict=True)):
            raise LimenError(
                f"masks: given {tuple(values.shape)} for {stop - start} copies of coordinates {wanted[1:]}, "
                "allowed is one mask a copy, (B, d) or (B, 1, H, W)."
            )
        return torch.lerp(replaced, kept, values), image_index


Alter = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`alter(coordinates (B, *S), image_index (B,), copy_index (B,)) -> (B, *S)`: copies of images, changed."""


class Altered:
    """Copies of N images that a function changes: item `i` is copy `i % M` of image `i // M`.

    Parameters
    ----------
    coordinates : Tensor (N, *S)
    count : M, copies an image
    alter : as `Alter` says; a function of its arguments alone, since batches are cut, and cut again when memory runs
        out; what it is given must not be written to
    key : names all that `alter` does
    within : boxes outside of which it changes nothing

    Attributes
    ----------
    told : tuple or None
        What they are, by which their scores are remembered; None without a key.
    within : Within or None
    """

    def __init__(
        self, coordinates: Tensor, count: int, alter: Alter, *, key: str | None = None, within: Within | None = None
    ) -> None:
        if count < 1:
            raise LimenError(f"altered copies: given {count} copies an image, allowed is 1 or more.")
        self._coordinates, self._count, self._alter = coordinates, count, alter
        self.told: tuple[object, ...] | None = None if key is None else (key,)
        self.within = within

    def __len__(self) -> int:
        return len(self._coordinates) * self._count

    def image(self, index: int) -> Tensor:
        """Return the coordinates (1, *S) of an image, unchanged."""
        return self._coordinates[index : index + 1]

    def build(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the coordinates (B, *S) of the copies start .. stop, and the index (B,) of the image of each.

        Raises
        ------
        LimenError
            If the function gives something that is not shaped like what it was given.
        """
        flat = torch.arange(start, stop, device=self._coordinates.device)
        image = flat // self._count
        first, last = start // self._count, (stop - 1) // self._count
        # Copies of one image are views of it: what changes them makes new numbers.
        one = self._coordinates[first : first + 1]
        kept = one.expand(stop - start, *one.shape[1:]) if first == last else self._coordinates[image]
        changed = self._alter(kept, image, flat % self._count)
        if changed.shape != kept.shape:
            raise LimenError(
                f"altered copies: given {tuple(changed.shape)} for coordinates {tuple(kept.shape)}; they must agree."
            )
        return changed.float(), image
