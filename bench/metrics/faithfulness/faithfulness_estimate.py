"""Faithfulness estimate: is the credit of each group of units in proportion to the drop of the score without it?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import pearson
from .._removal import Removal, areas, removal
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
    if group == 1 and side is not None:
        # The order of single cells moves no correlation, and masks that all maps share are run once.
        alone = maps.new_ones(cells).diag()
        found = removal(engine, images, targets, maps, alone, space=space, side=side, score=score)
    else:
        ask = partial(engine.perturbed_scores, images, targets=targets, space=space, side=side, score=score)
        found = _grouped(
            ask, space.pool(maps.double(), side), areas(maps, space, side), draws.for_images(images), group
        )
    count = found.drop.shape[1]
    values, constant = pearson(*found)
    return Measurement(
        values=values,
        convention=(
            f"{score}; Pearson over {count} disjoint groups of {group} of {cells} {'places' if side is None else 'cells'} in "
            f"the order of their credit, each replaced by the baseline '{space.name}', all channels at once; credit and "
            "drop per place; 0 where the map or the drop is constant"
        ),
        extra={"constant": constant.type_as(values)},
    )


def _grouped(ask: Callable[..., Tensor], credit: Tensor, area: Tensor, streams: list[Draws], group: int) -> Removal:
    """Measure disjoint groups of units, neighbours in the order of their credit per place.

    Parameters
    ----------
    ask : `ask(masks) -> (N, M)`, the scores of masked copies
    credit, area : (N, d), (1, d) float64
    streams : N sources of random numbers, one an image
    group : units in a group
    """
    member = ranks((credit / area)[:, None], streams)[:, 0] // group
    count = -(-credit.shape[1] // group)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        # Mask 0 removes nothing.
        return (member[image_index] != mask_index[:, None] - 1).float()

    scores = ask(Masks.lazy(count + 1, build)).double()
    nothing = torch.zeros_like(scores[:, 1:])
    places = nothing.scatter_add(1, member, area.expand_as(credit))
    size = scores.abs().amax(dim=1, keepdim=True) / places.amin(dim=1, keepdim=True)
    return Removal(nothing.scatter_add(1, member, credit) / places, (scores[:, :1] - scores[:, 1:]) / places, size)
