"""What the non-negative factorisations share: starts, stopping, and the dictionary that a factorisation becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import LimenError
from ..spaces.dictionary import Dictionary

FLOOR = 1e-10
"""Least value of a factor: no part dies for good, and the loss never rises."""
_LOOK = 10
"""Alternations between two looks at the error, each of which waits for the device."""
_SOFT = 0.2
"""What Ding adds to the indicators of clusters."""
_DEAD = 1e-6
"""Share of the data's length below which a part carries nothing."""


def check_search(name: str, iterations: int, tolerance: float) -> None:
    """Refuse a number of alternations or a tolerance out of range.

    Raises
    ------
    LimenError
    """
    if iterations < 1 or tolerance < 0:
        raise LimenError(
            f"dictionary '{name}': given iterations = {iterations} and tolerance = {tolerance}, "
            "allowed are 1 or more and 0 or more."
        )


def alternate(turn: Callable[[], Tensor], total: float, iterations: int, tolerance: float) -> tuple[int, float]:
    """Take turns until the squared error settles.

    Parameters
    ----------
    turn : makes one alternation and returns the squared error after it, a scalar on the data's device
    total : squared length of the data
    iterations : most turns
    tolerance : stop when a turn lowers the squared error by less than this share of it, on the mean of ten turns

    Returns
    -------
    turns taken, and |A - Z D| / |A|
    """
    previous, error, taken, looked = total, total, 0, 0
    for taken in range(1, iterations + 1):
        measured = turn()
        if taken - looked == _LOOK or taken == iterations:
            error = max(float(measured), 0.0)
            if previous - error <= (taken - looked) * tolerance * error:
                break
            previous, looked = error, taken
    return taken, (error / total) ** 0.5 if total > 0 else 0.0


def squared_error(total: Tensor | float, products: Tensor, gram: Tensor, atoms: Tensor) -> Tensor:
    """Return |A - Z D|^2 of `Z^T A` (k, d), `Z^T Z` (k, k) and D (k, d); summed in double precision."""
    wide = atoms.double()
    return total - (2 * products.double() * wide).sum() + (gram.double() * (wide @ wide.T)).sum()


def unit(atoms: Tensor, codes: Tensor, total: float) -> Tensor:
    """Return atoms (k, d) of unit length, and zero where atom and codes (k, n) carry nothing of the data."""
    norms = atoms.norm(dim=1, keepdim=True)
    alive = norms[:, 0] * codes.norm(dim=1) > (_DEAD * total**0.5 if total > 0 else torch.inf)
    return torch.where(alive[:, None], atoms / norms.where(norms > 0, 1), 0)


def rise_and_fall(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positive and the negative parts of a matrix, both non-negative."""
    return values.clamp_min(0), (-values).clamp_min(0)


def multiply(factor: Tensor, rising: Tensor, falling: Tensor) -> None:
    """Apply Ding's factor `sqrt(rising / falling)` in place; nothing falls below the floor, from where it may rise."""
    factor.mul_((rising / falling.clamp_min(FLOOR**2)).sqrt()).clamp_min_(FLOOR)


def clustered(rows: Tensor, k: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Start a factorisation at clusters around `k` rows far from each other, softened so that all entries can move.

    The rows are chosen each in proportion to its squared distance to those before it (k-means++).

    Returns
    -------
    codes (k, n), and non-negative weights (k, n) of the rows whose mixtures are the clusters' means, nearly
    """
    nearest = torch.zeros_like(rows[:, 0]).long()
    lengths = rows.square().sum(dim=1)
    distance = torch.full_like(lengths, torch.inf)
    for index in range(k):
        shares = torch.ones_like(lengths) if index == 0 else distance
        cumulated = shares.double().cumsum(0)
        point = draws.uniform(1).double() * cumulated[-1]
        chosen = torch.searchsorted(cumulated, point, right=True).clamp_max(len(rows) - 1)
        centre = rows[chosen[0]]
        found = (lengths - 2 * (rows @ centre) + centre.square().sum()).clamp_min(0)
        nearest = nearest.masked_fill(found < distance, index)
        distance = torch.minimum(found, distance)
    codes = torch.nn.functional.one_hot(nearest, k).T.type_as(rows) + _SOFT
    return codes.contiguous(), codes / (codes - _SOFT).sum(dim=1, keepdim=True).clamp_min(1)


def coded(name: str, atoms: Tensor, mean: Tensor, facts: dict[str, Any]) -> Dictionary:
    """Return the dictionary of a factorisation: new data are coded by exact non-negative least squares."""
    return Dictionary(name=name, atoms=atoms, mean=mean, encoder="nnls", signed=False, provenance=facts)
