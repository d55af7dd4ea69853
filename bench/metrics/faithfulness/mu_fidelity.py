"""mu-Fidelity: does the credit of a set of cells rank like the drop of the score without them?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import spearman
from .._removal import removal


@metric(
    version=2,
    citation="arXiv:2005.00631; arXiv:2111.04138",
    cost="subsets + 1 forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
    presets={"xplique": {"side": 9, "fraction": 0.2, "subsets": 200, "sampling": "bernoulli", "score": "logit"}},
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
    sampling: Literal["fixed", "bernoulli"] = "fixed",
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
    fraction : share of the cells in each subset
    subsets : number of subsets
    sampling : 'fixed' takes exactly that share, and compares credit and drop per place, so that neither the size of a
        subset nor cells of unequal size (9 x 9 of 64 pixels) reward a map for its level; 'bernoulli' draws each cell on
        its own and compares sums (Xplique's): a positive map on a positive network then scores about .7 whatever it says
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the subsets ranks nothing: its value is 0 and
        `extra['constant']` is 1.

    References
    ----------
    Bhatt, Weller, Moura 2020, arXiv:2005.00631; Fel et al. 2021, arXiv:2111.04138.
    """
    cells = space.cells(space.coordinates(engine, images), side)
    size = min(max(1, round(fraction * cells)), cells)
    fixed = sampling == "fixed"
    chosen = draws.subsets(subsets, cells, size) if fixed else draws.bernoulli(fraction, subsets, cells)
    found = removal(
        engine, images, targets, maps, chosen.type_as(maps), space=space, side=side, score=score, per_place=fixed
    )
    values, constant = spearman(*found)
    told = f"exactly {size} of {cells} cells" if fixed else f"each of {cells} cells with probability {fraction:g}"
    return Measurement(
        values=values,
        convention=(
            f"{score}; Spearman with average ranks over {subsets} subsets of {told} replaced by the baseline "
            f"'{space.name}', all channels at once; credit and drop {'per place' if fixed else 'summed'}; 0 where the "
            "map or the drop is constant"
        ),
        extra={"constant": constant.type_as(values)},
    )
