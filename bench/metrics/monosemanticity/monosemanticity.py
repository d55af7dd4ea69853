"""Monosemanticity: how alike the images are that an atom answers to, through the eyes of another network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import Read, atom_names, check, image_codes, joined, permuted, unit


@metric(
    version=1,
    citation="arXiv:2504.02821",
    cost="one encode a dictionary; 1 + null_draws products (k, m, e)",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="each atom's codes in an order of its own: as unequal, but of other images",
    ceiling="1, images that are all the same",
)
def monosemanticity(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    read: Read = "pooled",
    null_draws: int = 5,
) -> Measurement:
    """Average the likeness of all pairs of images, weighted by how strongly an atom answers to both.

    Codes are brought to a in [0, 1] by their least and largest value; with unit embeddings e the score
    `sum_{n<m} a_n a_m <e_n, e_m> / sum_{n<m} a_n a_m` is `(|sum a e|^2 - sum a^2) / ((sum a)^2 - sum a^2)`, without a
    loop over pairs. An audit finds that it does not tell trained from untrained networks: see `bench.sanity`.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `embeddings` of another network
    draws : Draws
    read : 'pooled', the codes of activations averaged over positions; 'mean' or 'max' of the codes at positions
    null_draws : permutations a dictionary

    Returns
    -------
    Measurement
        One value an atom of a fit; NaN where its code is the same on all images, or on all but one. `extra` holds
        `uniform`, the mean likeness of all pairs.

    Raises
    ------
    LimenError
        If there is no dictionary, or the data have no embeddings.

    References
    ----------
    Pach et al. 2025, arXiv:2504.02821; the audit: arXiv:2606.24716.
    """
    check("monosemanticity", dictionaries, data, null_draws=null_draws)
    data.require("monosemanticity", "embeddings")
    assert data.embeddings is not None
    seen = unit(data.embeddings)
    values, null = [], []
    for index, one in enumerate(dictionaries):
        weights = _scaled(image_codes("monosemanticity", one, data, read))
        values.append(_likeness(weights, seen))
        shuffled = (permuted(weights, draws.spawn(index, draw)) for draw in range(null_draws))
        null.append(torch.stack([_likeness(blind, seen) for blind in shuffled]).mean(dim=0))
    count = sum(one.k for one in dictionaries)
    uniform = float(_likeness(torch.ones_like(seen[:, :1]), seen))
    return Measurement(
        values=joined(values),
        null=joined(null),
        ceiling=np.ones(count),
        samples=atom_names(dictionaries),
        convention=f"mean cosine of embeddings over pairs of held-out images, weighted by min-max scaled codes ({read})",
        extra={"uniform": np.full(count, uniform)},
    )


def _scaled(codes: Tensor) -> Tensor:
    """Bring each atom's codes (m, k) to 0 .. 1; NaN where they are all the same."""
    low, high = codes.amin(dim=0), codes.amax(dim=0)
    return (codes - low) / torch.where(high > low, high - low, torch.nan)


def _likeness(weights: Tensor, seen: Tensor) -> Tensor:
    """Return the weighted mean cosine of pairs (k,) for weights (m, k) and unit embeddings (m, e)."""
    own = (weights.square() * seen.square().sum(dim=1, keepdim=True)).sum(dim=0)
    alike = (weights.T @ seen).square().sum(dim=1) - own
    pairs = weights.sum(dim=0).square() - weights.square().sum(dim=0)
    # With one image alone there is no pair; what is left of the difference is rounding.
    return torch.where(pairs > 1e-12 * weights.sum(dim=0).square(), alike / pairs, torch.nan)
