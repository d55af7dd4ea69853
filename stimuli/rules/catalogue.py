"""The rules: nine elementary ones, and compositions of two, each a picture that three of four follow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bench.registry import unknown

from .layouts import alone, nested, several, touching
from .scene import Figure
from .values import ATTRIBUTES, SIDES, SMALL_SIDES, Draw

RELATIONS = ("inside", "contact")
ELEMENTARY = (*ATTRIBUTES, *RELATIONS)
_HELD = {"rotation": ("shape", "flip"), "flip": ("shape",)}
"""What must be the same in all four pictures for a rule to be defined: a turn or a mirroring of what?"""
_NEVER = {frozenset(pair) for pair in combinations(("position", "count", *RELATIONS), 2)} | {
    frozenset(("size", "count"))
}
"""Compositions that are not there: the two would be about one thing, the layout of the picture."""
PICTURES = 4


@dataclass(frozen=True)
class Rule:
    """One rule of one or two parts.

    Three pictures of a problem follow every part; the odd one breaks exactly one. Of an attribute the three share a
    value that is drawn anew for each problem, and the odd one has another; 'inside' and 'contact' hold in three. All
    else is drawn anew for each picture, apart from what a part needs to be defined: under 'flip' all four show the same
    shape, under 'rotation' the same shape, mirrored alike. In compositions with 'count' the other part is about all the
    figures of a picture, with 'inside' and 'contact' about the filled one.

    Attributes
    ----------
    name : 'colour', 'shape-colour' ...
    parts : names of `ELEMENTARY`, in its order
    """

    name: str
    parts: tuple[str, ...]

    @property
    def is_composed(self) -> bool:
        return len(self.parts) > 1

    @property
    def held(self) -> tuple[str, ...]:
        """Attributes that all four pictures of a problem share without being the rule."""
        needed = {name for part in self.parts for name in _HELD.get(part, ())}
        return tuple(name for name in ATTRIBUTES if name in needed and name not in self.parts)

    def figures(self, broken: str, draw: Draw) -> list[tuple[Figure, ...]]:
        """Lay out the four pictures of a problem, the odd one last; `broken` is the part that it breaks."""
        pairs = {part: draw.pair(part) for part in self.parts if part in ATTRIBUTES}
        held = {name: draw.value(name) for name in self.held}
        pictures = []
        for number in range(PICTURES):
            odd = number == PICTURES - 1
            values: dict[str, Any] = {name: draw.value(name) for name in ATTRIBUTES} | held
            values |= {part: pair[int(odd and part == broken)] for part, pair in pairs.items()}
            pictures.append(self._lay_out(values, not (odd and broken in RELATIONS), draw))
        return pictures

    def _lay_out(self, values: dict[str, Any], holds: bool, draw: Draw) -> tuple[Figure, ...]:
        if "inside" in self.parts:
            return nested(values, holds, draw)
        if "contact" in self.parts:
            return touching(values, holds, draw)
        if "count" in self.parts:
            return several(values, frozenset((*self.parts, *self.held)), draw)
        return alone(values, draw)

    @property
    def sides(self) -> tuple[float, float]:
        """Smallest and largest side of the figure that the rule is about."""
        return SMALL_SIDES if set(self.parts) & set(RELATIONS) else SIDES


def _rules() -> dict[str, Rule]:
    pairs = [pair for pair in combinations(ELEMENTARY, 2) if frozenset(pair) not in _NEVER]
    return {"-".join(parts): Rule("-".join(parts), parts) for parts in [*((name,) for name in ELEMENTARY), *pairs]}


RULES = _rules()
"""Name -> rule: the elementary ones first."""
COMPOSED = tuple(name for name, rule in RULES.items() if rule.is_composed)


def rule_of(name: str, *, where: str = "rule") -> Rule:
    """Return a rule by its name.

    Raises
    ------
    UnknownName
        If there is no such rule.
    """
    if name not in RULES:
        raise unknown(where, name, list(RULES))
    return RULES[name]
