"""Monotonicity: does the score never fall while units come in, least relevant first?"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._removal import areas
from ._curves import ranks, rebased


@metric(
    version=1,
    citation="arXiv:1909.03012",
    cost="side^2 / group + 1 forwards",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the share of random maps under which the score never falls",
    presets={"quantus": {"side": None, "group": 1, "absolute": True, "baseline": "min", "score": "probability"}},
)
def monotonicity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    group: PositiveInt = 1,
    absolute: bool = False,
    baseline: str | None = None,
    score: Literal["logit", "probability"] = "probability",
) -> Measurement:
    """Tell whether the score never falls while units are added to the baseline, in rising order of their credit.

    An all-or-nothing answer about interactions: on an additive network the order of a map changes nothing, and one unit
    that counts against the class makes every map fail. Read the share of steps beside it.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws, for ties
    side : cells along each axis; None = single places
    group : units added in a step; the last step takes what is left
    absolute : order units by the size of their credit
    baseline : name of another baseline of the space; None keeps the space's own
    score : 'probability' or 'logit'

    Returns
    -------
    Measurement
        Values (N,): 1 where the score never falls, else 0. `extra['share']` is the share of steps in which it does not
        fall; `curve_y` holds the scores. A step down within float32 rounding is none.

    References
    ----------
    Arya et al. 2019, arXiv:1909.03012.
    """
    space = rebased(space, baseline)
    cells = space.cells(space.coordinates(engine, images), side)
    pooled = space.pool(maps.double(), side) / areas(maps, space, side)
    order = -(pooled.abs() if absolute else pooled)
    step = ranks(order[:, None], draws.for_images(images))[:, 0] // group
    count = -(-cells // group)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        return (step[image_index] < mask_index[:, None]).type_as(maps)

    heights = engine.perturbed_scores(
        images, Masks.lazy(count + 1, build), targets, space=space, score=score, side=side
    )
    rounding = 4 * torch.finfo(heights.dtype).eps * heights.abs().amax(dim=1, keepdim=True)
    kept = (heights.diff(dim=1) >= -rounding).double()
    return Measurement(
        values=kept.amin(dim=1),
        curve_x=(torch.ones_like(heights[0]).cumsum(dim=0) - 1) * group / cells,
        curve_y=heights,
        convention=(
            f"{score}; {cells} {'places' if side is None else 'cells'} added to the baseline '{space.name}' {group} at a "
            f"time, all channels at once, in rising order of {'absolute' if absolute else 'signed'} credit per place, ties "
            "at random; 1 where no step falls by more than rounding"
        ),
        extra={"share": kept.mean(dim=1)},
    )
