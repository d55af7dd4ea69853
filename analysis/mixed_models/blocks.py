"""The penalised information of the random effects, factored by blocks: one grouping is eliminated, the rest is dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .terms import Layout

Effects = tuple[np.ndarray, np.ndarray]
"""Random effects as (eliminated (q0, c0), dense (r,))."""


def spread(layout: Layout, rows: list[np.ndarray], effects: Effects) -> np.ndarray:
    """Compute M u, (N,)."""
    total = np.zeros(len(layout.level))
    for position, i in enumerate(layout.inner):
        total += rows[i] * effects[0][layout.level, position]
    for i in layout.outer:
        total += rows[i] * effects[1][layout.slots[i].index]
    return total


def gather(layout: Layout, rows: list[np.ndarray], x: np.ndarray) -> Effects:
    """Compute M' x."""
    inner = np.zeros((layout.q0, len(layout.inner)))
    for position, i in enumerate(layout.inner):
        inner[:, position] = np.bincount(layout.level, x * rows[i], layout.q0)
    outer = np.zeros(layout.r)
    for i in layout.outer:
        outer += np.bincount(layout.slots[i].index, x * rows[i], layout.r)
    return inner, outer


def at_rows(layout: Layout, effects: Effects) -> list[np.ndarray]:
    """Return each slot's own effect at each row, a list of (N,)."""
    place = {i: position for position, i in enumerate(layout.inner)}
    return [
        effects[1][slot.index] if slot.dense else effects[0][layout.level, place[i]]
        for i, slot in enumerate(layout.slots)
    ]


def flat(block: np.ndarray) -> np.ndarray:
    """Return a block (r, q0, c0) as a matrix (r, q0 c0), also where r is 0."""
    return block.reshape(len(block), block.shape[1] * block.shape[2])


@dataclass(frozen=True)
class Factored:
    """H = M' W M + I, factored.

    Attributes
    ----------
    block_inverse : array (q0, c0, c0)
        Inverses of the diagonal blocks of the eliminated factor.
    cross, reduced : array (r, q0, c0)
        The block H10, and H10 H00^-1.
    schur : array (r, r)
        Lower Cholesky factor of the Schur complement.
    log_determinant : float
    """

    block_inverse: np.ndarray
    cross: np.ndarray
    reduced: np.ndarray
    schur: np.ndarray
    log_determinant: float

    def solve(self, g: Effects) -> Effects:
        """Compute H^-1 g."""
        inner, outer = g
        r = len(outer)
        right = outer - flat(self.reduced) @ inner.ravel()
        x1 = linalg.cho_solve((self.schur, True), right) if r else right
        left = inner - np.tensordot(x1, self.cross, axes=(0, 0)) if r else inner
        return np.einsum("jab,jb->ja", self.block_inverse, left), x1


Products = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A matrix over the random effects by blocks: eliminated (q0, c0, c0), dense by eliminated (r, q0, c0), dense (r, r)."""


def products(layout: Layout, rows: list[np.ndarray], w: np.ndarray) -> Products:
    """Compute M' W M.

    Parameters
    ----------
    layout : Layout
    rows : list of array (N,)
        What each slot contributes to each row.
    w : array (N,)
        Weights.
    """
    q0, c0, r = layout.q0, len(layout.inner), layout.r
    h00 = np.zeros((q0, c0, c0))
    cross = np.zeros((r, q0, c0))
    weighted = [w * row for row in rows]
    for a, i in enumerate(layout.inner):
        for b, k in enumerate(layout.inner[: a + 1]):
            h00[:, a, b] = h00[:, b, a] = np.bincount(layout.level, weighted[i] * rows[k], q0)
        for s in layout.outer:
            at = layout.slots[s].index * q0 + layout.level
            cross[:, :, a] += np.bincount(at, weighted[i] * rows[s], r * q0).reshape(r, q0)
    h11 = np.zeros((r, r))
    for s in layout.outer:
        for t in layout.outer:
            at = layout.slots[s].index * r + layout.slots[t].index
            h11 += np.bincount(at, weighted[s] * rows[t], r * r).reshape(r, r)
    return h00, cross, h11


def factor(blocks: Products) -> Factored:
    """Add the identity to M' W M and factor the sum."""
    h00, cross, h11 = blocks
    r, c0 = len(h11), h00.shape[1]
    h00, h11 = h00 + np.eye(c0), h11 + np.eye(r)
    inverse = np.linalg.inv(h00)
    reduced = np.einsum("rja,jab->rjb", cross, inverse)
    schur = linalg.cholesky(h11 - flat(reduced) @ flat(cross).T, lower=True) if r else h11
    determinant = float(np.linalg.slogdet(h00)[1].sum() + 2 * np.log(np.diag(schur)).sum())
    return Factored(inverse, cross, reduced, schur, determinant)


def leverage(layout: Layout, rows: list[np.ndarray], factored: Factored) -> tuple[np.ndarray, list[np.ndarray]]:
    """Compute h_i = m_i' H^-1 m_i and, for each slot, the entry of H^-1 m_i at that slot's own effect.

    Returns
    -------
    array (N,), list of array (N,)
    """
    r, q0, c0 = layout.r, layout.q0, len(layout.inner)
    p = linalg.cho_solve((factored.schur, True), np.eye(r)) if r else np.zeros((0, 0))
    product = (p @ flat(factored.reduced)).reshape(r, q0, c0)
    blocks = factored.block_inverse + np.einsum("rja,rjb->jab", factored.reduced, product)
    place = {i: position for position, i in enumerate(layout.inner)}
    found = []
    for i, slot in enumerate(layout.slots):
        total = np.zeros(len(layout.level))
        for k, other in enumerate(layout.slots):
            if slot.dense and other.dense:
                entry = p[slot.index, other.index]
            elif slot.dense:
                entry = -product[slot.index, layout.level, place[k]]
            elif other.dense:
                entry = -product[other.index, layout.level, place[i]]
            else:
                entry = blocks[layout.level, place[i], place[k]]
            total += entry * rows[k]
        found.append(total)
    h = sum((row * item for row, item in zip(rows, found, strict=True)), np.zeros(len(layout.level)))
    return h, found


def conditional(
    layout: Layout, theta: np.ndarray, modes: Effects, factored: Factored, variance: float = 1.0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return each term's effects (levels, columns) and their conditional variances, the parameters held fixed."""
    r = layout.r
    p = linalg.cho_solve((factored.schur, True), np.eye(r)) if r else np.zeros((0, 0))
    product = (p @ flat(factored.reduced)).reshape(factored.reduced.shape)
    corner = factored.block_inverse + np.einsum("rja,rjb->jab", factored.reduced, product)
    effects, variances = [], []
    for t, (term, lower) in enumerate(zip(layout.terms, layout.factors(theta), strict=True)):
        width = len(lower)
        if term.group == layout.eliminated:
            place = [layout.place(t, column) for column in range(width)]
            spherical, inverse = modes[0][:, place], corner[:, place][:, :, place]
        else:
            span = layout.span(t)
            spherical = modes[1][span].reshape(-1, width)
            levels = np.arange(span.start, span.stop).reshape(-1, width)
            inverse = p[levels[:, :, None], levels[:, None, :]]
        effects.append(spherical @ lower.T)
        variances.append(variance * np.einsum("ka,jab,kb->jk", lower, inverse, lower))
    return effects, variances
