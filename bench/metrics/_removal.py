"""What a map says of sets of cells, beside what the network does without them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..engine import Engine, Masks, Within
from ..spaces import Space
from ..spaces.space import cell_boxes

ScoreType = Literal["logit", "probability"]


class Removal(NamedTuple):
    """Credit and drop of sets of cells, (N, M) float64, and the size (N, 1) of the scores behind the drops."""

    credit: Tensor
    drop: Tensor
    rounding: Tensor


def removal(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    sets: Tensor,
    *,
    space: Space,
    side: int | None,
    score: ScoreType,
    per_place: bool = True,
) -> Removal:
    """Sum the credit of sets of cells, and measure how far the score drops when each goes to the baseline.

    Where sets differ in area, by cells that do not divide the image evenly, a level that all places of a map share
    grows with the area, and so does the drop: any positive map would correlate with any network. Credit and drop are
    therefore both taken per place, which changes nothing where the areas are equal, and leaves the contributions of an
    additive function in proportion to its drops.

    Parameters
    ----------
    engine, images, targets, maps, space : as for a metric
    sets : (M, d), 1 = in the set; none is empty, unless sums are asked for
    side : cells along each axis; None = places
    score : 'logit' or 'probability'
    per_place : False leaves the plain sums, also of sets of different size
    """
    kept = 1 - torch.cat([torch.zeros_like(sets[:1]), sets]).float()
    masks = Masks.shared(kept, _boxes(space.coordinates(engine, images[:1]), sets, space, side))
    scores = engine.perturbed_scores(images, masks, targets, space=space, score=score, side=side).double()
    drop, rounding = scores[:, :1] - scores[:, 1:], scores.abs().amax(dim=1, keepdim=True)
    members = sets.double().T
    credit = space.pool(maps.double(), side) @ members
    if not per_place:
        return Removal(credit, drop, rounding)
    area = areas(maps, space, side) @ members
    return Removal(credit / area, drop / area, rounding / area.amin(dim=1, keepdim=True))


def areas(maps: Tensor, space: Space, side: int | None) -> Tensor:
    """Return how many places each cell of maps (N, 1, *places) holds, (1, d) float64."""
    return space.pool(torch.ones_like(maps[:1], dtype=torch.float64), side)


def _boxes(coordinates: Tensor, sets: Tensor, space: Space, side: int | None) -> Within | None:
    """Return where each set lies, after an empty one, if all are single cells of a picture."""
    cells = cell_boxes(space, coordinates, side)
    if cells is None or sets.is_meta or not bool((sets.sum(dim=1) == 1).all()):
        return None
    starts = cells.starts[sets.argmax(dim=1).tolist()]
    return Within(torch.cat([starts[:1], starts]), cells.sides)
