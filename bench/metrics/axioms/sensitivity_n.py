"""Sensitivity-n: is the credit of any n cells in proportion to the drop of the score without them?"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import pearson
from .._removal import removal


@metric(
    version=1,
    citation="arXiv:1711.06104",
    cost="sizes * (subsets + 1) forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
)
def sensitivity_n(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    sizes: PositiveInt = 8,
    largest: Annotated[float, Field(gt=0, lt=1)] = 0.8,
    subsets: PositiveInt = 50,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate credit and drop over random subsets of n cells, and average over n from 1 to most of the cells.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws; the subsets are the same for all images
    side : cells along each axis; None = single places
    sizes : numbers n, evenly spaced on a logarithmic scale; fewer where they coincide
    largest : largest n as a share of the cells
    subsets : subsets of each size
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1], with the curve over n. At an n where the map or the score is constant the correlation
        counts as 0; `extra['constant']` is the share of such n.

    References
    ----------
    Ancona et al. 2018, arXiv:1711.06104.
    """
    cells = space.cells(space.coordinates(engine, images), side)
    numbers = _sizes(cells, sizes, largest)
    rows, flags = [], []
    for number in numbers:
        chosen = draws.subsets(subsets, cells, number).type_as(maps)
        found = removal(engine, images, targets, maps, chosen, space=space, side=side, score=score)
        value, constant = pearson(*found)
        rows.append(value)
        flags.append(constant.type_as(value))
    heights = torch.stack(rows, dim=1)
    return Measurement(
        values=heights.mean(dim=1),
        curve_x=maps.new_tensor(numbers),
        curve_y=heights,
        convention=(
            f"{score}; mean over {len(numbers)} sizes n from 1 to {numbers[-1]} of {cells} "
            f"{'places' if side is None else 'cells'} of the Pearson correlation over {subsets} subsets of exactly n "
            f"replaced by the baseline '{space.name}', all channels at once; credit and drop per place; 0 at an n where the "
            "map or the drop is constant"
        ),
        extra={"constant": torch.stack(flags, dim=1).mean(dim=1)},
    )


def _sizes(cells: int, count: int, largest: float) -> list[int]:
    """List numbers of cells from 1 to a share of them, evenly spaced on a logarithmic scale."""
    most = max(1, int(largest * cells))
    return sorted({round(float(number)) for number in np.geomspace(1, most, count)})
