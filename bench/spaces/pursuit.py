"""Matching pursuit: one atom at a time, the one that explains most of what is left."""

from __future__ import annotations

import torch
from torch import Tensor

_GRAM_ROWS = 256
_GRAM_ATOMS = 2**14


def pursuit(rows: Tensor, atoms: Tensor, active: int) -> tuple[Tensor, Tensor]:
    """Code rows greedily: take the atom with the largest product, subtract its part, go on with what is left.

    Parameters
    ----------
    rows : float (n, d)
    atoms : float (k, d), of unit length
    active : number of steps

    Returns
    -------
    values : float32 (n, active)
        Not negative; 0 once no atom has a positive product. An atom may be taken twice: its values add up.
    indices : int64 (n, active)

    Notes
    -----
    What is left is followed by its products with the atoms, through their Gram matrix, where that matrix costs less
    than the products of the steps for a few hundred rows; the rule does not look at the number of rows, so a
    row's code is the same in every batch up to rounding.

    References
    ----------
    Mallat and Zhang (1993), doi:10.1109/78.258082
    """
    by_gram = len(atoms) <= min(_GRAM_ROWS * (active - 1), _GRAM_ATOMS)
    gram = (atoms @ atoms.T).float() if by_gram else atoms
    left, products = rows, (rows @ atoms.T).float()
    values, indices = [], []
    for step in range(active):
        value, index = products.max(dim=1)
        value = value.clamp_min(0)
        values.append(value)
        indices.append(index)
        if step == active - 1:
            break
        if by_gram:
            products = products.addcmul_(value[:, None], gram[index], value=-1)
        else:
            left = torch.addcmul(left, value[:, None], atoms[index], value=-1)
            products = (left @ atoms.T).float()
    return torch.stack(values, dim=1), torch.stack(indices, dim=1)
