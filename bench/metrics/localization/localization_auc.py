"""Localization AUC: how well a map's credit tells a region's places from the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ._regions import find_region


@metric(
    version=1,
    citation="doi:10.1016/j.patrec.2005.10.010",
    cost="none",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="one half: exact",
)
def localization_auc(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    regions: Mapping[str, np.ndarray],
    mask: str = "object",
) -> Measurement:
    """Measure the area under the ROC curve of signed credit against being inside a region.

    It is the probability that a place drawn inside has more credit than one drawn outside, ties counted by half.

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
        Values (N,); NaN where the region is empty or is the whole image. `extra` holds `area`, the region's share of
        each image, and `undefined`.

    Raises
    ------
    LimenError
        If the image set knows no such region, or its size differs from the maps'.

    References
    ----------
    Fawcett 2006, doi:10.1016/j.patrec.2005.10.010.
    """
    region = find_region(engine, regions, mask, maps, "localization_auc")
    credit, inside = maps.flatten(1).contiguous(), region.inside.flatten(1).double()
    ordered = credit.sort(dim=1).values
    # Places below plus half of the equal ones: the mean rank of a tie, from 0.
    below, up_to = (torch.searchsorted(ordered, credit, right=right).double() for right in (False, True))
    size, others = inside.sum(dim=1), (1 - inside).sum(dim=1)
    wins = (inside * (below + up_to) / 2).sum(dim=1) - size.square() / 2
    # 0 / 0 is NaN by design: a region that is everything, or nothing, leaves no pair to compare.
    values = wins / (size * others)
    return Measurement(
        values=values,
        null=torch.where(values.isnan(), values, 0.5),
        convention=f"area under the ROC curve of signed credit, ties by half; {region.about}",
        extra=region.columns(values),
    )
