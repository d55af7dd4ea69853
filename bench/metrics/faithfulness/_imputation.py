"""Linear imputation of removed pixels, many pictures at once, by conjugate gradients without a matrix."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...registry import LimenError

_LOOK_EVERY = 16
"""Iterations between looks at what has converged: each look waits for the device."""
_LIMIT = 40
"""Iterations allowed for each row and column."""


def impute(pictures: Tensor, removed: Tensor, *, rtol: float) -> Tensor:
    """Replace each removed pixel by the weighted mean of its neighbours, all removed ones solved for together.

    For a removed pixel u: `sum_v w_uv (a_u - a_v) = 0` over its up to 8 neighbours v inside the picture, with w = 1/6
    beside and 1/12 across the corner; kept pixels are fixed. Each channel of each picture is a system of its own, starts
    from the mean of its kept pixels, and stands still once its residual has fallen to `rtol` of the first one, so that
    no other picture changes it.

    Parameters
    ----------
    pictures : (B, C, H, W) float32
    removed : (B, 1, H, W) bool; at least one pixel of each picture is kept
    rtol : residual at which a system is solved, relative to that of the start

    Returns
    -------
    (B, C, H, W) float32, the kept pixels as they were

    Raises
    ------
    LimenError
        If a system does not converge.

    References
    ----------
    Rong, Leemann et al. 2022, arXiv:2202.00449.
    """
    kept = ~removed
    mean = (pictures * kept).sum(dim=(2, 3), keepdim=True) / kept.sum(dim=(2, 3), keepdim=True)
    start = torch.where(removed, mean, pictures)
    holes = removed.expand_as(start).flatten(0, 1).type_as(start)
    return _solve(start.flatten(0, 1), holes, rtol).reshape(pictures.shape)


def _solve(start: Tensor, holes: Tensor, rtol: float) -> Tensor:
    """Fill the holes (n, H, W) of n systems by conjugate gradients; those that are solved leave."""
    degree = _neighbours(torch.ones_like(start[:1]))
    residual = holes * (_neighbours(start) - degree * start)
    size = _dot(residual, residual)
    goal = rtol**2 * size
    solved, rest = start.clone(), torch.ones_like(size).cumsum(0).long() - 1
    state = (start, residual, residual, size)
    for _ in range(0, _LIMIT * sum(start.shape[1:]), _LOOK_EVERY):
        for _ in range(_LOOK_EVERY):
            state = _step(*state, goal, holes, degree)
        if start.is_meta:
            return solved
        going = state[-1] > goal
        solved[rest[~going]] = state[0][~going]
        if not bool(going.any()):
            return solved
        rest, goal, holes = rest[going], goal[going], holes[going]
        state = tuple(part[going] for part in state)  # type: ignore[assignment]
    raise LimenError(
        f"imputation: {len(rest)} systems of {tuple(start.shape[1:])} pixels did not converge to a relative residual of "
        f"{rtol:g}; allowed is a larger tolerance."
    )


def _step(
    values: Tensor, residual: Tensor, direction: Tensor, size: Tensor, goal: Tensor, holes: Tensor, degree: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take one step of each system that has not reached its goal."""
    across = holes * (degree * direction - _neighbours(direction))
    going = size > goal
    length = torch.where(going, size / _dot(direction, across), 0).type_as(values)[:, None, None]
    values = values + length * direction
    residual = residual - length * across
    after = torch.where(going, _dot(residual, residual), size)
    turn = torch.where(going, after / size, 0).type_as(values)[:, None, None]
    return values, residual, residual + turn * direction, after


def _neighbours(values: Tensor) -> Tensor:
    """Sum the neighbours of each pixel of (n, H, W), 1/6 beside and 1/12 across, those outside left out.

    Shifted sums, not a convolution: a device may run convolutions in a shorter number format.
    """
    wide = functional.pad(values, (1, 1))
    rows = wide[..., :-2] + 2 * values + wide[..., 2:]
    tall = functional.pad(rows, (0, 0, 1, 1))
    return (tall[..., :-2, :] + 2 * rows + tall[..., 2:, :] - 4 * values) / 12


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of each pair, float64 (n,): its rounding must not decide when a system is solved."""
    return (left * right).flatten(1).sum(dim=1, dtype=torch.float64)
