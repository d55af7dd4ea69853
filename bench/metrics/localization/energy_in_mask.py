"""Energy in mask: the share of a map's positive credit that falls inside a known region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ._regions import find_region


@metric(
    version=2,
    citation="arXiv:2003.07258",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the region's share of the image: exact",
    presets={"quantus": {"credit": "absolute"}},
)
def energy_in_mask(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
    credit: Literal["positive", "absolute"] = "positive",
) -> Measurement:
    """Measure the share of credit inside a region of each image.

    Parameters
    ----------
    maps : (N, 1, H, W), signed
    regions : name -> bool (N, H, W), as the image set gives them
    mask : str
        The region the network is known to use: 'object', or 'background' where the background is the shortcut.
    credit : 'positive' (the published measure) or 'absolute' (Quantus' attribution localisation)

    Returns
    -------
    Measurement
        values (N,) in [0, 1]; NaN where the region is empty or there is no such credit. `extra` holds `area`, the
        region's share of each image, and `undefined`.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Relevance mass accuracy: Arras, Osman, Samek 2022, arXiv:2003.07258.
    """
    region = find_region(engine, regions, mask, maps, "energy_in_mask")
    counted = maps.abs() if credit == "absolute" else maps.clamp(min=0)
    inside, total = ((counted * part).flatten(1).double().sum(dim=1) for part in (region.inside, 1))
    # 0 / 0 is NaN by design: a map without such credit has no share of it.
    values = region.only_defined(inside / total)
    return Measurement(
        values=values,
        null=region.only_defined(region.area),
        convention=f"{credit} credit, share of the sum, no normalisation; {region.about}",
        extra=region.columns(values),
    )
