"""Top-k intersection: how much of a map's largest credit lies in a known region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import LimenError, metric
from ._regions import find_region
from ._top import share_of_top


@metric(
    version=1,
    citation="arXiv:2104.14995",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the region's share of the image: exact",
    presets={"quantus": {"k": 1000}},
)
def top_k_intersection(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
    k: PositiveInt | Annotated[float, Field(gt=0, lt=1)] = 0.02,
) -> Measurement:
    """Measure the share of the k places of largest signed credit that lie inside a region.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W), signed
    regions : name -> bool (N, H, W), as the image set gives them
    mask : the region the network is known to use
    k : number of places, or a share of them below 1 (at least one place). 1,000 of a 224-pixel image are .02

    Returns
    -------
    Measurement
        Values (N,), expected over random orders of ties; NaN where the region is empty. Where the region has fewer than
        k places, its best value is below 1: `extra['most']`. `extra` also holds `area`, the region's share of each
        image, and `undefined`.

    Raises
    ------
    LimenError
        If k exceeds the places of a map, the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Theiner, Mueller-Budack, Ewerth 2021, arXiv:2104.14995.
    """
    region = find_region(engine, regions, mask, maps, "top_k_intersection")
    places = maps[0].numel()
    count = k if isinstance(k, int) else max(1, round(k * places))
    if count > places:
        raise LimenError(
            f"metric 'top_k_intersection', option 'k': given {k}, allowed is at most the {places} places of a map."
        )
    values = region.only_defined(share_of_top(maps, region.inside, torch.full_like(targets, count)))
    return Measurement(
        values=values,
        null=region.only_defined(region.area),
        convention=f"{count} places of largest signed credit, ties by their mean; {region.about}",
        extra={**region.columns(values), "most": (region.area * places / count).clamp(max=1)},
    )
