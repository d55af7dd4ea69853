"""Non-negative least squares for many rows that share one dictionary."""

from __future__ import annotations

import torch
from torch import Tensor

_GUESS_STEPS = 100
_SHARES = (1.0, 0.5, 0.25, 0.125)
_TOLERANCE = 1e-10
_RIDGE = 1e-12
_BLOCK_NUMBERS = 2**22


def nnls(activations: Tensor, atoms: Tensor) -> Tensor:
    """Solve `min_{u >= 0} |a - u D|^2` for every row `a`, to the optimum.

    Parameters
    ----------
    activations : float (n, d)
    atoms : float (k, d)
        `D`; a zero row gets the code 0. Where atoms are linearly dependent the codes are one of the optima.

    Returns
    -------
    float32 (n, k)
        A row's answer does not depend on the other rows.

    Notes
    -----
    Accelerated projected gradient guesses the support; an active-set method then makes it exact in double precision.
    It frees all coordinates that want to rise at once, and one at a time once that has failed for a row; each step is
    the better of the projected optimum of the support and the step to the nearest bound, so the loss never rises.

    References
    ----------
    Lawson and Hanson (1995), doi:10.1137/1.9781611971217; Beck and Teboulle (2009), doi:10.1137/080716542.
    """
    directions = atoms.double()
    norms = directions.norm(dim=1, keepdim=True)
    directions = directions / norms.where(norms > 0, torch.ones_like(norms))
    gram = directions @ directions.T
    products = activations.double() @ directions.T
    scale = products.abs().amax(dim=1, keepdim=True)
    products = products / scale.where(scale > 0, torch.ones_like(scale))
    codes = _active_set(gram, products, _guess(gram, products)) * scale
    return (codes / norms.where(norms > 0, torch.ones_like(norms)).T).float()


def _guess(gram: Tensor, products: Tensor) -> Tensor:
    """Take a fixed number of accelerated projected gradient steps from zero."""
    step = 1 / gram.abs().sum(dim=1).amax().clamp_min(1e-300)
    codes = ahead = torch.zeros_like(products)
    momentum = 1.0
    for _ in range(_GUESS_STEPS):
        previous, codes = codes, (ahead - step * (ahead @ gram - products)).clamp_min(0)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = codes + (momentum - 1) / faster * (codes - previous)
        momentum = faster
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
