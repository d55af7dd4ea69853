"""The design's within-subject factors: columns of the export, named as the design names them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.records import columns
from bench.registry import LimenError

from ..records import ResponseRow

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
Value = str | float | int | bool


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor: its column, what its values are, and which there are."""

    name: str
    type: str
    """text, number or bool."""
    levels: tuple[Value, ...]
    """In ascending order."""
    whole: bool
    """Whether every trial has a value."""

    @property
    def meaning(self) -> str:
        """What the codebook says of it."""
        listed = ", ".join(str(level) for level in self.levels[:12]) + (", …" if len(self.levels) > 12 else "")
        gaps = "" if self.whole else " Empty where the trial has none."
        return f"Factor of the design; levels: {listed}.{gaps}"

    def value(self, given: Mapping[str, Any]) -> Value | None:
        """Return a trial's value as it stands in a table, None if it has none; true/false with gaps is text."""
        value = given.get(self.name)
        if value is None:
            return None
        if self.type == "number":
            return float(value)
        return bool(value) if self.type == "bool" and self.whole else str(value)


def read_factors(trials: Iterable[Mapping[str, Any]], *, where: str) -> tuple[Factor, ...]:
    """Read the factors that occur in trials, in the order of their names.

    Raises
    ------
    LimenError
        If a name is no column name or is a column already, or a value is not text, a number or true/false.
    """
    given = list(trials)
    taken = set(columns(ResponseRow))
    found = []
    for name in sorted({name for factors in given for name in factors}):
        if not NAME.match(name):
            raise LimenError(f"{where}, factor '{name}': a name has letters, digits and _, and begins with a letter.")
        if name in taken:
            raise LimenError(
                f"{where}, factor '{name}': is a column of every response already; give the factor another name."
            )
        values = [factors[name] for factors in given if factors.get(name) is not None]
        wrong = next((value for value in values if not isinstance(value, str | int | float)), None)
        if wrong is not None:
            raise LimenError(
                f"{where}, factor '{name}': holds a {type(wrong).__name__}; allowed are text, numbers and true/false."
            )
        kind = _kind(values)
        levels = sorted({str(value) if kind == "text" else value for value in values})
        found.append(Factor(name=name, type=kind, levels=tuple(levels), whole=len(values) == len(given)))
    return tuple(found)


def _kind(values: list[Any]) -> str:
    if values and all(isinstance(value, bool) for value in values):
        return "bool"
    if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return "number"
    return "text"
