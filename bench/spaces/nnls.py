"""Non-negative least squares for many rows that share one dictionary, differentiable at the optimum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SWEEPS, _PACE = 12, 0.1
"""Coordinate sweeps between two looks at the conditions of the optimum, and how much nearer a row must come in them."""
_PARTS = 32
"""Coordinates that are updated one by one before the others hear of it through a matrix product."""
_SHARES = (1.0, 0.5, 0.25, 0.125)
_TOLERANCE = 1e-10
_EXACT = 1e-13
_RIDGE = 1e-12
_BLOCK_NUMBERS = 2**22


def nnls(activations: Tensor, atoms: Tensor) -> Tensor:
    """Solve `min_{u >= 0} |a - u D|^2` for every row `a`, to the optimum.

    Differentiable in both arguments, by the conditions of the optimum (implicit differentiation): nothing is unrolled.

    Parameters
    ----------
    activations : float (n, d)
    atoms : float (k, d)
        `D`; a zero row gets the code 0. Where atoms are linearly dependent the codes are one of the optima.

    Returns
    -------
    (n, k) float32, or float64 for activations in float64
        A row's answer does not depend on the other rows, nor does its gradient.

    Notes
    -----
    Coordinate descent settles most rows; an active-set method makes the rest exact. It frees all coordinates that want
    to rise at once, and one at a time once that has failed for a row; each step is the better of the projected optimum
    of the support and the step to the nearest bound, so the loss never rises. All of it is in double precision.

    With S the support of a row, `G = D_S D_S^T`, residual `r` and upstream gradient `g`: `l = G^-1 g_S`,
    `grad a = l D_S`, `grad D_S = l r^T - u_S (l D_S)^T`. Where a code is zero and would stay so for a slope of zero,
    the optimum has a kink and this is one of its one-sided gradients.

    References
    ----------
    Lawson and Hanson (1995), doi:10.1137/1.9781611971217; Amos and Kolter (2017), arXiv:1703.00443; Fel et al. (2023),
    arXiv:2211.10154.
    """
    return _Optimum.apply(activations, atoms)


class _Optimum(torch.autograd.Function):
    """The codes at the optimum, and their derivative there."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, atoms: Tensor) -> Tensor:
        directions, norms = _unit(atoms)
        gram = directions @ directions.T
        products = activations.double() @ directions.T
        scale = products.abs().amax(dim=1, keepdim=True)
        products = products / scale.where(scale > 0, 1)
        codes = _solution(gram, products) * scale / norms
        ctx.save_for_backward(activations, atoms, codes)
        return codes if activations.dtype == torch.float64 else codes.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None]:
        activations, atoms, codes = ctx.saved_tensors
        directions, norms = _unit(atoms)
        shares = _sensitivity(directions, upstream[0].double() / norms, codes > 0) / norms
        pulled = shares @ atoms.double()
        for_atoms = None
        if ctx.needs_input_grad[1]:
            residual = activations.double() - codes @ atoms.double()
            for_atoms = (shares.T @ residual - codes.T @ pulled).type_as(atoms)
        return pulled.type_as(activations), for_atoms


def sweep(codes: Tensor, products: Tensor, gram: Tensor, *, times: int = 1, floor: float = 0.0) -> None:
    """Move each coordinate in turn to its optimum above a floor, the others held, for all columns at once; in place.

    Minimises `|a - D^T u|^2` for columns `u` of `codes` given `products = D a` and `gram = D D^T`; the loss never rises.

    Parameters
    ----------
    codes : float (k, n), contiguous, changed in place
    products : float (k, n)
    gram : float (k, k)
    times : sweeps over all coordinates
    floor : least value of a code; a coordinate without length gets it
    """
    lengths = gram.diagonal()[:, None]
    inverse = torch.where(lengths > 0, 1 / lengths, 0)
    target, slopes = products * inverse, gram * inverse
    slopes.fill_diagonal_(0)
    moved = torch.empty_like(codes[0])
    for _ in range(times):
        for part, wanted, slope in zip(codes.split(_PARTS), target.split(_PARTS), slopes.split(_PARTS), strict=True):
            start = part.storage_offset() // codes.stride(0)
            within = slope[:, start : start + len(part)]
            if len(part) < len(codes):
                wanted = wanted - slope @ codes + within @ part
            for index in range(len(part)):
                torch.addmv(wanted[index], part.T, within[index], alpha=-1, out=moved)
                torch.clamp_min(moved, floor, out=part[index])


