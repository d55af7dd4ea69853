"""Principal components: the orthonormal directions of largest variance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on


@dictionary(version=1, citation="doi:10.1098/rsta.2015.0202", cost="one eigendecomposition (d, d)")
def pca(activations: Tensor, k: int, *, draws: Draws) -> Dictionary:
    """Fit the `k` leading principal components.

    The atoms are orthonormal, so that each is both what its code adds and the filter that reads it. Their sign is
    fixed: the entry of largest magnitude is positive. Nothing is drawn; the order of the rows changes the answer
    by rounding only.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W)
    k : int
        At most min(n, d).

    Returns
    -------
    Dictionary
        Signed codes `(a - mean) @ atoms.T`, by decreasing variance.

    Raises
    ------
    LimenError
        If `k` is out of range.
    """
    rows = fit_rows(activations, "pca")
    check_k(k, min(rows.shape), "pca", f", the smaller of {rows.shape[0]} rows and {rows.shape[1]} features")
    exact = rows.double()
    mean = exact.mean(dim=0)
    centred = exact - mean
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(dims=[1]).T[:k]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    atoms = components * largest.sign()
    return Dictionary(
        name="pca",
        atoms=atoms,
        mean=mean,
        encoder="linear",
        signed=True,
        parameters={"filters": atoms},
        provenance=fitted_on(rows, draws, k=k),
    )
