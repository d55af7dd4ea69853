"""Relevance rank accuracy: how much of a region the largest credit fills, taking as many places as the region has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ._regions import find_region
from ._top import share_of_top


@metric(
    version=1,
    citation="arXiv:2003.07258",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the region's share of the image: exact",
)
def relevance_rank_accuracy(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
) -> Measurement:
    """Measure the share of the |G| places of largest signed credit that lie inside a region G.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W), signed
    regions : name -> bool (N, H, W), as the image set gives them
    mask : the region the network is known to use

    Returns
    -------
    Measurement
        Values (N,), expected over random orders of ties; NaN where the region is empty. `extra` holds `area`, the
        region's share of each image, and `undefined`.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Arras, Osman, Samek 2022, arXiv:2003.07258.
    """
    region = find_region(engine, regions, mask, maps, "relevance_rank_accuracy")
    size = region.inside.flatten(1).double().sum(dim=1).clamp(min=1).type_as(targets)
    values = region.only_defined(share_of_top(maps, region.inside, size))
    return Measurement(
        values=values,
        null=region.only_defined(region.area),
        convention=f"as many places as the region has, largest signed credit, ties by their mean; {region.about}",
        extra=region.columns(values),
    )
