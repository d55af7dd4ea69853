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
_BLOCK = 2**24
_CANDIDATES = 24
"""Partners that each vector proposes in a round."""
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
        step = max(1, _BLOCK // len(self.second))
        for number, start in enumerate(range(0, len(self.first), step)):
            if self.held is not None:
                yield start, self.held[number]
            else:
                yield start, _gains(self.first[start : start + step], self.second, self.signed)


def _sparse(first: Tensor, second: Tensor, signed: bool) -> Matching:
    """Alternate between proposals at the prices and the best matching of the pairs proposed so far."""
    blocks, pair_gains = _Blocks(first, second, signed), _Pairs(first, second, signed)
    rows, columns = blocks.shape
    # Each row with a column of its own, so that a matching of all rows exists.
    edges = np.arange(rows) * (columns + 1)
    row_prices, prices = np.zeros(rows), np.zeros(columns)
    for _ in range(_ROUNDS):
        edges = np.union1d(edges, _proposals(blocks, row_prices, prices))
        gains = pair_gains(edges)
        partner = _solved(edges, gains, blocks.shape)
        prices = _prices(edges, gains, partner, columns)
        row_prices = _row_prices(blocks, prices)
        matched = pair_gains(np.arange(rows) * columns + partner)
        gap = max(0.0, float(row_prices.sum() + prices.sum() - matched.sum()) / columns)
        if gap <= TOLERANCE:
            break
    return Matching(np.arange(rows), partner, matched, gap)


def _proposals(blocks: _Blocks, row_prices: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Return the pairs, as row * columns + column, that are worth most to a row or to a column at these prices."""
    columns = blocks.shape[1]
    found: list[np.ndarray] = []
    values, rows = [], []
    for start, part in blocks:
        surplus = part - torch.from_numpy(prices).type_as(part)
        liked = host(surplus.topk(min(_CANDIDATES, columns), dim=1).indices)
        found.append((np.arange(start, start + len(part))[:, None] * columns + liked).ravel())
        surplus = part - torch.from_numpy(row_prices[start : start + len(part), None]).type_as(part)
        best = surplus.topk(min(_CANDIDATES, len(part)), dim=0)
        values.append(best.values)
        rows.append(best.indices + start)
    chosen = torch.cat(values).topk(min(_CANDIDATES, blocks.shape[0]), dim=0).indices
    wanted = host(torch.cat(rows).gather(0, chosen))
    return np.unique(np.concatenate([*found, (wanted * columns + np.arange(columns)).ravel()]))


class _Pairs:
    """Gains of chosen pairs, row * columns + column, in float64."""

    def __init__(self, first: Tensor, second: Tensor, signed: bool) -> None:
        self.first, self.second, self.signed = host(first.double()), host(second.double()), signed

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        step = max(1, _BLOCK // self.first.shape[1])
        parts = []
        for start in range(0, len(pairs), step):
            rows, columns = np.divmod(pairs[start : start + step], len(self.second))
            parts.append(np.einsum("pd,pd->p", self.first[rows], self.second[columns]))
        gains = np.concatenate(parts)
        return np.abs(gains) if self.signed else gains


def _solved(edges: np.ndarray, gains: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the partner of each row in the best matching of all rows along these edges."""
    # The solver minimises, and takes a weight of 0 for no edge.
    weights = csr_array((2.0 - gains, np.divmod(edges, shape[1])), shape=shape)
    rows, columns = min_weight_full_bipartite_matching(weights)
    partner = np.empty(shape[0], dtype=np.int64)
    partner[rows] = columns
    return partner


def _prices(edges: np.ndarray, gains: np.ndarray, partner: np.ndarray, columns: int) -> np.ndarray:
    """Return the lowest prices of the columns at which no row wants another partner along these edges.

    Longest paths from price 0: a column costs at least what a row would gain by moving there from its partner.
    """
    rows, places = np.divmod(edges, columns)
    matched = gains[np.searchsorted(edges, np.arange(len(partner)) * columns + partner)]
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
