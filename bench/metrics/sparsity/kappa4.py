"""Kappa-4: the peakedness of a row's codes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At
from ._codes import measured


@metric(
    version=1,
    citation="Hurley, Rickard 2009, arXiv:0811.4706",
    cost="one encode a dictionary",
    of="dictionary",
    # As for Hoyer sparsity: concentration is not merit.
    direction="none",
    bounds=(0.0, 1.0),
    null="random dictionaries of the same sizes, whose codes are dense",
)
def kappa4(dictionaries: Sequence[Dictionary], data: ConceptData, *, at: At = "images") -> Measurement:
    """Measure `sum z^4 / (sum z^2)^2`: 1/k for equal codes, 1 for a single one; its inverse counts atoms in effect.

    Parameters
    ----------
    dictionaries : one or more fits of one method; an image's value is their average
    data : ConceptData
    at : 'images', on activations averaged over positions; 'positions', at each, averaged within an image

    Returns
    -------
    Measurement
        One value an image; NaN where every code is 0.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """

    def measure(codes: Tensor) -> Tensor:
        # Divided by the largest first: the fourth power of a small float32 code would be 0 even in float64.
        squares = (codes.double() / codes.double().abs().amax(dim=1, keepdim=True)).square()
        return squares.square().sum(dim=1) / squares.sum(dim=1).square()

    return measured("kappa4", dictionaries, data, at, measure, "sum z^4 / (sum z^2)^2, rows without a code left out")
