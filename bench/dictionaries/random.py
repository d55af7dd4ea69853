"""The control: random directions, what every dictionary has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import dictionary
from ..spaces.dictionary import Dictionary, check_k, fit_rows, fitted_on


@dictionary(version=1, citation="arXiv:2502.12892", cost="one pseudo-inverse (k, d)")
def random(activations: Tensor, k: int, *, draws: Draws) -> Dictionary:
    """Draw `k` unit atoms uniformly on the sphere; codes are the best that these atoms allow.

    The codes are the least-squares codes of smallest norm, so that its reconstruction is an honest chance floor.
    Of the activations only the mean is used.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W)
    k : int

    Returns
    -------
    Dictionary
        Signed codes `(a - mean) @ pinv(atoms)`.

    Raises
    ------
    LimenError
        If `k` is below 1.
    """
    rows = fit_rows(activations, "random")
    check_k(k, None, "random")
    atoms = draws.normal(k, rows.shape[1]).double()
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    return Dictionary(
        name="random",
        atoms=atoms,
        mean=rows.double().mean(dim=0),
        encoder="linear",
        signed=True,
        parameters={"filters": torch.linalg.pinv(atoms).T},
        provenance=fitted_on(rows, draws, k=k),
    )
