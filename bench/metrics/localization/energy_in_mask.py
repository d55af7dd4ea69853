"""Energy in mask: the share of a map's positive credit that falls inside a known region."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import LimenError, metric, unknown


@metric(
    version=1,
    citation="arXiv:2003.07258",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="a uniform random map: the region's share of the area",
    ceiling=None,
)
def energy_in_mask(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
) -> Measurement:
    """Measure the share of positive credit inside a region of each image.

    Parameters
    ----------
    maps : (N, 1, H, W), signed
    regions : name -> bool (N, H, W), as the image set gives them
    mask : str
        The region the network is known to use: 'object', or 'background' where the background is the shortcut.

    Returns
    -------
    Measurement
        values (N,) in [0, 1]; NaN where the region is empty or no credit is positive. `extra` holds `area`, the
        region's share of each image.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Relevance mass accuracy, arXiv:2003.07258
    """
    if mask not in regions:
        raise unknown("metric 'energy_in_mask', option 'mask'", mask, regions)
    region = engine.prepare(np.asarray(regions[mask], dtype=np.float32)[:, None])
    if region.shape != maps.shape:
        raise LimenError(
            f"metric 'energy_in_mask', region '{mask}': given {tuple(region.shape)}, allowed is the maps' shape "
            f"{tuple(maps.shape)}."
        )
    positive = maps.clamp(min=0)
    inside, total = (positive * region).flatten(1).sum(1), positive.flatten(1).sum(1)
    area = region.flatten(1).mean(1)
    # 0 / 0 is NaN by design: an empty region or a map without positive credit has no such share.
    values = (inside / total).masked_fill(area == 0, float("nan"))
    return Measurement(
        values=values,
        convention=f"positive credit, region '{mask}', share of the sum, no normalisation",
        extra={"area": area},
    )
