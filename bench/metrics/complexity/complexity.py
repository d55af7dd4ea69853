"""Complexity: the entropy of how a map's credit is spread over the places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric


@metric(
    version=1,
    citation="arXiv:2005.00631",
    cost="none",
    of="maps",
    # As with sparseness: a map is not better for being simple.
    direction="none",
    bounds=(0.0, math.inf),
    null="the same entropy of random maps: of a uniform one over n places, log n - .193",
)
def complexity(engine: Engine, images: Tensor, targets: Tensor, maps: Tensor) -> Measurement:
    """Measure the entropy of each place's share of the absolute map: 0 for one pixel, log n for a flat map.

    Parameters
    ----------
    engine : Engine, unused
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W)

    Returns
    -------
    Measurement
        Values (N,) in nats; a map that is zero everywhere counts as flat, log n. `extra['normalised']` is the value
        over log n, in [0, 1], which maps of different sizes share.

    References
    ----------
    Bhatt, Weller, Moura 2020, arXiv:2005.00631.
    """
    sizes = maps.abs().flatten(1).double()
    count = sizes.shape[1]
    # Divided by the largest first: a map of tiny numbers has the entropy of the same map at any other scale.
    sizes = sizes / sizes.amax(dim=1, keepdim=True)
    shares = sizes / sizes.sum(dim=1, keepdim=True)
    entropy = -torch.xlogy(shares, shares).sum(dim=1)
    largest = math.log(count)
    values = torch.where(entropy.isnan(), largest, entropy).clamp(0, largest)
    return Measurement(
        values=values,
        convention=(
            "entropy in nats of |map| / sum |map| after the signed channel sum, over all places; a zero map is flat"
        ),
        extra={"normalised": values / largest if count > 1 else torch.zeros_like(values)},
    )
