"""Spaces by name, for plans and the command line: 'pixels', 'pixels:blur', 'wavelets:haar:3', 'wavelets:db2:2:mean'."""

from __future__ import annotations

from typing import cast

from ..registry import LimenError, unknown
from .pixels import Baseline, Pixels
from .space import Space
from .wavelets import Wavelets

_NAMES = ("pixels", "wavelets")
_PARTS = {"pixels": "pixels[:baseline]", "wavelets": "wavelets[:wavelet[:levels[:baseline]]]"}


def make(spec: str) -> Space:
    """Return the space a text names; parts left out, or empty, are the defaults.

    Concepts have no name here, since they need a dictionary: `Concepts(dictionary, layer)`.

    Parameters
    ----------
    spec : 'pixels[:baseline]' or 'wavelets[:wavelet[:levels[:baseline]]]'

    Raises
    ------
    LimenError
        If the text names no space, or has a part too many or of the wrong kind.
    """
    name, *parts = str(spec).split(":")
    if name not in _NAMES:
        raise unknown("space", name, _NAMES)
    given = [part or None for part in parts] + [None] * 3
    if any(given[_PARTS[name].count("[") :]):
        raise LimenError(f"space: given '{spec}', allowed is {_PARTS[name]}.")
    if name == "pixels":
        return Pixels(cast(Baseline, given[0] or "zero"))
    wavelet, levels, baseline = given[:3]
    if levels is not None and not levels.isdecimal():
        raise LimenError(f"space: given '{spec}' with levels '{levels}', allowed is {_PARTS[name]}, levels a number.")
    return Wavelets(wavelet or "haar", int(levels or 3), cast(Baseline, baseline or "zero"))
