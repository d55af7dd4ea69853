"""The random part of a model: which grouping, which row values, which columns of the random-effects design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class RandomTerm:
    """One random term `(values | group)`.

    Attributes
    ----------
    group : str
        Name of the grouping factor ('participant', 'item').
    codes : array (N,)
        Level of each row, of any values.
    values : array (N, c)
        Ones for an intercept, a centred column for an uncorrelated slope, both for a correlated pair.
    names : tuple of str
        One name a column.
    """

    group: str
    codes: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, group: str, codes: np.ndarray, **columns: np.ndarray) -> RandomTerm:
        """Build a term; without columns it is an intercept."""
        n = len(codes)
        named = columns or {"intercept": np.ones(n)}
        stacked = np.column_stack([np.broadcast_to(np.asarray(value, dtype=float), (n,)) for value in named.values()])
        return cls(group, np.asarray(codes), stacked, tuple(named))


@dataclass(frozen=True)
class Slot:
    """One column of the random-effects design as rows see it: the term, its column, and where its effects stand.

    `index` is the level of the eliminated factor if `dense` is False, else the column of the dense block.
    """

    term: int
    column: int
    dense: bool
    index: np.ndarray
    values: np.ndarray


class Layout:
    """Where each random effect stands: the factor with the most effects is eliminated, the rest is dense."""

    def __init__(self, terms: Sequence[RandomTerm], eliminate: str | None = None) -> None:
        self.terms = list(terms)
        codes = {term.group: pd.factorize(np.asarray(term.codes, dtype=object), sort=True)[0] for term in terms}
        self.levels = {name: int(code.max()) + 1 for name, code in codes.items()}
        columns = dict.fromkeys(self.levels, 0)
        for term in terms:
            columns[term.group] += self.levels[term.group] * term.values.shape[1]
        first = eliminate or max(columns, key=lambda name: columns[name])
        self.eliminated = first
        self.q0 = self.levels[first]
        self.level = codes[first]
        self.slots: list[Slot] = []
        self._spans: dict[int, slice] = {}
        offset = 0
        for t, term in enumerate(terms):
            width = term.values.shape[1]
            for column in range(width):
                dense = term.group != first
                index = offset + codes[term.group] * width + column if dense else codes[first]
                self.slots.append(Slot(t, column, dense, index, term.values[:, column]))
            if term.group != first:
                self._spans[t] = slice(offset, offset + self.levels[term.group] * width)
                offset = self._spans[t].stop
        self.r = offset
        self.outer = [i for i, slot in enumerate(self.slots) if slot.dense]
        self.inner = [i for i, slot in enumerate(self.slots) if not slot.dense]
        self.entries = [
            (t, k, low) for t, term in enumerate(terms) for low in range(term.values.shape[1]) for k in range(low, term.values.shape[1])
        ]  # fmt: skip
        """Lower-triangle entries (term, row, column) of all factors, in the order of theta."""

    def place(self, term: int, column: int) -> Any:
        """Return where a column of a term stands: its position among the eliminated effects, or its slice of the dense ones."""
        if self.terms[term].group == self.eliminated:
            return next(
                position
                for position, i in enumerate(self.inner)
                if (self.slots[i].term, self.slots[i].column) == (term, column)
            )
        span, width = self.span(term), self.terms[term].values.shape[1]
        return slice(span.start + column, span.stop, width)

    def span(self, term: int) -> slice:
        """Return the columns of a dense term."""
        return self._spans[term]

    def factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Arrange theta as one lower-triangular matrix a term."""
        found = [np.zeros((term.values.shape[1],) * 2) for term in self.terms]
        for value, (t, k, low) in zip(theta, self.entries, strict=True):
            found[t][k, low] = value
        return found

    def row_values(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return what each slot contributes to each row: values times the factor, a list of (N,)."""
        products = [term.values @ factor for term, factor in zip(self.terms, self.factors(theta), strict=True)]
        return [products[slot.term][:, slot.column] for slot in self.slots]

    def diagonal(self) -> list[int]:
        """Return the positions in theta that are diagonal entries."""
        return [i for i, (_, k, low) in enumerate(self.entries) if k == low]
