"""Linear imputation of removed pixels, many pictures at once: conjugate gradients behind a multigrid cycle."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...registry import LimenError

_LIMIT = 200
"""Steps allowed; holes in pictures take 4 to 15."""
_COARSEST = 2
"""Rows and columns at which no coarser grid is made."""


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
    Rong, Leemann et al. 2022, arXiv:2202.00449. Multigrid as a preconditioner: Tatebe 1993.
    """
    kept = ~removed
    mean = (pictures * kept).sum(dim=(2, 3), keepdim=True) / kept.sum(dim=(2, 3), keepdim=True)
    start = torch.where(removed, mean, pictures)
    return _solve(start, _Grid(start.shape, removed.type_as(start)), rtol)


def _solve(values: Tensor, grid: _Grid, rtol: float) -> Tensor:
    """Fill the holes of the systems (B, C, H, W) in place, by conjugate gradients of which each step is preconditioned."""
    residual, product = grid.right, torch.empty_like(values)

    def dot(left: Tensor, right: Tensor) -> Tensor:
        """Return each system's inner product, (B, C, 1, 1), summed over the rows in float64: few roundings."""
        return (
            torch.mul(left, right, out=product).sum(dim=3, keepdim=True).sum(dim=2, keepdim=True, dtype=torch.float64)
        )

    framed, direction = _framed(values)
    direction.copy_(values)
    torch.mul(grid.apply(framed), -grid.holes, out=residual)
    direction.zero_()
    size, gain = dot(residual, residual), torch.ones_like(residual[..., :1, :1], dtype=torch.float64)
    goal = rtol**2 * size
    for _ in range(_LIMIT):
        going = size > goal
        if values.is_meta or not bool(going.any()):
            return values
        preconditioned = grid.cycle()
        before, gain = gain, dot(residual, preconditioned)
        direction.mul_(torch.where(going, gain / before, 0).float()).add_(preconditioned)
        image = grid.apply(framed).mul_(grid.holes)
        length = torch.where(going, gain / dot(direction, image), 0).float()
        values.addcmul_(length, direction)
        residual.addcmul_(length, image, value=-1)
        size = torch.where(going, dot(residual, residual), size)
    raise LimenError(
        f"imputation: {int((size > goal).sum())} systems of {tuple(values.shape[2:])} pixels did not converge to a "
        f"relative residual of {rtol:g}; allowed is a larger tolerance."
    )


class _Grid:
    """The equations at one width of the pixels, and the grid of half as many rows and columns below it.

    A coarse pixel is a hole where all of its up to four pixels are. The weights sum to the same energy of a slope at each
    width, so that each grid has the same stencil. What is as large as the pictures is allocated once and written over.

    Parameters
    ----------
    shape : (B, C, H, W) of the systems
    holes : (B, 1, H, W), 1 where a pixel was removed, else 0
    """

    right: Tensor
    """Right-hand side (B, C, H, W), 0 outside the holes."""

    def __init__(self, shape: torch.Size, holes: Tensor) -> None:
        height, width = shape[2:]
        self.holes, self.right = holes, holes.new_empty(shape)
        self._framed, self._guess = _framed(self.right)
        self._rows, self._across = holes.new_empty(*shape[:2], height + 2, width), torch.empty_like(self.right)
        self._own = _reach(holes, height)[:, None] * _reach(holes, width)
        self._step = holes / (self._own - 4).clamp(min=1)
        self._coarse: _Grid | None = None
        if max(height, width) > _COARSEST:
            less = -functional.max_pool2d(-holes, 2, ceil_mode=True)
            self._coarse = _Grid(torch.Size((*shape[:2], *less.shape[2:])), less)
            self._low = holes.new_empty(*shape[:2], less.shape[2], width)

    def apply(self, framed: Tensor) -> Tensor:
        """Return what the matrix makes of values (B, C, H + 2, W + 2) with a frame of 0; outside the holes, anything.

        That is 12 x (the sum of the weights x the value - the weighted neighbours). The neighbours' weights are
        (1 2 1) x (1 2 1) less the centre. Shifted sums, not a convolution: a device may run convolutions in a shorter
        number format. The next call writes over the answer.
        """
        torch.add(framed[..., :-2], framed[..., 2:], out=self._rows).add_(framed[..., 1:-1], alpha=2)
        torch.mul(framed[..., 1:-1, 1:-1], self._own, out=self._across).sub_(self._rows[:, :, 1:-1], alpha=2)
        return self._across.sub_(self._rows[:, :, :-2]).sub_(self._rows[:, :, 2:])

    def cycle(self) -> Tensor:
        """Return about the solution for `right`, by one symmetric V-cycle; the next call writes over it.

        One Jacobi step before and one after: this stencil's eigenvalues of what a coarse grid does not see lie within
        2/3 and 4/3 of the diagonal, so that an undamped step divides it by three.
        """
        torch.mul(self.right, self._step, out=self._guess)
        if self._coarse is None:
            self._smooth()
        else:
            coarse = self._coarse
            _halve(_halve(self._rest().mul_(self.holes), 2, self._low), 3, coarse.right).mul_(coarse.holes)
            self._guess.addcmul_(_double(_double(coarse.cycle(), 3, self._low), 2, self._across), self.holes)
        self._smooth()
        return self._guess

    def _smooth(self) -> None:
        self._guess.addcmul_(self._rest(), self._step)

    def _rest(self) -> Tensor:
        return torch.sub(self.right, self.apply(self._framed), out=self._across)


def _framed(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return zeros with a frame of one pixel around the shape of (B, C, H, W), and the view inside it."""
    number, channels, height, width = like.shape
    framed = like.new_zeros(number, channels, height + 2, width + 2)
    return framed, framed[..., 1:-1, 1:-1]


def _reach(like: Tensor, length: int) -> Tensor:
    """Return the sum (length,) of the weights 1 2 1 that fall inside, for each place of an axis."""
    weights = like.new_full((length,), 2)
    weights[1:] += 1
    weights[:-1] += 1
    return weights


def _double(values: Tensor, axis: int, wide: Tensor) -> Tensor:
    """Interpolate linearly along an axis into twice as many places, or one fewer; beyond the edge stands the edge."""
    even, odd = _pairs(wide, axis)
    last = even.shape[axis] - 1
    even.copy_(values)
    even.narrow(axis, 1, last).lerp_(values.narrow(axis, 0, last), 0.25)
    odd.copy_(values.narrow(axis, 0, odd.shape[axis]))
    odd.narrow(axis, 0, last).lerp_(values.narrow(axis, 1, last), 0.25)
    return wide


def _halve(wide: Tensor, axis: int, values: Tensor) -> Tensor:
    """Sum along an axis into half as many places by the transpose of `_double`, always in the same order."""
    even, odd = _pairs(wide, axis)
    last, paired = even.shape[axis] - 1, odd.shape[axis]
    torch.mul(even, 0.75, out=values)
    values.narrow(axis, 0, paired).add_(odd, alpha=0.75)
    values.narrow(axis, 0, last).add_(even.narrow(axis, 1, last), alpha=0.25)
    values.narrow(axis, 1, last).add_(odd.narrow(axis, 0, last), alpha=0.25)
    values.narrow(axis, 0, 1).add_(even.narrow(axis, 0, 1), alpha=0.25)
    values.narrow(axis, last, paired - last).add_(odd.narrow(axis, last, paired - last), alpha=0.25)
    return values


def _pairs(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd places along an axis."""
    pairs = values.movedim(axis, 0)
    return pairs[::2].movedim(0, axis), pairs[1::2].movedim(0, axis)
