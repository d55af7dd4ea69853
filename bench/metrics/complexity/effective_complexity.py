"""Effective complexity: how many places of a map are more than negligible."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric


@metric(
    version=1,
    citation="arXiv:2007.07584",
    cost="none",
    of="maps",
    # As with sparseness: a map is not better for being simple.
    direction="none",
    bounds=(0.0, math.inf),
    null="the same count for random maps: of a uniform one over n places, (1 - eps) n",
    presets={"quantus": {"eps": 1e-5}},
)
def effective_complexity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    eps: Annotated[float, Field(ge=0, lt=1)] = 0.01,
) -> Measurement:
    """Count the places whose absolute credit exceeds a share of the map's largest.

    Parameters
    ----------
    engine : Engine, unused
    images : (N, C, H, W), unused
    targets : (N,) int64, unused
    maps : (N, 1, H, W)
    eps : share of each map's own largest absolute value; Quantus' 1e-5 is of the largest in the batch

    Returns
    -------
    Measurement
        Values (N,) in places; a map that is zero everywhere has none. `extra['share']` is the value over all places.

    References
    ----------
    Nguyen, Martinez 2020, arXiv:2007.07584.
    """
    sizes = maps.abs().flatten(1).double()
    counts = (sizes > eps * sizes.amax(dim=1, keepdim=True)).double().sum(dim=1)
    return Measurement(
        values=counts,
        convention=f"places with |map| above {eps:g} of its own largest, after the signed channel sum",
        extra={"share": counts / sizes.shape[1]},
    )
