"""Sufficiency: are images with similar explanations predicted as the same class?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._similarity import centred_ranks
from ._alike import agreement


@metric(
    version=1,
    citation="arXiv:2202.00734",
    cost="1 forward",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the maps dealt out anew: how often the image's class occurs among the others",
)
def sufficiency(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    side: PositiveInt | None = 8,
    share: Annotated[float, Field(gt=0, le=1)] = 0.1,
) -> Measurement:
    """Measure how often the images with a similar map are predicted as the same class.

    It is a property of the set that is scored: other images beside an image change its value. Explanations are similar
    if their rank correlation is among the highest of the set, so that neither the scale of the maps nor the number of
    places matters (a fixed distance, Quantus' 0.6, leaves no map similar to any other from 64 places on).

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, unused: the class predicted for each image decides
    maps : (N, 1, H, W), signed
    space : Space, gives the cells
    side : cells along each axis whose credit is compared; None = single places
    share : share of the pairs of images that count as similar: those of highest rank correlation, with ties

    Returns
    -------
    Measurement
        Values (N,) in [0, 1]; NaN where no other map is similar. `extra['alike']` counts the similar maps.

    References
    ----------
    Dasgupta, Frost, Moshkovitz 2022, arXiv:2202.00734.
    """
    centred = centred_ranks(space.pool(maps.double(), side))
    norm = centred.norm(dim=1, keepdim=True)
    centred = centred / norm.masked_fill(norm == 0, 1)
    # Equal pairs must not differ by the order of a sum.
    close = (centred @ centred.T * 1e9).round()
    close = close.maximum(close.T)
    count = len(close)
    pairs = max(1, round(share * count * (count - 1) / 2))
    # Each pair is there twice.
    others = close.masked_fill(close.new_ones(count).diag().bool(), -float("inf"))
    threshold = others.flatten().sort(descending=True).values[min(2 * pairs, count * count) - 1]
    return agreement(
        engine,
        images,
        close >= threshold,
        f"maps pooled to {centred.shape[1]} {'places' if side is None else 'cells'}; similar = the {share:.0%} of pairs with "
        "the highest rank correlation",
    )
