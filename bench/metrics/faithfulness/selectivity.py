"""Selectivity: how fast the score falls when square patches go, the patch of most credit first."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import RULES, Rule, Score, area, masks, rebased
from ._regions import patches, region_ranks


@metric(
    version=1,
    citation="arXiv:1706.07979",
    cost="patches + 1 forwards",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="the same curve for random maps",
    presets={"quantus": {"patch": 8, "score": "probability", "baseline": "min", "rule": "counted"}},
)
def selectivity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    patch: PositiveInt = 8,
    score: Score = "probability",
    baseline: str | None = None,
    rule: Rule = "trapezoid",
) -> Measurement:
    """Integrate the score while patches are replaced by the baseline one by one, until none is left.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    patch : places a side of a patch; patches at the far edges may be smaller, so they are ranked by their mean credit
    score : 'probability', or 'logit', whose area has no bounds
    baseline : another baseline than the space's, by its name
    rule : as for `deletion`

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve.

    References
    ----------
    Montavon, Samek, Müller 2018, arXiv:1706.07979.
    """
    space = rebased(space, baseline)
    labels, count = patches(maps, patch)
    rank, _ = region_ranks(maps, labels, count, draws.for_images(images))
    copies = masks(rank, range(count + 1), [False] * (count + 1))
    heights = engine.perturbed_scores(images, copies, targets, space=space, score=score)
    fractions = heights.new_tensor(range(count + 1), dtype=torch.float64) / count
    values = area(heights, fractions, rule)
    return Measurement(
        values=values,
        curve_x=fractions,
        curve_y=heights,
        convention=(
            f"{score}; all {count} patches of {patch} places a side replaced by the baseline '{space.name}' one by one, "
            f"largest mean credit first, ties at random; {RULES[rule]}"
        ),
        extra={"undefined": values.isnan().double()} if rule == "peak" else {},
    )
