"""Relative error: how far the decoded activations are from the true ones, by their own length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, averaged, by_image, check, image_names, rows


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode and one decode a dictionary",
    of="dictionary",
    direction="down",
    bounds=(0.0, float("inf")),
    null="random dictionaries of the same sizes, with their least-squares codes",
    ceiling="0, nothing lost",
)
def relative_l2(dictionaries: Sequence[Dictionary], data: ConceptData, *, at: At = "images") -> Measurement:
    """Measure `|a - a'| / |a|` on held-out rows and average over them.

    Beside `reconstruction_r2` it counts the mean of the activations as something to be reconstructed, and long rows no
    more than short ones.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a row's value is their average
    data : ConceptData
    at : 'images', on activations averaged over positions; 'positions', at each, averaged within an image

    Returns
    -------
    Measurement
        One value an image; NaN where an image has no activation at all.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """
    check("relative_l2", dictionaries, data)
    wanted = rows("relative_l2", data, at)
    values = [by_image(one, wanted, _measure(one)) for one in dictionaries]
    return Measurement(
        values=averaged(values),
        ceiling=np.zeros(len(wanted)),
        samples=image_names(data),
        convention=f"|a - a'| / |a| at {at}, mean over held-out rows; rows of zeros are left out",
    )


def _measure(one: Dictionary) -> Callable[[Tensor, Tensor], Tensor]:
    def measure(activations: Tensor, codes: Tensor) -> Tensor:
        lengths = activations.double().norm(dim=1)
        lost = (activations.double() - one.decode(codes).double()).norm(dim=1)
        return torch.where(lengths > 0, lost / lengths, torch.nan)

    return measure
