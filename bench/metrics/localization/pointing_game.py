"""Pointing game: does the largest credit of a map lie in a known region?"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ._regions import find_region
from ._top import share_of_top


@metric(
    version=1,
    citation="arXiv:1608.00507",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the region's share of the image, grown by the tolerance: exact",
    presets={"torchray": {"tolerance": 15}},
)
def pointing_game(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
    tolerance: NonNegativeInt = 0,
) -> Measurement:
    """Tell whether the place of largest signed credit is inside a region: 1 a hit, 0 a miss.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W), signed
    regions : name -> bool (N, H, W), as the image set gives them
    mask : the region the network is known to use
    tolerance : a place at most this many pixels (Euclidean) from the region is inside too; TorchRay's is 15

    Returns
    -------
    Measurement
        Values (N,); where several places share the largest credit, the share of them that is inside. NaN where the
        region is empty. `extra` holds `area`, the region's share of each image, and `undefined`.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Zhang et al. 2016, arXiv:1608.00507.
    """
    region = find_region(engine, regions, mask, maps, "pointing_game")
    inside = grown(region.inside, tolerance)
    values = region.only_defined(share_of_top(maps, inside, torch.ones_like(targets)))
    return Measurement(
        values=values,
        null=region.only_defined(inside.flatten(1).double().mean(dim=1)),
        convention=f"largest signed credit, ties by their mean, tolerance {tolerance} px; {region.about}",
        extra=region.columns(values),
    )


def grown(inside: Tensor, radius: int) -> Tensor:
    """Return the region (N, 1, H, W) with every place at most `radius` pixels away from it."""
    if radius == 0:
        return inside
    height, tall = inside.shape[-2], pad(inside, [0, 0, radius, radius])
    found = inside
    for shift in range(-radius, radius + 1):
        reach = isqrt(radius**2 - shift**2)
        rows = tall[:, :, radius + shift : radius + shift + height]
        wide = max_pool2d(rows, (1, 2 * reach + 1), stride=1, padding=(0, reach))
        found = torch.maximum(found, wide)
    return found
