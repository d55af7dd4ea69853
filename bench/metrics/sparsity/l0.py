"""L0: how many atoms speak at once."""

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
    citation="arXiv:2502.12892",
    cost="one encode a dictionary",
    of="dictionary",
    # Few active atoms are no merit of their own: a dictionary of dead atoms has none. Read it beside R2.
    direction="none",
    bounds=(0.0, float("inf")),
    null="random dictionaries of the same sizes, whose least-squares codes are dense: k",
)
def l0(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, at: At = "images", fraction: bool = False
) -> Measurement:
    """Count the codes of a row that are not 0.

    Parameters
    ----------
    dictionaries : one or more fits of one method; an image's value is their average
    data : ConceptData
    at : 'images', on activations averaged over positions; 'positions', at each, averaged within an image
    fraction : divide by the number of atoms

    Returns
    -------
    Measurement
        One value an image.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """

    def measure(codes: Tensor) -> Tensor:
        active = (codes != 0).double()
        return active.mean(dim=1) if fraction else active.sum(dim=1)

    what = "share of atoms with a code that is not 0" if fraction else "number of codes that are not 0"
    return measured("l0", dictionaries, data, at, measure, what)
