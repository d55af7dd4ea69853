"""Orthogonal wavelet filters from their definition: Daubechies' by spectral factorisation, symlets by their phase."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import product

import numpy as np

from ..registry import unknown

WAVELETS = ("haar", *(f"db{order}" for order in range(1, 11)), *(f"sym{order}" for order in range(2, 10)))
"""Up to ten vanishing moments (float64 knows the roots well), and the symlets on whose phase all measures agree."""


@lru_cache
def filters(wavelet: str) -> np.ndarray:
    """Return the low-pass and the high-pass filter of an orthogonal wavelet, float64 (2, L).

    Row 0 sums to sqrt(2), row 1 to 0; both have norm 1, and they and their shifts by 2 are orthogonal. A signal's
    coefficients are its inner products with them.

    Parameters
    ----------
    wavelet : 'haar', 'db1' .. 'db10' or 'sym2' .. 'sym9'

    Raises
    ------
    UnknownName

    References
    ----------
    Daubechies 1988, doi:10.1002/cpa.3160410705; Daubechies 1993 (least asymmetric), doi:10.1137/0524031.
    """
    if wavelet not in WAVELETS:
        raise unknown("space 'wavelets', wavelet", wavelet, WAVELETS)
    family, digits = re.fullmatch(r"([a-z]+?)(\d*)", wavelet).groups()  # type: ignore[union-attr]
    order = int(digits or 1)
    low = (
        _symlet(order) if family == "sym" else _scaling(order, [zero for inside, _ in _zeros(order) for zero in inside])
    )
    high = low[::-1] * (-1.0) ** np.arange(len(low))
    return np.stack([low, high])


def _zeros(order: int) -> list[tuple[list[complex], list[complex]]]:
    """List the zeros one may choose between: inside the unit circle or mirrored outside, conjugates together.

    With y = sin^2(w / 2), |H|^2 = 2 (1 - y)^N P(y) and P(y) = sum_k C(N - 1 + k, k) y^k; each root of P is two zeros
    z and 1 / z with z + 1 / z = 2 - 4 y.
    """
    polynomial = [math.comb(order - 1 + power, power) for power in reversed(range(order))]
    choices = []
    for root in np.roots(polynomial):
        if root.imag < -1e-9:
            continue
        half = 1 - 2 * root
        zero = half + np.sqrt(half * half - 1 + 0j)
        inside = zero if abs(zero) < 1 else 1 / zero
        pair = [inside] if abs(root.imag) <= 1e-9 else [inside, inside.conjugate()]
        choices.append((pair, [1 / value for value in pair]))
    return choices


def _scaling(order: int, zeros: list[complex]) -> np.ndarray:
    """Multiply (1 + z)^N by the factors of the chosen zeros, with sum sqrt(2); float64 (2 N,)."""
    taps = np.poly([-1.0] * order + zeros).real
    return taps * math.sqrt(2) / taps.sum()


def _symlet(order: int) -> np.ndarray:
    """Choose the zeros whose phase is nearest to a straight line: the least asymmetric filter."""
    choices = [[zero for chosen in several for zero in chosen] for several in product(*_zeros(order))]
    # A choice and its mirror image bend alike: of the two, the one whose first half weighs more.
    nearest = sorted(choices, key=_bend)[:2]
    return max((_scaling(order, zeros) for zeros in nearest), key=lambda taps: float(np.square(taps[:order]).sum()))


def _bend(zeros: list[complex]) -> float:
    """Measure how far the phase of the zeros' factors is from the best straight line; (1 + z)^N is straight itself."""
    frequencies = np.linspace(0, np.pi, 512)
    turns = 1 - np.asarray(zeros)[:, None] * np.exp(-1j * frequencies)
    phase = np.unwrap(np.angle(turns.prod(axis=0) / turns[:, 0].prod()))
    slope = (phase @ frequencies) / (frequencies @ frequencies)
    return float(np.square(phase - slope * frequencies).mean())
