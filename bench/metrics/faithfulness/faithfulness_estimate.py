"""Faithfulness estimate: is the credit of each group of units in proportion to the drop of the score without it?"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import pearson
from ._curves import ranks, rebased


@metric(
    version=1,
    citation="arXiv:1806.07538",
    cost="side^2 / group + 1 forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
    presets={"quantus": {"side": None, "group": 1, "baseline": "min", "score": "logit"}},
)
def faithfulness_estimate(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    group: PositiveInt = 1,
    baseline: str | None = None,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate the credit of disjoint groups of units with the drop when each group alone goes to the baseline.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws, for ties
    side : cells along each axis; None = single places, so that the cost is their number
    group : units in a group, neighbours in the order of their credit; the last group takes what is left
    baseline : name of another baseline of the space; None keeps the space's own
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the groups explains nothing: its value is 0 and
        `extra['constant']` is 1.

    References
    ----------
    Alvarez-Melis, Jaakkola 2018, arXiv:1806.07538.
    """
    space = rebased(space, baseline)
    cells = space.cells(space.coordinates(engine, images), side)
    pooled = space.pool(maps.double(), side)
    area = space.pool(torch.ones_like(maps[:1], dtype=torch.float64), side).expand_as(pooled)
    member = ranks((pooled / area)[:, None], draws.for_images(images))[:, 0] // group
    count = -(-cells // group)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        # Mask 0 removes nothing.
        return (member[image_index] != mask_index[:, None] - 1).type_as(maps)

    scores = engine.perturbed_scores(
        images, Masks.lazy(count + 1, build), targets, space=space, score=score, side=side
    ).double()
    places = pooled.new_zeros(len(pooled), count).scatter_add_(1, member, area.contiguous())
    credit = pooled.new_zeros(len(pooled), count).scatter_add_(1, member, pooled) / places
    size = scores.abs().amax(dim=1, keepdim=True) / places.amin(dim=1, keepdim=True)
    values, constant = pearson(credit, (scores[:, :1] - scores[:, 1:]) / places, size)
    return Measurement(
        values=values,
        convention=(
            f"{score}; Pearson over {count} disjoint groups of {group} of {cells} {'places' if side is None else 'cells'} in "
            f"the order of their credit, each replaced by the baseline '{space.name}', all channels at once; credit and "
            "drop per place; 0 where the map or the drop is constant"
        ),
        extra={"constant": constant.type_as(values)},
    )
