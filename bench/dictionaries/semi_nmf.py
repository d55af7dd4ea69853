"""Semi-non-negative matrix factorisation: codes that only add up, of parts that may have any sign."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on
from ..spaces.nnls import sweep
from ._factorise import FLOOR, alternate, check_search, clustered, coded, multiply, rise_and_fall, squared_error, unit

_SWEEPS = 2
_RIDGE = 1e-10


@dictionary(
    version=1,
    citation="doi:10.1109/TPAMI.2008.277",
    cost="iterations x (4 n d k + 8 n k^2)",
    presets={"ding": {"update": "multiplicative", "centre": False}},
)
def semi_nmf(
    activations: Tensor,
    k: int,
    *,
    draws: Draws,
    update: Literal["coordinate", "multiplicative"] = "coordinate",
    centre: bool = True,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Dictionary:
    """Factorise activations of any sign into `k` free atoms and non-negative codes.

    Atoms are the least-squares ones of their codes; codes move down the same loss, which never rises.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or a stream
    k : int
        At most n.
    update : {'coordinate', 'multiplicative'}
        How codes move: each to its optimum in turn, or all at once by Ding's factors, which arrive later.
    centre : bool
        Subtract the mean first; the dictionary adds it back.
    iterations : int
        Most alternations; provenance tells how many were taken.
    tolerance : float
        Stop when an alternation lowers the squared error by less than this share of it, on the mean of ten.

    Returns
    -------
    Dictionary
        Unit atoms; codes are the exact non-negative least-squares codes. Atoms that carry nothing are zero (dead).

    Raises
    ------
    LimenError
        If `k`, `iterations` or `tolerance` are out of range.

    References
    ----------
    Ding, Li and Jordan (2010), doi:10.1109/TPAMI.2008.277
    """
    rows = fit_rows(activations, "semi_nmf")
    check_k(k, len(rows), "semi_nmf", ", the number of rows")
    check_search("semi_nmf", iterations, tolerance)
    mean = rows.mean(dim=0) if centre else torch.zeros_like(rows[0])
    data = rows - mean
    data = data / _length(data)
    codes, _ = clustered(data, k, draws)
    atoms = _least_squares(codes @ data, codes @ codes.T)
    total = float(data.double().square().sum())

    def turn() -> Tensor:
        nonlocal atoms
        if update == "coordinate":
            sweep(codes, atoms @ data.T, atoms @ atoms.T, times=_SWEEPS, floor=FLOOR)
        else:
            _multiply(codes, atoms @ data.T, atoms @ atoms.T)
        products, gram = codes @ data, codes @ codes.T
        atoms = _least_squares(products, gram)
        return squared_error(total, products, gram, atoms)

    taken, error = alternate(turn, total, iterations, tolerance)
    options = {"k": k, "update": update, "centre": centre, "iterations": iterations, "tolerance": tolerance}
    facts = fitted_on(rows, draws, **options) | {"iterations_taken": taken, "relative_error": error}
    return coded("semi_nmf", unit(atoms, codes, total), mean, facts)


def _length(data: Tensor) -> Tensor:
    """Return the root mean square of an entry, 1 where all are zero."""
    size = data.square().mean().sqrt()
    return size.where(size > 0, 1)


def _least_squares(products: Tensor, gram: Tensor) -> Tensor:
    """Return `(Z^T Z)^-1 Z^T A`, solved in double precision; a part without codes stays finite."""
    system = gram.double()
    system.diagonal().add_(_RIDGE * system.diagonal().mean())
    return torch.linalg.solve(system, products.double()).type_as(products)


def _multiply(codes: Tensor, products: Tensor, gram: Tensor) -> None:
    """Apply Ding's factor `sqrt((P+ + G- Z) / (P- + G+ Z))` to codes (k, n), in place."""
    pulling, pushing = rise_and_fall(products)
    shared, apart = rise_and_fall(gram)
    multiply(codes, pulling + apart @ codes, pushing + shared @ codes)
