"""What the wavelet methods share: the space they work in, and how their credit is handed back."""

from __future__ import annotations

from torch import Tensor

from ..registry import LimenError
from ..spaces import Pixels, Space, Wavelets

WAVELET, LEVELS = "haar", 3


def wavelets(space: Space, wavelet: str | None, levels: int | None, where: str) -> Wavelets:
    """Return the coefficients to work in: the caller's own, or those of the pixels with the same baseline.

    Raises
    ------
    LimenError
        If the space is neither, or is of another wavelet than the one asked for.
    """
    if isinstance(space, Pixels):
        return Wavelets(wavelet or WAVELET, levels or LEVELS, space.kind)
    if not isinstance(space, Wavelets):
        raise LimenError(f"{where}: given the space '{space.name}', allowed are Pixels and Wavelets.")
    if wavelet not in (None, space.wavelet) or levels not in (None, space.levels):
        raise LimenError(
            f"{where}: given the space '{space.name}' and wavelet {wavelet}, levels {levels}; they must agree."
        )
    return space


def handed_back(credit: Tensor, coefficients: Wavelets, space: Space) -> Tensor:
    """Return the credit of coefficients as it is to a caller who works in them, else drawn on the pixels."""
    return credit if space is coefficients else coefficients.map(credit, tuple(credit.shape[2:]))
