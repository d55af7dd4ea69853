"""Negative interference: atoms that speak together and cancel each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, check, fit_names, permuted, rows

_STEPS = 500
_STILL = 1e-10


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode a dictionary; 1 + null_draws products (k, n, k)",
    of="dictionary",
    direction="down",
    bounds=(0.0, float("inf")),
    null="each atom's codes in an order of its own: the same atoms and codes, speaking together by chance",
    ceiling="0, no atoms that cancel",
    presets={"ra-sae": {"norm": "spectral", "per_row": False}},
)
def negative_interference(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    at: At = "images",
    norm: Literal["frobenius", "spectral"] = "frobenius",
    per_row: bool = True,
    null_draws: int = 3,
) -> Measurement:
    """Measure the size of `ReLU(-(Z^T Z / n) o (D D^T))`: pairs that are active together and point against each other.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    draws : Draws
    at : 'images', on activations averaged over positions; 'positions', at each
    norm : 'frobenius', or 'spectral' as published
    per_row : divide Z^T Z by the number of rows; the published value grows with it
    null_draws : permutations a dictionary

    Returns
    -------
    Measurement
        One value a fit, in squared units of the activations; `extra` holds `relative`, the value over the Frobenius
        norm of `(Z^T Z / n) o (D D^T)`, without units.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.

    References
    ----------
    arXiv:2502.12892, appendix C.
    """
    check("negative_interference", dictionaries, data, null_draws=null_draws)
    wanted = rows("negative_interference", data, at).flatten(0, 1)
    count = len(wanted) if per_row else 1
    values, null, relative = [], [], []
    for index, one in enumerate(dictionaries):
        codes, alike = one.encode(wanted).double(), one.atoms.double() @ one.atoms.double().T
        together = (codes.T @ codes) * alike / count
        values.append(_size(together, norm))
        relative.append(_size(together, "frobenius") / together.norm())
        shuffled = (permuted(codes, draws.spawn(index, draw)) for draw in range(null_draws))
        null.append(torch.stack([_size((blind.T @ blind) * alike / count, norm) for blind in shuffled]).mean())
    return Measurement(
        values=host(torch.stack(values)),
        null=host(torch.stack(null)),
        ceiling=np.zeros(len(values)),
        samples=fit_names(dictionaries),
        convention=f"{norm} norm of ReLU(-(Z^T Z{' / n' if per_row else ''}) o (D D^T)), codes at {at}, held-out split",
        extra={"relative": host(torch.stack(relative))},
    )


def _size(together: Tensor, norm: str) -> Tensor:
    against = (-together).relu()
    return against.norm() if norm == "frobenius" else _spectral(against)


def _spectral(matrix: Tensor) -> Tensor:
    """Return the largest singular value of a symmetric matrix without negative entries, by power iteration.

    Its leading vector has no negative entry either (Perron, Frobenius), so that all-ones is never without a part of it;
    steps are pairs, since the negative of the eigenvalue may be one too.
    """
    vector = torch.ones_like(matrix[0])
    value = vector.new_zeros(())
    for _ in range(_STEPS):
        vector = matrix @ (matrix @ vector)
        length = vector.norm()
        if not bool(length > 0):
            return value
        vector = vector / length
        before, value = value, (matrix @ vector).norm()
        if bool((value - before).abs() <= _STILL * value):
            break
    return value
