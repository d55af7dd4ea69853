"""Faithfulness correlation: is the credit of a set of units in proportion to the drop of the score without them?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces import Space
from .._correlation import pearson
from .._removal import removal
from ._curves import rebased


@metric(
    version=1,
    citation="arXiv:2005.00631",
    cost="subsets + 1 forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
    presets={"quantus": {"side": None, "size": 224, "subsets": 100, "baseline": "min", "score": "logit"}},
)
def faithfulness_correlation(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = None,
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    size: PositiveInt | None = None,
    subsets: PositiveInt = 100,
    baseline: str | None = None,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate the credit of random subsets of one size with the drop when they go to the baseline.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws; the subsets are the same for all images
    side : cells along each axis; None = single places
    fraction : share of the units in each subset
    size : number of units in each subset, in place of a share (Quantus' 224)
    subsets : number of subsets
    baseline : name of another baseline of the space; None keeps the space's own
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the subsets explains nothing: its value is 0 and
        `extra['constant']` is 1.

    Raises
    ------
    LimenError
        If a subset would not leave a unit, or the space has no such baseline.

    References
    ----------
    Bhatt, Weller, Moura 2020, arXiv:2005.00631.
    """
    space = rebased(space, baseline)
    cells = space.cells(space.coordinates(engine, images), side)
    size = max(1, round(fraction * cells)) if size is None else size
    if size >= cells:
        raise LimenError(
            f"metric 'faithfulness_correlation', option 'size': given {size} units of {cells}, allowed is 1 to {cells - 1}."
        )
    chosen = draws.subsets(subsets, cells, size).type_as(maps)
    found = removal(engine, images, targets, maps, chosen, space=space, side=side, score=score)
    values, constant = pearson(*found)
    return Measurement(
        values=values,
        convention=(
            f"{score}; Pearson over {subsets} subsets of exactly {size} of {cells} {'places' if side is None else 'cells'} "
            f"replaced by the baseline '{space.name}', all channels at once; credit and drop per place; 0 where the map or "
            "the drop is constant"
        ),
        extra={"constant": constant.type_as(values)},
    )
