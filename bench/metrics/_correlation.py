"""Correlations of rows, by value and by rank, with what float32 rounding cannot tell apart taken as equal."""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDINGS = 4


def pearson(left: Tensor, right: Tensor, rounding: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the correlation of the rows of two (N, M) tensors, and whether it is undefined (then 0).

    Parameters
    ----------
    left, right : (N, M)
    rounding : (N, 1) or None
        Size of the float32 numbers that `right` was computed from, where it is larger than `right` itself; a row that
        varies by less than four of their roundings is constant.

    Returns
    -------
    (N,) in [-1, 1], (N,) bool
    """
    sides = [values - values.mean(dim=1, keepdim=True) for values in (left, right)]
    finest = torch.cat([grain(left), grain(right, rounding)], dim=1)
    spread = torch.stack([side.abs().amax(dim=1) for side in sides], dim=1)
    constant = (spread <= finest).any(dim=1)
    norm = sides[0].norm(dim=1) * sides[1].norm(dim=1)
    shared = (sides[0] * sides[1]).sum(dim=1) / norm.masked_fill(constant, 1)
    return shared.clamp(-1, 1).masked_fill(constant, 0), constant


def spearman(left: Tensor, right: Tensor, rounding: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the rank correlation of the rows of two (N, M) tensors, and whether it is undefined (then 0).

    Parameters
    ----------
    left, right, rounding : as for `pearson`

    Returns
    -------
    (N,) in [-1, 1], (N,) bool
    """
    ranks = (average_ranks(left, grain(left)), average_ranks(right, grain(right, rounding)))
    centred = [rank - rank.mean(dim=1, keepdim=True) for rank in ranks]
    norm = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    constant = norm == 0
    return torch.where(constant, 0, (centred[0] * centred[1]).sum(dim=1) / norm), constant


def average_ranks(values: Tensor, apart: Tensor | float) -> Tensor:
    """Rank each row of (N, M), ties sharing their mean rank.

    Parameters
    ----------
    values : (N, M)
    apart : (N, 1), or 0 for exact ties
        Values that differ from their neighbour by no more are ties.

    Returns
    -------
    (N, M), from 1
    """
    ordered, order = values.sort(dim=1)
    starts = torch.ones_like(order)
    starts[:, 1:] = (ordered.diff(dim=1) > apart).type_as(order)
    group = starts.cumsum(dim=1) - 1
    place = torch.ones_like(values).cumsum(dim=1)
    total = torch.zeros_like(values).scatter_add_(1, group, place)
    count = torch.zeros_like(values).scatter_add_(1, group, torch.ones_like(values))
    mean = (total / count.clamp(min=1)).gather(1, group)
    return torch.empty_like(values).scatter_(1, order, mean)


def grain(values: Tensor, rounding: Tensor | None = None) -> Tensor:
    """Return the difference (N, 1) that float32 arithmetic can make of nothing.

    Batched arithmetic moves equal scores by a few roundings, and a rank must not depend on the batch size.

    Parameters
    ----------
    values : (N, M)
    rounding : (N, 1) or None
        Size of the float32 numbers that the values were computed from, where it is larger than their own.
    """
    size = values.abs().amax(dim=1, keepdim=True)
    return _ROUNDINGS * torch.finfo(torch.float32).eps * (size if rounding is None else size.maximum(rounding))
