"""Hoyer sparsity: how unevenly a row's codes are shared among the atoms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At
from ._codes import measured


@metric(
    version=1,
    citation="Hoyer 2004, JMLR 5",
    cost="one encode a dictionary",
    of="dictionary",
    # Concentration is not merit: one atom that answers everything is the sparsest code of all.
    direction="none",
    bounds=(0.0, 1.0),
    null="random dictionaries of the same sizes, whose codes are dense",
)
def hoyer(dictionaries: Sequence[Dictionary], data: ConceptData, *, at: At = "images") -> Measurement:
    """Measure `(sqrt k - |z|_1 / |z|_2) / (sqrt k - 1)`: 0 for equal codes, 1 for a single one.

    Parameters
    ----------
    dictionaries : one or more fits of one method; an image's value is their average
    data : ConceptData
    at : 'images', on activations averaged over positions; 'positions', at each, averaged within an image

    Returns
    -------
    Measurement
        One value an image; NaN where every code is 0, or there is one atom.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """

    def measure(codes: Tensor) -> Tensor:
        sizes = codes.double().abs()
        ratio, root = sizes.sum(dim=1) / sizes.square().sum(dim=1).sqrt(), codes.shape[1] ** 0.5
        if codes.shape[1] == 1:
            return torch.full_like(ratio, torch.nan)
        return ((root - ratio) / (root - 1)).clamp(0, 1)

    return measured("hoyer", dictionaries, data, at, measure, "Hoyer sparsity of |codes|, rows without a code left out")
