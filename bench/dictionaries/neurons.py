"""The neuron basis: every unit of the layer is an atom."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary, fit_rows, fitted_on


@dictionary(version=1, citation="arXiv:2411.03993", cost="none")
def neurons(activations: Tensor, k: int | None = None, *, draws: Draws) -> Dictionary:
    """Take each unit of the layer as an atom: the identity dictionary.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W)
    k : int, optional
        Must be d where it is given.

    Returns
    -------
    Dictionary
        Codes are the activations themselves; signed where one of them is negative.

    Raises
    ------
    LimenError
        If `k` is neither omitted nor d.

    References
    ----------
    arXiv:2411.03993
    """
    rows = fit_rows(activations, "neurons")
    d = rows.shape[1]
    if k is not None and k != d:
        raise LimenError(f"dictionary 'neurons': given k = {k}, allowed is {d}, the number of units, or nothing.")
    return Dictionary(
        name="neurons",
        atoms=torch.eye(d).type_as(rows),
        mean=torch.zeros_like(rows[0]),
        encoder="identity",
        signed=bool((rows < 0).any()),
        provenance=fitted_on(rows, draws),
    )
