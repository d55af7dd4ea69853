"""Feature robustness: how much noise on the pictures moves a code, against how much the pictures do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import atom_names, check, joined


@metric(
    version=1,
    citation="arXiv:2407.06076",
    cost="draws x levels forwards an image, shared by all dictionaries of a layer",
    of="dictionary",
    direction="down",
    bounds=(0.0, float("inf")),
    null="random directions of the same layer",
    ceiling="0, codes that noise does not reach",
)
def feature_robustness(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    levels: tuple[float, ...] = (0.01, 0.1, 0.5),
    copies: int = 10,
) -> Measurement:
    """Measure the variance of each code under Gaussian noise on the picture, over its variance among pictures.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `noisy`
    levels : standard deviations of the noise, for pictures in [0, 1]; the value averages over them
    copies : noisy copies a picture and level; the published number is 100

    Returns
    -------
    Measurement
        One value an atom of a fit, NaN where its code is the same on all pictures; `extra` holds one column a level.

    Raises
    ------
    LimenError
        If there is no dictionary, fewer than two copies, a level is not above 0, or the data know no noisy pictures.
    """
    check("feature_robustness", dictionaries, data)
    data.require("feature_robustness", "noisy")
    if copies < 2 or not levels or min(levels) <= 0:
        raise LimenError(
            f"metric 'feature_robustness': given {copies} copies at the levels {list(levels)}, allowed are two or more "
            "copies and levels above 0."
        )
    clean = [one.encode(data.test).double() for one in dictionaries]
    spread = [codes.var(dim=0, correction=0) for codes in clean]
    columns = {level: [_moved(one, data, level, copies) for one in dictionaries] for level in levels}
    extra = {
        f"noise {level:g}": joined(
            [torch.where(among > 0, part / among, torch.nan) for part, among in zip(parts, spread, strict=True)]
        )
        for level, parts in columns.items()
    }
    return Measurement(
        values=np.mean(list(extra.values()), axis=0),
        ceiling=np.zeros(sum(one.k for one in dictionaries)),
        samples=atom_names(dictionaries),
        convention=(
            f"variance of a code over {copies} noisy copies, mean over held-out pictures, over its variance among clean "
            f"ones; mean of the noise levels {', '.join(f'{level:g}' for level in levels)} (pictures in 0 .. 1)"
        ),
        extra=extra,
    )


def _moved(one: Dictionary, data: ConceptData, level: float, copies: int) -> Tensor:
    """Return the unbiased variance of each code over noisy copies, averaged over pictures, (k,)."""
    assert data.noisy is not None
    mean = data.test.new_zeros(len(data.test), one.k).double()
    deviations = torch.zeros_like(mean)
    for draw in range(copies):
        codes = one.encode(data.noisy(level, draw)).double()
        step = codes - mean
        mean = mean + step / (draw + 1)
        deviations = deviations + step * (codes - mean)
    return deviations.mean(dim=0) / (copies - 1)
