"""Region perturbation: the mean drop of the score while the patches of most credit go (AOPC)."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import Score, masks, rebased
from ._regions import patches, region_ranks


@metric(
    version=1,
    citation="arXiv:1509.06321",
    cost="steps + 1 forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same mean drop for random maps",
    presets={"quantus": {"patch": 8, "steps": 100, "score": "probability", "baseline": "min"}},
)
def region_perturbation(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    patch: PositiveInt = 8,
    steps: PositiveInt = 100,
    score: Score = "probability",
    baseline: str | None = None,
) -> Measurement:
    """Average `f(x) - f(x_k)` over k = 0 .. L, the best k patches replaced by the baseline (AOPC).

    The patches are those of a fixed grid, as in the paper; Quantus picks them greedily among all overlapping places.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    patch : places a side of a patch; patches at the far edges may be smaller, so they are ranked by their mean credit
    steps : L, patches removed; fewer where there are fewer
    score : 'probability', or 'logit', whose drop has no bounds
    baseline : another baseline than the space's, by its name

    Returns
    -------
    Measurement
        Values (N,), higher is better, with the curve of drops.

    References
    ----------
    Samek et al. 2017, arXiv:1509.06321.
    """
    space = rebased(space, baseline)
    labels, count = patches(maps, patch)
    removed = min(steps, count)
    rank, _ = region_ranks(maps, labels, count, draws.for_images(images))
    copies = masks(rank, range(removed + 1), [False] * (removed + 1))
    heights = engine.perturbed_scores(images, copies, targets, space=space, score=score).double()
    drops = heights[:, :1] - heights
    return Measurement(
        values=drops.mean(dim=1),
        curve_x=heights.new_tensor(range(removed + 1), dtype=torch.float64) / count,
        curve_y=drops,
        convention=(
            f"{score}; {removed} of {count} patches of {patch} places a side replaced by the baseline '{space.name}' "
            "one by one, largest mean credit first, ties at random; mean drop over k = 0 to L"
        ),
    )
