"""The attributes that a rule can be about: how a value is drawn, and what counts as another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .contours import DISTINCT, LOBES, SMALLEST_TURN, likeness, profile
from .scene import NAMES

SIDES = (0.18, 0.36)
"""Smallest and largest side of a figure that stands alone, as a share of the picture (of the square of its area)."""
SMALL_SIDES = (0.11, 0.19)
"""The same beside another figure, and where several are counted."""
RATIO = 1.4
"""Least ratio of two sides that count as different."""
ROOM = (0.31, 0.69)
"""Where the centre of a figure that stands alone may lie, across and down."""
APART = 0.2
"""Least distance of two places that count as different, as a share of the picture."""
COUNTS = (2, 6)
"""Fewest and most figures of a counting problem."""

ATTRIBUTES = ("shape", "position", "size", "colour", "rotation", "flip", "count")
"""What a value can be given to; the rules 'inside' and 'contact' are about two figures."""

Values = Mapping[str, Any]
"""Attribute -> value of one picture."""


class Draw:
    """Draws values of attributes for one problem.

    Parameters
    ----------
    draws
        A seeded generator.
    sides
        Smallest and largest side of a figure.
    lobes
        Frequencies of contours.
    """

    def __init__(
        self, draws: np.random.Generator, sides: tuple[float, float] = SIDES, lobes: tuple[int, int] = LOBES
    ) -> None:
        self.draws = draws
        self.sides = sides
        self.lobes = lobes

    def value(self, attribute: str) -> Any:
        """Draw a value of an attribute."""
        draws = self.draws
        if attribute == "shape":
            return profile(draws, self.lobes)
        if attribute == "position":
            return (float(draws.uniform(*ROOM)), float(draws.uniform(*ROOM)))
        if attribute == "size":
            return float(np.exp(draws.uniform(*np.log(self.sides))))
        if attribute == "colour":
            return NAMES[int(draws.integers(len(NAMES)))]
        if attribute == "rotation":
            return float(draws.uniform(0, 360))
        if attribute == "flip":
            return bool(draws.integers(2))
        return int(draws.integers(COUNTS[0], COUNTS[1] + 1))

    def pair(self, attribute: str) -> tuple[Any, Any]:
        """Draw two values that differ visibly, by a rule that treats both alike."""
        first, second = self.value(attribute), self.value(attribute)
        while not differ(attribute, first, second):
            # Both are drawn anew: keeping the first would make odd values more extreme than shared ones.
            first, second = self.value(attribute), self.value(attribute)
        return first, second


def differ(attribute: str, first: Any, second: Any) -> bool:
    """Whether two values of an attribute are told apart."""
    if attribute == "shape":
        return likeness(first, second) < DISTINCT
    if attribute == "position":
        return bool(np.hypot(first[0] - second[0], first[1] - second[1]) >= APART)
    if attribute == "size":
        return bool(max(first, second) / min(first, second) >= RATIO)
    if attribute == "rotation":
        turn = abs(first - second) % 360
        return bool(min(turn, 360 - turn) >= SMALLEST_TURN)
    return bool(first != second)
