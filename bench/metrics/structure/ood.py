"""Out of distribution: how far atoms point from anything the layer ever held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import At, atom_names, check, joined, random_atoms, unit

_ROWS_AT_ONCE = 4096


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="k n d multiplications a dictionary, as many for each null draw",
    of="dictionary",
    direction="down",
    bounds=(0.0, 2.0),
    null="as many random unit atoms",
    ceiling="0, atoms that are activations",
    presets={"ra-sae": {"centre": "none"}},
)
def ood(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    at: At = "images",
    centre: Literal["mean", "none"] = "mean",
    null_draws: int = 3,
) -> Measurement:
    """Measure `1 - max_i <D_j, a_i / |a_i|>` of each atom over the training rows.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    draws : Draws
    at : 'images', activations averaged over positions; 'positions', at each
    centre : 'mean' subtracts what the dictionary subtracts before it codes (nothing for neurons and NMF), so that atoms
        and activations are directions from the same origin; 'none' takes activations as they are, as published, where
        their common mean lifts or lowers every cosine
    null_draws : random sets of atoms a dictionary

    Returns
    -------
    Measurement
        One value an atom of a fit, by |cosine| where the sign of an atom is a convention; NaN for a zero atom.

    Raises
    ------
    LimenError
        If there is no dictionary, or 'positions' are asked for and the data have none.
    """
    check("ood", dictionaries, data, null_draws=null_draws)
    rows = data.train
    if at == "positions":
        data.require("ood", "train_maps")
        assert data.train_maps is not None
        rows = data.train_maps.reshape(-1, data.train.shape[1])
    values, null = [], []
    for index, one in enumerate(dictionaries):
        seen = rows - one.mean if centre == "mean" else rows
        values.append(torch.where(one.dead(), torch.nan, _distance(unit(one.atoms), seen, one.signed)))
        blind = [random_atoms(one, draws.spawn(index, draw)) for draw in range(null_draws)]
        null.append(torch.stack([_distance(atoms, seen, one.signed) for atoms in blind]).mean(dim=0))
    signed = any(one.signed for one in dictionaries)
    origin = "the dictionary's mean" if centre == "mean" else "zero"
    return Measurement(
        values=joined(values),
        null=joined(null),
        ceiling=np.zeros(sum(one.k for one in dictionaries)),
        samples=atom_names(dictionaries),
        convention=f"1 - largest {'|cosine|' if signed else 'cosine'} with a training activation, from {origin}, at {at}",
    )


def _distance(atoms: Tensor, rows: Tensor, signed: bool) -> Tensor:
    """Return 1 - the largest cosine of each unit atom (k, d) with a row (n, d), (k,)."""
    best = torch.full_like(atoms[:, 0], -1)
    for part in rows.split(_ROWS_AT_ONCE):
        cosines = atoms @ unit(part).T
        best = torch.maximum(best, (cosines.abs() if signed else cosines).amax(dim=1))
    return (1 - best).clamp(min=0)
