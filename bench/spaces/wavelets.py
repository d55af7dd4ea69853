"""The space of wavelet coefficients: credit goes to places at scales, of waveforms, images and volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional

from ..engine import Engine
from ..engine.precision import exact
from ..registry import LimenError
from . import _grid
from ._filters import filters
from .pixels import Baseline, Pixels
from .space import Mode, Size

_WHERE = "space 'wavelets'"
_CONVOLVE = (functional.conv1d, functional.conv2d, functional.conv3d)


@dataclass(frozen=True)
class Band:
    """One sub-band of a layout.

    Attributes
    ----------
    level : int
        1 is the finest; a coefficient of level j speaks of 2^j places along each axis.
    details : tuple of bool
        For each axis, whether it was high-passed; none at all: the approximation.
    region : tuple of slice
        Where the band lies in the array of coefficients.
    """

    level: int
    details: tuple[bool, ...]
    region: tuple[slice, ...]

    @property
    def name(self) -> str:
        """Return 'a3' for the approximation at level 3, 'd1' in one dimension, else as 'lh1', axis by axis."""
        if not any(self.details):
            return f"a{self.level}"
        letters = "".join("lh"[high] for high in self.details)
        return f"{letters if len(letters) > 1 else 'd'}{self.level}"


class Wavelets:
    """Coefficients of an orthogonal wavelet transform, periodised, in the layout of Mallat.

    An array of coefficients has the shape of the input: along each axis of (N, C, T), (N, C, H, W) or
    (N, C, D, H, W) the first half is low-passed, the second high-passed, and the low-passed corner is transformed
    again, `levels` times. The transform is orthonormal for every length: where one is odd, the last sample goes
    unchanged to the low-passed half. So a gradient in this space is the transform of the gradient in the input's.

    Cells are those of `Pixels`, laid over the array: with `side` a multiple of 2^levels, and lengths too, no cell
    straddles two sub-bands.

    Parameters
    ----------
    wavelet : 'haar', 'db1' .. 'db10' or 'sym2' .. 'sym9'
    levels : how often the low-passed corner is transformed
    baseline : {'zero', 'mean', 'blur', 'min', 'max'}
        The transform of the baseline input that `Pixels` gives this name; 'zero' is zero in both.

    References
    ----------
    Mallat 1989, doi:10.1109/34.192463; Kasmi et al. 2025, arXiv:2410.01482.
    """

    layer: str | None = None
    ordered = True

    def __init__(self, wavelet: str = "haar", levels: PositiveInt = 3, baseline: Baseline = "zero") -> None:
        if levels < 1:
            raise LimenError(f"{_WHERE}, levels: given {levels}, allowed is 1 or more.")
        self._filters = filters(wavelet)
        self._pixels = Pixels(baseline)
        self.wavelet, self.levels, self.kind = wavelet, levels, baseline
        self.name = f"wavelets ({wavelet}, {levels} levels, {baseline})"
        self.identity: str | None = repr(self)

    def __repr__(self) -> str:
        return f"Wavelets({self.wavelet!r}, levels={self.levels}, baseline={self.kind!r})"

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        """Return the coefficients (N, C, *places) of images (N, C, *places)."""
        return self.transform(engine.prepare(images))

    def baseline(self, coordinates: Tensor) -> Tensor:
        """Return the coefficients of the baseline of each image, (N, C, *places)."""
        if self.kind == "zero":
            return torch.zeros_like(coordinates)
        return self.transform(self._pixels.baseline(self.inputs(coordinates)))

    def rebased(self, baseline: str) -> Wavelets:
        """Return the same space with another baseline, by name."""
        return Wavelets(self.wavelet, self.levels, cast(Baseline, baseline))

    def transform(self, images: Tensor) -> Tensor:
        """Transform images (N, C, *places) into coefficients of the same shape; differentiable.

        Raises
        ------
        LimenError
            If they have no places, more than three axes of them, or too few for the levels.
        """
        self._check(images)
        with exact(images.device):
            bands = _decompose(images.flatten(0, 1).unsqueeze(1), self._bank(images), self.levels)
        return bands.reshape(images.shape)

    def inputs(self, coordinates: Tensor) -> Tensor:
        """Return the images (N, C, *places) of coefficients: the inverse transform, differentiable."""
        self._check(coordinates)
        with exact(coordinates.device):
            images = _reconstruct(coordinates.flatten(0, 1).unsqueeze(1), self._bank(coordinates), self.levels)
        return images.reshape(coordinates.shape)

    def cells(self, coordinates: Tensor, side: int | None) -> int:
        """Return `side` cells along each axis, multiplied; None counts the coefficients of a channel."""
        return _grid.cells(tuple(coordinates.shape[2:]), side, _WHERE)

    def spread(self, weights: Tensor, coordinates: Tensor, side: int | None, mode: Mode = "nearest") -> Tensor:
        """Spread weights (B, d) over the array of coefficients, (B, 1, *places).

        'bilinear' weights run across the borders of sub-bands; attributions that are to be read scale by scale want
        'nearest'.
        """
        return _grid.spread(weights, tuple(coordinates.shape[2:]), side, mode, _WHERE)

    def pool(self, credit: Tensor, side: int | None) -> Tensor:
        """Sum credit (N, 1, *places) in each cell, (N, d)."""
        return _grid.pool(credit, side, _WHERE)

    def credit(self, gradients: Tensor) -> Tensor:
        """Sum signed values over the channels, (N, 1, *places)."""
        return gradients.sum(dim=1, keepdim=True)

    def map(self, credit: Tensor, size: Size) -> Tensor:
        """Draw the credit's magnitude where its coefficients look, added over all scales: (N, 1, *size)."""
        return self.scales(credit, size).sum(dim=1, keepdim=True)

    def scales(self, credit: Tensor, size: Size | None = None) -> Tensor:
        """Draw the credit's magnitude at each scale.

        Parameters
        ----------
        credit : (N, 1, *places), in the layout of the coefficients
        size : places along each axis of the drawing; None keeps those of the credit

        Returns
        -------
        (N, levels + 1, *size), non-negative
            Channel j - 1 is level j, finest first: the magnitudes of its sub-bands added, each coefficient repeated
            over the 2^j places it speaks of. The last channel is the approximation.
        """
        places = tuple(credit.shape[2:])
        drawn = list(credit.new_zeros(self.levels + 1, len(credit), 1, *places))
        for band in self.bands(places):
            scale = band.level - 1 if any(band.details) else self.levels
            drawn[scale] = drawn[scale] + _enlarged(
                credit[(slice(None), slice(None), *band.region)].abs(), band.level, places
            )
        return _grid.resize(torch.cat(drawn, dim=1), places if size is None else size)

    def bands(self, places: tuple[int, ...]) -> Iterator[Band]:
        """Yield the sub-bands of an array of coefficients, finest first, the approximation last."""
        for level in range(1, self.levels + 1):
            low = tuple((length + 1) // 2 for length in places)
            for details in product((False, True), repeat=len(places)):
                if any(details):
                    halves = zip(details, low, places, strict=True)
                    region = tuple(slice(half, length) if high else slice(0, half) for high, half, length in halves)
                    yield Band(level, details, region)
            places = low
        yield Band(self.levels, (False,) * len(places), tuple(slice(0, length) for length in places))

    def _bank(self, like: Tensor) -> Tensor:
        return like.new_tensor(self._filters)

    def _check(self, values: Tensor) -> None:
        if not 3 <= values.ndim <= 5:
            raise LimenError(
                f"{_WHERE}: given shape {tuple(values.shape)}, allowed are waveforms (N, C, T), images (N, C, H, W) "
                "and volumes (N, C, D, H, W)."
            )
        shortest = min(values.shape[2:])
        if 2**self.levels > shortest:
            raise LimenError(
                f"{_WHERE}, levels: given {self.levels} for inputs with an axis of {shortest} places, "
                f"allowed is 1 to {shortest.bit_length() - 1}."
            )


def _decompose(signal: Tensor, bank: Tensor, levels: int) -> Tensor:
    """Transform (B, 1, *places) along each axis, then its low-passed corner again."""
    for axis in range(2, signal.ndim):
        signal = _analyse(signal, axis, bank)
    if levels > 1:
        corner = _corner(signal)
        inner = _decompose(signal[corner], bank, levels - 1)
        signal = signal.clone()
        signal[corner] = inner
    return signal


def _reconstruct(bands: Tensor, bank: Tensor, levels: int) -> Tensor:
    """Undo `_decompose`, in the opposite order."""
    if levels > 1:
        corner = _corner(bands)
        inner = _reconstruct(bands[corner], bank, levels - 1)
        bands = bands.clone()
        bands[corner] = inner
    for axis in reversed(range(2, bands.ndim)):
        bands = _synthesise(bands, axis, bank)
    return bands


def _corner(signal: Tensor) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(0, (length + 1) // 2) for length in signal.shape[2:]))


def _analyse(signal: Tensor, axis: int, bank: Tensor) -> Tensor:
    """Filter and halve one axis: low-passed, the last sample of an odd length, high-passed."""
    length = signal.shape[axis]
    even, taps = length - length % 2, bank.shape[1]
    around = _turn(signal, axis, start=1 - taps // 2, count=even + taps - 2, period=even)
    along = range(2, signal.ndim)
    kernel = bank.reshape(2, 1, *(-1 if one == axis else 1 for one in along))
    both = _CONVOLVE[signal.ndim - 3](around, kernel, stride=tuple(2 if one == axis else 1 for one in along))
    return torch.cat([both[:, :1], signal.narrow(axis, even, length % 2), both[:, 1:]], dim=axis)


def _synthesise(bands: Tensor, axis: int, bank: Tensor) -> Tensor:
    """Undo `_analyse`: the transposed convolution, as a plain one for the even and the odd samples side by side."""
    length = bands.shape[axis]
    half = length // 2
    both = torch.cat([bands.narrow(axis, 0, half), bands.narrow(axis, length - half, half)], dim=1)
    phases, first = _phases(bank)
    around = _turn(both, axis, start=first, count=half + phases.shape[2] - 1, period=half)
    kernel = phases.reshape(2, 2, *(-1 if one == axis else 1 for one in range(2, bands.ndim)))
    samples = _CONVOLVE[bands.ndim - 3](around, kernel)
    whole = samples.movedim(1, axis).flatten(axis - 1, axis).unsqueeze(1)
    return torch.cat([whole, bands.narrow(axis, half, length % 2)], dim=axis)


def _phases(bank: Tensor) -> tuple[Tensor, int]:
    """Return the filters (2, 2, W) that give even and odd samples from both bands, and where the first is read.

    Sample 2 p + r gathers tap m of coefficient k where 2 k + m = 2 p + r + L / 2 - 1.
    """
    taps = bank.shape[1]
    shifts = [divmod(phase + taps // 2 - 1, 2) for phase in (0, 1)]
    last = max(shift for shift, _ in shifts)
    width = taps // 2 + last - min(shift for shift, _ in shifts)
    rows = []
    for shift, parity in shifts:
        used = bank[:, parity::2].flip(1)
        late = last - shift
        rows.append(functional.pad(used, (width - taps // 2 - late, late)))
    return torch.stack(rows), last - width + 1


def _turn(values: Tensor, axis: int, *, start: int, count: int, period: int) -> Tensor:
    """Read `count` samples of an axis from `start` on, as if its first `period` samples went on for ever."""
    if start == 0 and count == period:
        return values.narrow(axis, 0, period)
    index = values.new_ones(count, dtype=torch.int64).cumsum(0) - 1 + start
    return values.index_select(axis, index % period)


def _enlarged(band: Tensor, level: int, places: tuple[int, ...]) -> Tensor:
    """Repeat each coefficient of (N, 1, ...) over its 2^level places; a sample passed on by an odd length has no detail."""
    for axis, length in enumerate(places, start=2):
        index = (band.new_ones(length, dtype=torch.int64).cumsum(0) - 1) // 2**level
        missing = -(-length // 2**level) - band.shape[axis]
        if missing:
            rest = band.narrow(axis, 0, 1).expand(*(missing if one == axis else -1 for one in range(band.ndim)))
            band = torch.cat([band, torch.zeros_like(rest)], dim=axis)
        band = band.index_select(axis, index)
    return band
