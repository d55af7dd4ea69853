"""Single deletion (IDSDS): do the cells rank by credit as by the drop of the score without each?"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._correlation import spearman
from .._removal import removal


@metric(
    version=1,
    citation="arXiv:2407.11910",
    cost="side^2 + 2 forwards at most, those of cells in part",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the same correlation for random maps: 0",
)
def single_deletion(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    side: PositiveInt = 4,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Correlate by rank the credit of each cell with the drop when it alone goes to the baseline.

    The published protocol is in-domain: its networks were trained further on images with deleted cells, and only then
    can networks be compared. Any other network is scored out of its domain; the convention says which it is, as far as
    the network's name tells.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline; the published baseline is 'zero'
    side : cells along each axis
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,) in [-1, 1]. A map or a score that is constant over the cells ranks nothing: its value is 0 and
        `extra['constant']` is 1.

    References
    ----------
    Hesse, Schaub-Meyer, Roth 2024, arXiv:2407.11910.
    """
    cells = space.cells(space.coordinates(engine, images), side)
    alone = maps.new_ones(cells).diag()
    values, constant = spearman(*removal(engine, images, targets, maps, alone, space=space, side=side, score=score))
    name = engine.network.name
    known = (
        "is trained on deletions" if "deletion" in name else "is not known to be trained on deletions: out of domain"
    )
    return Measurement(
        values=values,
        convention=(
            f"{score}; Spearman with average ranks over {cells} cells, each alone replaced by the baseline '{space.name}', "
            f"all channels at once; credit and drop per place; '{name}' {known}; 0 where the map or the drop is "
            "constant"
        ),
        extra={"constant": constant.type_as(values)},
    )
