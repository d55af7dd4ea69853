"""Convex matrix factorisation: atoms that are themselves non-negative mixtures of the data."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Draws
from ..registry import dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on
from ._factorise import alternate, check_search, clustered, coded, multiply, rise_and_fall, unit


@dictionary(
    version=1,
    citation="doi:10.1109/TPAMI.2008.277",
    cost="iterations x 8 m^2 k, where m is the number of members",
)
def convex_nmf(
    activations: Tensor,
    k: int,
    *,
    draws: Draws,
    members: PositiveInt = 2048,
    centre: bool = False,
    iterations: int = 1000,
    tolerance: float = 1e-5,
) -> Dictionary:
    """Factorise activations into `k` atoms `D = W A` and codes Z, with W and Z non-negative.

    Ding's multiplicative updates on the Gram matrix of the data, which never raise the loss. That matrix is as large
    as the square of the rows, so a random part of them stands for all.

    Parameters
    ----------
    activations : float (n, d), (N, T, d), (N, C, H, W) or a stream
        Of any sign.
    k : int
        At most the number of rows that are used.
    members : int
        Most rows that are used; atoms are mixtures of these alone. Provenance tells how many there were.
    centre : bool
        Subtract the mean first; atoms are then mixtures of what is left, and the dictionary adds the mean back.
    iterations : int
        Most alternations; provenance tells how many were taken.
    tolerance : float
        Stop when an alternation lowers the squared error by less than this share of it, on the mean of ten.

    Returns
    -------
    Dictionary
        Unit atoms. New data are coded by exact non-negative least squares against the stored atoms, so a code never
        depends on how many rows were fitted or are coded together.

    Raises
    ------
    LimenError
        If `k`, `members`, `iterations` or `tolerance` are out of range.

    References
    ----------
    Ding, Li and Jordan (2010), doi:10.1109/TPAMI.2008.277
    """
    rows = fit_rows(activations, "convex_nmf")
    used = min(len(rows), members)
    check_k(k, used, "convex_nmf", ", the number of rows that are used")
    check_search("convex_nmf", iterations, tolerance)
    mean = rows.mean(dim=0) if centre else torch.zeros_like(rows[0])
    data = (rows if used == len(rows) else rows[draws.permutation(len(rows))[:used]]) - mean
    atoms, taken, error = _factorise(data, k, draws, iterations, tolerance)
    options = {"k": k, "members": members, "centre": centre, "iterations": iterations, "tolerance": tolerance}
    facts = fitted_on(rows, draws, **options)
    facts |= {"members_used": used, "iterations_taken": taken, "relative_error": error}
    return coded("convex_nmf", atoms, mean, facts)


def _factorise(data: Tensor, k: int, draws: Draws, iterations: int, tolerance: float) -> tuple[Tensor, int, float]:
    """Alternate until the squared error settles; return unit atoms (k, d), alternations taken, |A - Z D| / |A|."""
    gram = data @ data.T
    size = gram.diagonal().mean()
    gram = gram / size.where(size > 0, 1)
    rising, falling = rise_and_fall(gram)
    signed = bool((falling > 0).any())

    def products(part: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply by both signs of the Gram matrix; there is one alone where no activation is negative."""
        return part @ rising, part @ falling if signed else torch.zeros_like(part)

    codes, weights = clustered(data, k, draws)
    pulling, pushing = products(weights)
    total = float(gram.diagonal().double().sum())

    def turn() -> Tensor:
        nonlocal pulling, pushing
        multiply(codes, pulling + (pushing @ weights.T) @ codes, pushing + (pulling @ weights.T) @ codes)
        towards, away = products(codes)
        shared = codes @ codes.T
        multiply(weights, towards + shared @ pushing, away + shared @ pulling)
        pulling, pushing = products(weights)
        of_atoms = (pulling - pushing).double()
        return total - 2 * (codes * of_atoms).sum() + (shared * (of_atoms @ weights.double().T)).sum()

    taken, error = alternate(turn, total, iterations, tolerance)
    return unit(weights @ data, codes, float(data.double().square().sum())), taken, error
