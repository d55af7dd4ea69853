"""Consistency: are images with the same explanation, once made discrete, predicted as the same class?"""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._removal import areas
from ._alike import agreement
from ._curves import ranks


@metric(
    version=1,
    citation="arXiv:2202.00734",
    cost="1 forward",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the maps dealt out anew: how often the image's class occurs among the others",
)
def consistency(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 4,
    top: PositiveInt = 1,
) -> Measurement:
    """Measure how often the images whose map has the same top cells are predicted as the same class.

    It is a property of the set that is scored: other images beside an image change its value.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, unused: the class predicted for each image decides
    maps : (N, 1, H, W), signed
    space : Space, gives the cells
    draws : Draws, for ties
    side : cells along each axis; None = single places
    top : cells of most credit that make the discrete explanation, in any order

    Returns
    -------
    Measurement
        Values (N,) in [0, 1]; NaN where no other map has the same top cells. `extra['alike']` counts those that have.

    References
    ----------
    Dasgupta, Frost, Moshkovitz 2022, arXiv:2202.00734.
    """
    pooled = space.pool(maps.double(), side) / areas(maps, space, side)
    top = min(top, pooled.shape[1])
    best = (ranks(pooled[:, None], draws.for_images(images))[:, 0] < top).double()
    return agreement(
        engine,
        images,
        best @ best.T == top,
        f"same = the same {top} of {pooled.shape[1]} {'places' if side is None else 'cells'} of most credit per place, in "
        "any order, ties at random",
    )
