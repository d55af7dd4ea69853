"""Non-negative matrix factorisation: parts that only add up, as CRAFT finds its concepts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import DICTIONARIES, LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on

_FLOOR = 1e-10
_INNER = 2


@dictionary(version=1, citation="arXiv:2211.10154", cost="iterations x (2 n d k + 4 (n + d) k^2)")
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
    activations : float (n, d), (N, T, d) or (N, C, H, W)
        Not negative.
    k : int
        At most min(n, d).
    iterations : int
        Most alternations; provenance tells how many were taken.
    tolerance : float
        Stop when an alternation lowers the squared error by less than this share of it.

    Returns
    -------
    Dictionary
        Unit atoms; codes are the exact non-negative least-squares codes. Atoms that carry nothing are zero (dead).
        The start depends on the order of the rows, so the answer does too, within what another seed would change.

    Raises
    ------
    LimenError
        If an activation is negative, or `k`, `iterations` or `tolerance` are out of range.

    References
    ----------
    arXiv:2211.10154; Gillis and Glineur (2012), doi:10.1162/NECO_a_00256
    """
    rows = fit_rows(activations, "nmf")
    check_k(k, min(rows.shape), "nmf", f", the smaller of {rows.shape[0]} rows and {rows.shape[1]} features")
    if iterations < 1 or tolerance < 0:
        raise LimenError(
            f"dictionary 'nmf': given iterations = {iterations} and tolerance = {tolerance}, "
            "allowed are 1 or more and 0 or more."
        )
    if bool((rows < 0).any()):
        others = [name for name in DICTIONARIES.names() if name != "nmf"]
        raise LimenError(
            f"dictionary 'nmf': given activations as low as {float(rows.min()):.3g}, allowed are 0 or more; tap the "
            f"layer after a ReLU, or use a dictionary without signs to keep: {', '.join(others)}."
        )
    atoms, taken, error = _factorise(rows.double(), k, draws, iterations, tolerance)
    options = {"k": k, "iterations": iterations, "tolerance": tolerance}
    facts = fitted_on(rows, draws, **options) | {"iterations_taken": taken, "relative_error": error}
    return Dictionary(
        name="nmf", atoms=atoms, mean=torch.zeros_like(rows[0]), encoder="nnls", signed=False, provenance=facts
    )


def _factorise(data: Tensor, k: int, draws: Draws, iterations: int, tolerance: float) -> tuple[Tensor, int, float]:
    """Alternate until the squared error settles; return unit atoms (k, d), alternations taken, |A - Z D| / |A|."""
    scale = (data.mean() / k).sqrt().clamp_min(_FLOOR)
    # Transposed codes: one part's codes are then contiguous, which is what each update reads.
    codes = draws.normal(k, len(data)).double().abs() * scale
    atoms = draws.normal(k, data.shape[1]).double().abs() * scale
    total = float(data.square().sum())
    taken, error = 0, total
    for taken in range(1, iterations + 1):  # noqa: B007
        codes = _sweep(codes, atoms @ data.T, atoms @ atoms.T)
        products, gram = codes @ data, codes @ codes.T
        atoms = _sweep(atoms, products, gram)
        previous, error = error, total - float((2 * products * atoms).sum() - (gram * (atoms @ atoms.T)).sum())
        if previous - error <= tolerance * max(error, 0.0):
            break
    norms = atoms.norm(dim=1, keepdim=True)
    share = norms[:, 0] * codes.norm(dim=1)
    alive = share > (1e-6 * total**0.5 if total > 0 else torch.inf)
    return torch.where(alive[:, None], atoms / norms, 0.0), taken, (max(error, 0.0) / max(total, _FLOOR)) ** 0.5


def _sweep(factor: Tensor, products: Tensor, gram: Tensor) -> Tensor:
    """Update the rows of one factor (k, m) in turn, a few times over, each to its optimum above the floor."""
    factor = factor.clone()
    for _ in range(_INNER):
        for part in range(len(factor)):
            step = (products[part] - gram[part] @ factor) / gram[part, part].clamp_min(_FLOOR)
            factor[part] = (factor[part] + step).clamp_min(_FLOOR)
    return factor
