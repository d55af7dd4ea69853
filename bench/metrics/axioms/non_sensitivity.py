"""Non-sensitivity: do exactly those cells get no credit that the network does not react to?"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._replacement import reaction


@metric(
    version=1,
    citation="arXiv:2007.07584",
    cost="samples * (side^2 + 1) + 1 forwards at most, those of cells in part",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="random maps give credit everywhere: the share of cells the network does not react to",
)
def non_sensitivity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    samples: PositiveInt = 4,
    tolerance: NonNegativeFloat = 1e-5,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Measure the share of cells that have credit without effect, or effect without credit.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates and cells
    draws : Draws; the replacements are uniform in the range of each image and channel, keyed by the image's content
    side : cells along each axis; None = single places
    samples : replacements a cell; the network reacts to a cell if one of them changes the score
    tolerance : credit and effect count as 0 up to this share of the largest of the image
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [0, 1], lower is better. `extra['idle']` is the share of cells with credit and no effect,
        `extra['missed']` of those with effect and no credit, `extra['count']` the number of both.

    References
    ----------
    Nguyen, Rodriguez Martinez 2020, arXiv:2007.07584.
    """
    found = reaction(engine, images, targets, space=space, draws=draws, side=side, samples=samples, score=score)
    # Credit of both signs in a cell is credit, so sizes are added.
    credit = space.pool(maps.double().abs(), side)
    effect = found.square.sqrt()
    noticed = effect > (tolerance * effect.amax(dim=1, keepdim=True)).maximum(1e-6 * found.rounding)
    credited = credit > tolerance * credit.amax(dim=1, keepdim=True)
    idle, missed = (credited & ~noticed).double(), (noticed & ~credited).double()
    return Measurement(
        values=(idle + missed).mean(dim=1),
        convention=(
            f"{score}; share of {credit.shape[1]} {'places' if side is None else 'cells'} in which credit and effect "
            f"disagree about being 0; effect under {samples} uniform replacements in each image's own range, all channels "
            f"at once; 0 up to {tolerance:g} of the image's largest"
        ),
        extra={
            "idle": idle.mean(dim=1),
            "missed": missed.mean(dim=1),
            "count": (idle + missed).sum(dim=1),
        },
    )
