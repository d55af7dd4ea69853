"""The best one-to-one matching of two sets of unit vectors, certified by its dual, for thousands of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from ...engine.host import host

_DENSE = 2**20
"""Most cosines of which the dense solver is asked at once."""
_HELD = 2**27
"""Most cosines held in memory (537 MB); of more, a block of rows is computed whenever it is looked at."""
_BLOCK = 2**21
"""Most cosines looked at together: a block stays in the processor's cache."""
_BLOCKS = 32
"""Fewest blocks of rows; in each of them a column proposes its best row."""
_CANDIDATES = 32
"""Columns that a row proposes in a round."""
_ROUNDS = 8
TOLERANCE = 1e-6
"""Mean cosine that a matching may fall short of the best one; the certificate of most is far below."""


@dataclass(frozen=True)
class Matching:
    """Rows of `first` and `second` that are partners, their gains float64, and what the mean gain may lack."""

    first: np.ndarray
    second: np.ndarray
    gains: np.ndarray
    gap: float


def match(first: Tensor, second: Tensor, signed: bool) -> Matching:
    """Match unit vectors one to one so that the sum of cosines (of |cosines| where `signed`) is the largest.

    Few vectors go to the dense Hungarian solver. For many, each proposes its best partners, the sparse problem is
    solved, and its dual prices bound what any matching of all can reach; vectors then propose again at those prices,
    until the bound is met.

    Parameters
    ----------
    first, second : float (k, d), (m, d)
        Of length one, or zero.

    Returns
    -------
    Matching
        min(k, m) pairs; `gap` is 0 where the dense solver was used, else what the certificate leaves open, at most
        `TOLERANCE` unless the rounds ran out.
    """
    if len(first) > len(second):
        turned = match(second, first, signed)
        return Matching(turned.second, turned.first, turned.gains, turned.gap)
    if len(first) * len(second) <= _DENSE:
        gains = host(_gains(first.double(), second.double(), signed))
        rows, columns = linear_sum_assignment(gains, maximize=True)
        return Matching(rows, columns, gains[rows, columns], 0.0)
    return _sparse(first, second, signed)


def _gains(first: Tensor, second: Tensor, signed: bool) -> Tensor:
    cosines = first @ second.T
    return cosines.abs() if signed else cosines


class _Blocks:
    """Gains (k, m) as float32, a block of rows at a time; held where they fit."""

    def __init__(self, first: Tensor, second: Tensor, signed: bool) -> None:
        self.first, self.second, self.signed = first.float(), second.float(), signed
        self.shape = (len(first), len(second))
        self.held: list[Tensor] | None = None
        if len(first) * len(second) <= _HELD:
            self.held = [part for _, part in self]

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        rows, columns = self.shape
        step = max(1, min(_BLOCK // columns, rows // _BLOCKS))
        for number, start in enumerate(range(0, rows, step)):
            if self.held is not None:
                yield start, self.held[number]
            else:
                yield start, _gains(self.first[start : start + step], self.second, self.signed)


def _sparse(first: Tensor, second: Tensor, signed: bool) -> Matching:
    """Alternate between proposals at the prices and the best matching of the pairs proposed so far."""
    blocks = _Blocks(first, second, signed)
    rows, columns = blocks.shape
    # Each row with a column of its own, so that a matching of all rows exists.
    pairs = np.arange(rows) * (columns + 1)
    row_prices, prices = np.zeros(rows), np.zeros(columns)
    for _ in range(_ROUNDS):
        pairs = _distinct(np.concatenate([pairs, _proposals(blocks, row_prices, prices)]))
        gains = _chosen(blocks, pairs)
        partner = _solved(pairs, gains, blocks.shape)
        matched = gains[np.searchsorted(pairs, np.arange(rows) * columns + partner)]
        prices = _prices(pairs, gains, matched, partner, columns)
        row_prices = _row_prices(blocks, prices)
        gap = max(0.0, float(row_prices.sum() + prices.sum() - matched.sum()) / columns)
        if gap <= TOLERANCE:
            break
    exact = np.einsum("kd,kd->k", host(first.double()), host(second.double())[partner])
    return Matching(np.arange(rows), partner, np.abs(exact) if signed else exact, gap)


def _proposals(blocks: _Blocks, row_prices: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the pairs, as row * columns + column, that are worth most to a row or to a column at these prices."""
    columns = blocks.shape[1]
    found = []
    for start, part in blocks:
        surplus = part - torch.from_numpy(prices).type_as(part)
        liked = host(surplus.topk(min(_CANDIDATES, columns), dim=1).indices)
        found.append((np.arange(start, start + len(part))[:, None] * columns + liked).ravel())
        surplus = part - torch.from_numpy(row_prices[start : start + len(part), None]).type_as(part)
        found.append((start + host(surplus.argmax(dim=0))) * columns + np.arange(columns))
    return np.concatenate(found)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers in order, each once; far faster here than `numpy.unique`."""
    numbers = np.sort(numbers)
    return numbers[np.concatenate([[True], numbers[1:] != numbers[:-1]])]


def _chosen(blocks: _Blocks, pairs: np.ndarray) -> np.ndarray:
    """Return the gains of sorted pairs as float64."""
    columns, parts = blocks.shape[1], []
    for start, part in blocks:
        first, last = np.searchsorted(pairs, [start * columns, (start + len(part)) * columns])
        parts.append(host(part).ravel()[pairs[first:last] - start * columns])
    return np.concatenate(parts).astype(np.float64)


def _solved(pairs: np.ndarray, gains: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the partner of each row in the best matching of all rows along these pairs."""
    # The solver minimises, and takes a weight of 0 for no edge.
    weights = csr_array((2.0 - gains, np.divmod(pairs, shape[1])), shape=shape)
    rows, columns = min_weight_full_bipartite_matching(weights)
    partner = np.empty(shape[0], dtype=np.int64)
    partner[rows] = columns
    return partner


def _prices(pairs: np.ndarray, gains: np.ndarray, matched: np.ndarray, partner: np.ndarray, columns: int) -> np.ndarray:
    """Return the lowest prices of the columns at which no row wants another partner along these pairs.

    Longest paths from price 0: a column costs at least what a row would gain by moving there from its partner.
    """
    rows, places = np.divmod(pairs, columns)
    order = np.argsort(places, kind="stable")
    rows, wish = rows[order], (gains - matched[rows])[order]
    served, starts = np.unique(places[order], return_index=True)
    prices = np.zeros(columns)
    for _ in range(columns):
        asked = np.maximum(prices[served], np.maximum.reduceat(wish + prices[partner[rows]], starts))
        moved = float((asked - prices[served]).max())
        prices[served] = asked
        if moved <= 1e-12:
            break
    return prices


def _row_prices(blocks: _Blocks, prices: np.ndarray) -> np.ndarray:
    """Return what each row gains at most at these prices: with them the dual is feasible over all pairs."""
    return np.concatenate(
        [host((part - torch.from_numpy(prices).type_as(part)).amax(dim=1)).astype(np.float64) for _, part in blocks]
    )
