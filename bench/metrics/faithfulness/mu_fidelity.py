"""mu-Fidelity: does the credit of a set of cells rank like the drop of the score without them?"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space


@metric(
    version=1,
    citation="arXiv:2005.00631; arXiv:2111.04138",
    cost="subsets forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0 where all cells are of one size",
)
def mu_fidelity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt = 9,
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    subsets: PositiveInt = 200,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate by rank the credit of random cell subsets of one size with the drop when they go to the baseline.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws; the subsets are the same for all images
    side : cells along each axis
    fraction : share of the cells in each subset; the size is fixed, since subsets of varying size reward any positive map
    subsets : number of subsets
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the subsets ranks nothing: its value is 0 and
        `extra['constant']` is 1. `extra['centred']` is the value for the map less its mean: where the cells differ in
        size, a map's level (RISE's, a random map's) correlates with the area of a subset.

    References
    ----------
    Bhatt, Weller, Moura 2020, arXiv:2005.00631; Fel et al. 2021, arXiv:2111.04138.
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    size = min(max(1, round(fraction * cells)), cells)
    chosen = draws.subsets(subsets, cells, size).type_as(maps)
    kept = engine.perturbed_scores(images, Masks.shared(1 - chosen), targets, space=space, score=score, side=side)
    drop = -kept.double()
    values, constant = spearman(space.pool(maps, side).double() @ chosen.double().T, drop)
    # Where the cells are not all of one size, a level common to all places ranks subsets by their area.
    level = maps.mean(dim=tuple(range(1, maps.ndim)), keepdim=True)
    centred, _ = spearman(space.pool(maps - level, side).double() @ chosen.double().T, drop)
    return Measurement(
        values=values,
        convention=(
            f"{score}; Spearman with average ranks over {subsets} subsets of exactly {size} of {cells} cells replaced by "
            f"the baseline '{space.name}', all channels at once; 0 where the map or the drop is constant"
        ),
        extra={"constant": constant.type_as(values), "centred": centred},
    )


def spearman(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank correlation of the rows of two (N, M) tensors, and whether it is undefined (then 0)."""
    centred = [ranks - ranks.mean(dim=1, keepdim=True) for ranks in (average_ranks(left), average_ranks(right))]
    norm = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    constant = norm == 0
    return torch.where(constant, 0, (centred[0] * centred[1]).sum(dim=1) / norm), constant


def average_ranks(values: Tensor) -> Tensor:
    """Rank each row of (N, M), ties sharing their mean rank.

    Values within four roundings of a float32 of their neighbour are ties: batched arithmetic moves equal scores by that
    much, and a rank must not depend on the batch size.
    """
    ordered, order = values.sort(dim=1)
    tolerance = 4 * torch.finfo(torch.float32).eps * values.abs().amax(dim=1, keepdim=True)
    starts = torch.ones_like(order)
    starts[:, 1:] = (ordered.diff(dim=1) > tolerance).type_as(order)
    group = starts.cumsum(dim=1) - 1
    place = torch.ones_like(values).cumsum(dim=1)
    total = torch.zeros_like(values).scatter_add_(1, group, place)
    count = torch.zeros_like(values).scatter_add_(1, group, torch.ones_like(values))
    mean = (total / count.clamp(min=1)).gather(1, group)
    return torch.empty_like(values).scatter_(1, order, mean)
