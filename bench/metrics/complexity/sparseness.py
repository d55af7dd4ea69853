"""Sparseness: how few places carry a map."""

from __future__ import annotations

import torch
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric


@metric(
    version=1,
    citation="arXiv:1810.06583",
    cost="none",
    of="maps",
    # Concentration is not merit: the sparsest map of all is one pixel, wherever it lies.
    direction="none",
    bounds=(0.0, 1.0),
    null="a uniform random map: 1/3",
)
def sparseness(engine: Engine, images: Tensor, targets: Tensor, maps: Tensor) -> Measurement:
    """Measure the Gini index of the absolute map: 0 for a flat map, 1 - 1/n for a single pixel.

    Parameters
    ----------
    engine : Engine, unused
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W)

    Returns
    -------
    Measurement
        Values (N,); a map that is zero everywhere counts as flat, 0.

    References
    ----------
    Chalasani et al. 2020, arXiv:1810.06583; Hurley, Rickard 2009, arXiv:0811.4706.
    """
    sizes = maps.abs().flatten(1).double().sort(dim=1).values
    count = sizes.shape[1]
    order = torch.arange(1, count + 1).type_as(sizes)
    total = sizes.sum(dim=1)
    gini = ((2 * order - count - 1) * sizes).sum(dim=1) / (count * total)
    return Measurement(
        values=torch.where(total > 0, gini, 0),
        convention="Gini index of |map| after the signed channel sum, over all places, no normalisation; a zero map is 0",
    )
