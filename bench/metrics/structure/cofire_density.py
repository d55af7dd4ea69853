"""Co-firing density: which share of pairs of atoms ever speaks of one image together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, atom_names, check, joined, permuted, rows


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode a dictionary; 1 + null_draws products (k, n, k)",
    of="dictionary",
    # The paper prints "up" for the share of pairs that never fire together, and praises pairs that do.
    direction="none",
    bounds=(0.0, 1.0),
    null="each atom's codes in an order of its own: it speaks as often, but of other images",
    presets={"ra-sae": {"report": "connectivity"}},
)
def cofire_density(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    at: At = "images",
    report: Literal["density", "connectivity"] = "density",
    null_draws: int = 3,
) -> Measurement:
    """Measure the share of atoms with which each atom ever speaks on one row, itself included: `|Z^T Z|_0 / k^2`.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    draws : Draws
    at : 'images', on activations averaged over positions; 'positions', at each
    report : 'density'; 'connectivity' is 1 - density, the published quantity (with k^2 below the line, where the paper
        prints d^2)
    null_draws : permutations a dictionary

    Returns
    -------
    Measurement
        One value an atom of a fit, whose mean is the density; a dead atom speaks with none.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """
    check("cofire_density", dictionaries, data, null_draws=null_draws)
    wanted = rows("cofire_density", data, at).flatten(0, 1)
    values, null = [], []
    for index, one in enumerate(dictionaries):
        active = (one.encode(wanted) != 0).float()
        values.append(_shares(active, report))
        shuffled = (permuted(active, draws.spawn(index, draw)) for draw in range(null_draws))
        null.append(torch.stack([_shares(blind, report) for blind in shuffled]).mean(dim=0))
    what = "share of atoms that an atom ever speaks with, itself included"
    return Measurement(
        values=joined(values),
        null=joined(null),
        samples=atom_names(dictionaries),
        convention=f"{'1 - ' if report == 'connectivity' else ''}{what} (|Z^T Z|_0 / k^2), codes at {at}, held-out split",
    )


def _shares(active: Tensor, report: str) -> Tensor:
    shares = ((active.T @ active) > 0).double().mean(dim=1)
    return 1 - shares if report == "connectivity" else shares
