"""Completeness: how far the credit of a map is from adding up to what the image does to the score."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...engine import Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space


@metric(
    version=1,
    citation="arXiv:1703.01365",
    cost="2 forwards",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="1, the value of the map that is 0 everywhere; random maps have no scale of their own",
)
def completeness(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Measure `|sum(map) - (f(x) - f(x0))|` relative to `|f(x) - f(x0)|`.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates and baseline x0, which must be the one the map was made with
    score : 'logit' or 'probability', which must be what the map explains

    Returns
    -------
    Measurement
        Values (N,), 0 for a complete map; NaN where f(x) and f(x0) differ by rounding alone. `extra['gap']` is
        `sum(map) - (f(x) - f(x0))` with its sign, `extra['undefined']` is 1 where the value is NaN.

    References
    ----------
    Sundararajan, Taly, Yan 2017, arXiv:1703.01365.
    """
    whole = maps.new_ones(1, space.cells(space.coordinates(engine, images), None))
    ends = engine.perturbed_scores(
        images, Masks.shared(torch.cat([whole, 0 * whole])), targets, space=space, score=score
    ).double()
    change = ends[:, 0] - ends[:, 1]
    gap = maps.double().flatten(1).sum(dim=1) - change
    undefined = change.abs() <= 4 * torch.finfo(torch.float32).eps * ends.abs().amax(dim=1)
    return Measurement(
        values=(gap / change).abs().masked_fill(undefined, float("nan")),
        null=torch.ones_like(gap),
        convention=(
            f"{score}; |sum of the map - (f(x) - f(x0))| / |f(x) - f(x0)|, baseline '{space.name}'; NaN where f(x) and "
            "f(x0) differ by rounding alone; null: the map that is 0 everywhere"
        ),
        extra={"gap": gap, "undefined": undefined.type_as(gap)},
    )
