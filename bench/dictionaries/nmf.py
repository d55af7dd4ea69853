"""Non-negative matrix factorisation: parts that only add up, as CRAFT finds its concepts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import DICTIONARIES, LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on
from ..spaces.nnls import sweep
from ._factorise import FLOOR, alternate, check_search, coded, squared_error, unit

_SWEEPS = 2
"""Sweeps over a factor for each product with the data, which cost next to nothing beside it."""


@dictionary(version=2, citation="arXiv:2211.10154", cost="iterations x (4 n d k + 8 (n + d) k^2)")
def nmf(
    activations: Tensor,
    k: int,
    *,
    draws: Draws,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Dictionary:
    """Factorise non-negative activations into `k` non-negative atoms, without a penalty.

    Hierarchical alternating least squares in Gram form, from a seeded random start, kept above a positive floor:
    with a floor no part can die for good and the loss never rises.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or a stream
        Not negative.
    k : int
        At most min(n, d).
    iterations : int
        Most alternations; provenance tells how many were taken.
    tolerance : float
        Stop when an alternation lowers the squared error by less than this share of it, on the mean of ten.

    Returns
    -------
    Dictionary
        Unit atoms; codes are the exact non-negative least-squares codes. Atoms that carry nothing are zero (dead).
        The start depends on the order of the rows, so the answer does too, within what another seed would change.

    Raises
    ------
    LimenError
        If an activation is negative, or `k`, `iterations` or `tolerance` are out of range.

    Notes
    -----
    An alternation is two products with the data in float32, one a factor; the sweeps run on (k, k) and (k, n) alone.

    References
    ----------
    arXiv:2211.10154; Gillis and Glineur (2012), doi:10.1162/NECO_a_00256
    """
    rows = fit_rows(activations, "nmf")
    check_k(k, min(rows.shape), "nmf", f", the smaller of {rows.shape[0]} rows and {rows.shape[1]} features")
    check_search("nmf", iterations, tolerance)
    _check_sign(rows)
    atoms, taken, error = _factorise(rows, k, draws, iterations, tolerance)
    options = {"k": k, "iterations": iterations, "tolerance": tolerance}
    facts = fitted_on(rows, draws, **options) | {"iterations_taken": taken, "relative_error": error}
    return coded("nmf", atoms, torch.zeros_like(rows[0]), facts)


def _check_sign(rows: Tensor) -> None:
    if bool((rows < 0).any()):
        others = sorted(set(DICTIONARIES.names()) - {"nmf"}, key=lambda name: (name != "semi_nmf", name))
        raise LimenError(
            f"dictionary 'nmf': given activations as low as {float(rows.min()):.3g}, allowed are 0 or more; tap the "
            f"layer after a ReLU, or use a dictionary that takes any sign: {', '.join(others)}."
        )


def _factorise(rows: Tensor, k: int, draws: Draws, iterations: int, tolerance: float) -> tuple[Tensor, int, float]:
    """Alternate until the squared error settles; return unit atoms (k, d), alternations taken, |A - Z D| / |A|."""
    mean = rows.mean()
    data = rows / mean.where(mean > 0, 1)
    # Transposed codes: one part's codes are then contiguous, which is what each update reads.
    codes = draws.normal(k, len(data)).type_as(data).abs().clamp_min(FLOOR)
    atoms = draws.normal(k, data.shape[1]).type_as(data).abs().clamp_min(FLOOR) / k
    total = float(data.double().square().sum()) if len(data) else 0.0

    def turn() -> Tensor:
        sweep(codes, atoms @ data.T, atoms @ atoms.T, times=_SWEEPS, floor=FLOOR)
        products, gram = codes @ data, codes @ codes.T
        sweep(atoms, products, gram, times=_SWEEPS, floor=FLOOR)
        return squared_error(total, products, gram, atoms)

    taken, error = alternate(turn, total, iterations, tolerance)
    return unit(atoms, codes, total), taken, error
