"""Monotonicity by correlation: do the cells rank by size of credit as by what the network loses without knowing them?"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import spearman
from .._removal import areas
from .._replacement import reaction


@metric(
    version=1,
    citation="arXiv:2007.07584",
    cost="samples * (side^2 + 1) + 1 forwards at most, those of cells in part",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
    presets={"quantus": {"side": None, "samples": 100, "within": (0.0, 1.0), "score": "probability"}},
)
def monotonicity_correlation(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    samples: PositiveInt = 100,
    within: tuple[float, float] | None = None,
    absolute: bool = True,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate by rank the credit of each cell with the mean square change of the score while it is replaced at random.

    The published expectation is divided by f(x)^2; a positive number common to all cells moves no rank, so it is left out
    and f(x) = 0 needs no exception.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates and cells
    draws : Draws; the replacements are uniform, keyed by each image's content
    side : cells along each axis; None = single places, so that the cost is `samples` times their number
    samples : replacements a cell
    within : smallest and largest replacement; None = those of each image and channel
    absolute : rank by the size of a cell's credit, since a square change has no sign; False ranks by signed credit
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the cells ranks nothing: its value is 0 and
        `extra['constant']` is 1.

    References
    ----------
    Nguyen, Rodriguez Martinez 2020, arXiv:2007.07584.
    """
    found = reaction(
        engine, images, targets, space=space, draws=draws, side=side, samples=samples, score=score, within=within
    )
    area = areas(maps, space, side)
    credit = space.pool(maps.double(), side) / area
    # Rounding moves a change d by e, and its square by 2 d e: the root is what it moves evenly.
    change = (found.square / area).sqrt()
    values, constant = spearman(credit.abs() if absolute else credit, change, found.rounding)
    limits = "each image's own range" if within is None else f"[{within[0]:g}, {within[1]:g}]"
    return Measurement(
        values=values,
        convention=(
            f"{score}; Spearman with average ranks over {credit.shape[1]} {'places' if side is None else 'cells'} of "
            f"{'absolute' if absolute else 'signed'} credit and mean square change under {samples} uniform replacements in "
            f"{limits}, all channels at once; both per place; 0 where the map or the change is constant"
        ),
        extra={"constant": constant.type_as(values)},
    )