def _unit(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Return atoms of unit length in double precision and their lengths (k,), 1 for a zero atom."""
    norms = atoms.double().norm(dim=1)
    norms = norms.where(norms > 0, 1)
    return atoms.double() / norms[:, None], norms


def _sensitivity(directions: Tensor, upstream: Tensor, support: Tensor) -> Tensor:
    """Solve the normal equations of each row on its support for `upstream`, by the shortest solution of many."""
    gram = directions @ directions.T
    solved = _solve(gram, upstream, support)
    dependent = support.sum(dim=1) > directions.shape[1]
    if bool(dependent.any()):
        used = support[dependent].double()
        system = gram * used[:, :, None] * used[:, None, :]
        wanted = (upstream[dependent] * used)[:, :, None]
        solved[dependent] = (torch.linalg.pinv(system, rtol=_TOLERANCE, hermitian=True) @ wanted)[:, :, 0]
    return solved


def _solution(gram: Tensor, products: Tensor) -> Tensor:
    """Sweep rows until they arrive, or come near too slowly: those are left to the active set."""
    codes = torch.zeros_like(products)
    rows = torch.ones_like(products[:, 0]).long().cumsum(0) - 1
    moving, target = torch.zeros_like(products.T).contiguous(), products.T.contiguous()
    before = torch.full_like(products[:, 0], torch.inf)
    slow = []
    while len(rows):
        sweep(moving, target, gram, times=_SWEEPS)
        slope = gram @ moving - target
        away = torch.where(moving > 0, slope.abs(), -slope).amax(dim=0)
        codes[rows] = moving.T
        late = (away > _EXACT) & (away > _PACE * before)
        slow.append(rows[late])
        kept = (away > _EXACT) & ~late
        rows, before = rows[kept], away[kept]
        moving, target = moving[:, kept].contiguous(), target[:, kept].contiguous()
    left = torch.cat(slow) if slow else rows
    codes[left] = _active_set(gram, products[left], codes[left])
    return codes


def _active_set(gram: Tensor, products: Tensor, codes: Tensor) -> Tensor:
    """Move feasible codes to the optimum; rows leave as soon as their optimality conditions hold."""
    codes = codes.clone()
    support = codes > 0
    careful = torch.zeros_like(support[:, 0])
    blocked = torch.zeros_like(support)
    rows = torch.ones_like(careful).long().cumsum(0) - 1
    while len(rows):
        target, free = products[rows], support[rows]
        solved = _solve(gram, target, free)
        moved, stuck = _step(gram, target, codes[rows], solved, free)
        blocked[rows] |= (stuck & careful[rows])[:, None] & free & (moved == 0)
        careful[rows] |= stuck
        inside = ~(free & (solved <= 0)).any(dim=1)
        slope = (moved @ gram - target).masked_fill(blocked[rows] | (moved > 0), 0)
        rising = slope < -_TOLERANCE
        steepest = torch.zeros_like(rising).scatter_(1, slope.argmin(dim=1, keepdim=True), True) & rising
        rising = torch.where(careful[rows][:, None], steepest, rising) & inside[:, None]
        codes[rows] = moved
        support[rows] = (moved > 0) | rising
        rows = rows[~inside | rising.any(dim=1)]
    return codes


def _step(gram: Tensor, products: Tensor, codes: Tensor, solved: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the better feasible step towards `solved`, and the rows that could not move."""
    falling = free & (solved <= 0)
    reach = torch.where(falling, codes / (codes - solved).clamp_min(1e-300), torch.ones_like(codes))
    length = reach.amin(dim=1, keepdim=True).clamp_max(1)
    bounded = (codes + length * (solved - codes)).clamp_min(0)
    bounded = bounded.masked_fill(falling & (reach <= length), 0)
    best, loss = bounded, _loss(gram, products, bounded)
    stuck = length[:, 0] == 0
    for share in _SHARES if bool(falling.any()) else ():
        projected = (codes + share * (solved - codes)).clamp_min(0)
        reached = _loss(gram, products, projected)
        better = reached < loss
        best, loss = torch.where(better[:, None], projected, best), torch.where(better, reached, loss)
        stuck = stuck & ~better
    return best, stuck


def _loss(gram: Tensor, products: Tensor, codes: Tensor) -> Tensor:
    return (codes * (0.5 * codes @ gram - products)).sum(dim=1)


def _solve(gram: Tensor, products: Tensor, passive: Tensor) -> Tensor:
    """Solve the normal equations of each row on its own support; 0 elsewhere."""
    codes = torch.zeros_like(products)
    size = int(passive.sum(dim=1).max()) if len(passive) else 0
    if size == 0:
        return codes
    rows = max(1, _BLOCK_NUMBERS // size**2)
    for part, target, support in zip(products.split(rows), codes.split(rows), passive.split(rows), strict=True):
        order = support.int().argsort(dim=1, descending=True, stable=True)[:, :size]
        used = support.gather(1, order)
        system = gram[order[:, :, None], order[:, None, :]] * (used[:, :, None] & used[:, None, :])
        diagonal = system.diagonal(dim1=1, dim2=2)
        diagonal += (~used).double() + _RIDGE
        wanted = (part.gather(1, order) * used)[:, :, None]
        factor, info = torch.linalg.cholesky_ex(system)
        solved = torch.cholesky_solve(wanted, factor)
        if bool((info > 0).any()):
            singular = info > 0
            solved[singular] = torch.linalg.pinv(system[singular], hermitian=True) @ wanted[singular]
        target.scatter_(1, order, solved[:, :, 0] * used)
    return codes
