"""Dead atoms: which never speak."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, atom_names, by_image, check, joined, rows


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode a dictionary",
    of="dictionary",
    direction="down",
    bounds=(0.0, 1.0),
    null="random dictionaries of the same sizes, whose atoms all speak",
    ceiling="0, every atom speaks",
)
def dead_atoms(dictionaries: Sequence[Dictionary], data: ConceptData, *, at: At = "images") -> Measurement:
    """Tell for each atom whether its code is 0 on every held-out row; the mean is the share of dead atoms.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    at : 'images', on activations averaged over positions; 'positions', at each

    Returns
    -------
    Measurement
        One value, 0 or 1, an atom of a fit; `extra` holds `firing`, the share of rows where it speaks.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """
    check("dead_atoms", dictionaries, data)
    wanted = rows("dead_atoms", data, at)
    firing = [_firing(one, wanted) for one in dictionaries]
    return Measurement(
        values=joined([share == 0 for share in firing]),
        ceiling=np.zeros(sum(one.k for one in dictionaries)),
        samples=atom_names(dictionaries),
        convention=f"1 where |code| is 0 on every held-out row, codes at {at}",
        extra={"firing": joined(firing)},
    )


def _firing(one: Dictionary, activations: Tensor) -> Tensor:
    """Return the share of rows at which each atom's code is not 0, (k,)."""
    counts: list[Tensor] = []

    def measure(_: Tensor, codes: Tensor) -> Tensor:
        counts.append((codes != 0).double().sum(dim=0))
        return codes[:, 0]

    by_image(one, activations, measure)
    return torch.stack(counts).sum(dim=0) / activations.shape[:2].numel()
