"""Linear imputation of removed pixels, many pictures at once, by conjugate gradients without a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import LimenError

_LOOK_EVERY = 16
"""Iterations between looks at what has converged: each look waits for the device."""
_CROWD = 0.75
"""Share of the systems still under way below which the solved ones leave."""
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
    """Fill the holes (n, H, W) of n systems by conjugate gradients; `start` is written over."""
    solved = start.clone()
    systems = _Systems(start, holes)
    systems.begin(rtol)
    rest = torch.ones_like(systems.size).cumsum(0).long() - 1
    for _ in range(0, _LIMIT * sum(start.shape[1:]), _LOOK_EVERY):
        for _ in range(_LOOK_EVERY):
            systems.step()
        if start.is_meta:
            return solved
        going = systems.size > systems.goal
        left = int(going.sum())
        if left <= _CROWD * len(rest):
            solved[rest[~going]] = systems.values[~going]
            if not left:
                return solved
            rest, systems = rest[going], systems.only(going)
    raise LimenError(
        f"imputation: {len(rest)} systems of {tuple(start.shape[1:])} pixels did not converge to a relative residual of "
        f"{rtol:g}; allowed is a larger tolerance."
    )


class _Systems:
    """Systems under way. What is as large as the pictures is allocated once and written over at each step.

    Parameters
    ----------
    values : (n, H, W), the solutions as far as they are known; kept pixels stay as they are
    holes : (n, H, W), 1 where a pixel was removed, else 0
    """

    size: Tensor
    """Squared residual (n,) float64."""
    goal: Tensor
    """Squared residual (n,) at which a system stands still."""

    def __init__(self, values: Tensor, holes: Tensor) -> None:
        count, height, width = values.shape
        self.values, self.holes, self.residual = values, holes, torch.empty_like(values)
        self._framed = values.new_zeros(count, height + 2, width + 2)
        self.direction = self._framed[:, 1:-1, 1:-1]
        self._rows = values.new_empty(count, height + 2, width)
        self._across, self._product = torch.empty_like(values), torch.empty_like(values)
        self._degree = (_reach(values, height)[:, None] * _reach(values, width) - 4) / 12

    def begin(self, rtol: float) -> None:
        """Set out from the residual of the values."""
        self.direction.copy_(self.values)
        self._apply()
        torch.neg(self._across, out=self.residual)
        self.direction.copy_(self.residual)
        self.size = self._dot(self.residual, self.residual)
        self.goal = rtol**2 * self.size

    def step(self) -> None:
        """Take one step of each system that has not reached its goal; the others stand still."""
        self._apply()
        going = self.size > self.goal
        length = self._each(torch.where(going, self.size / self._dot(self.direction, self._across), 0))
        self.values.addcmul_(length, self.direction)
        self.residual.addcmul_(length, self._across, value=-1)
        after = torch.where(going, self._dot(self.residual, self.residual), self.size)
        self.direction.mul_(self._each(torch.where(going, after / self.size, 0))).add_(self.residual)
        self.size = after

    def only(self, chosen: Tensor) -> _Systems:
        """Return the chosen systems (n,) bool, to be gone on with."""
        kept = _Systems(self.values[chosen], self.holes[chosen])
        kept.residual.copy_(self.residual[chosen])
        kept.direction.copy_(self.direction[chosen])
        kept.size, kept.goal = self.size[chosen], self.goal[chosen]
        return kept

    def _apply(self) -> None:
        """Write into `_across` what the matrix makes of `direction`: `degree * own - neighbours`, in the holes alone.

        The weights 1/6 beside and 1/12 across the corner are (1 2 1) x (1 2 1) / 12 less its centre. Shifted sums, not
        a convolution: a device may run convolutions in a shorter number format.
        """
        torch.add(self._framed[..., :-2], self._framed[..., 2:], out=self._rows)
        self._rows.add_(self._framed[..., 1:-1], alpha=2)
        torch.add(self._rows[:, :-2], self._rows[:, 2:], out=self._across)
        self._across.add_(self._rows[:, 1:-1], alpha=2).add_(self.direction, alpha=-4)
        self._across.mul_(-1 / 12).addcmul_(self._degree, self.direction).mul_(self.holes)

    def _dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the inner product of each pair, float64 (n,): its rounding must not decide when a system is solved."""
        torch.mul(left, right, out=self._product)
        return self._product.flatten(1).sum(dim=1, dtype=torch.float64)

    def _each(self, factors: Tensor) -> Tensor:
        return factors.type_as(self.values)[:, None, None]


def _reach(like: Tensor, length: int) -> Tensor:
    """Return the sum (length,) of the weights 1 2 1 that fall inside, for each place of an axis."""
    weights = like.new_full((length,), 2)
    weights[1:] += 1
    weights[:-1] += 1
    return weights
