"""Feature redundancy: how much of a code is still in the layer when part of the layer's units are taken away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import Read, atom_names, check, image_codes, joined, permuted


@metric(
    version=1,
    citation="arXiv:2407.06076",
    cost="one encode a dictionary; one product (masks, d, k), twice",
    of="dictionary",
    # Redundant features are neither better nor worse ones.
    direction="none",
    bounds=(0.0, float("inf")),
    null="each atom's codes in an order of its own: alignment by chance alone, spread over all units",
    ceiling="1, where every half of the units holds the code as all of them do",
)
def feature_redundancy(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    kept: float = 0.5,
    masks: int = 64,
    read: Read = "pooled",
    null_draws: int = 3,
) -> Measurement:
    """Measure `E_m CKA(A o m, z) / CKA(A, z)`, m masks over the layer's units, A its pooled activations.

    For one code linear CKA is `|A^T z|^2 / (|A^T A| |z|^2)`, all centred, so that all atoms and all masks need two
    products: of the masks with `(A^T Z)^2` and with `(A^T A)^2`.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    draws : Draws
    kept : share of the units that a mask keeps
    masks : number of masks
    read : 'pooled', the codes of activations averaged over positions; 'mean' or 'max' of the codes at positions
    null_draws : permutations a dictionary

    Returns
    -------
    Measurement
        One value an atom of a fit; NaN where its code is constant.

    Raises
    ------
    LimenError
        If there is no dictionary, `kept` is not between 0 and 1, or no unit varies.
    """
    check("feature_redundancy", dictionaries, data, masks=masks, null_draws=null_draws)
    units = data.test.shape[1]
    size = round(kept * units)
    if not 0 < size < units:
        raise LimenError(
            f"metric 'feature_redundancy', option 'kept': given {kept} of {units} units, allowed is a share that keeps "
            "one or more and takes one or more away."
        )
    rows = data.test.double() - data.test.double().mean(dim=0)
    chosen = draws.spawn("masks").subsets(masks, units, size).double()
    values, null = [], []
    for index, one in enumerate(dictionaries):
        codes = image_codes("feature_redundancy", one, data, read)
        values.append(_kept(rows, codes, chosen))
        shuffled = (permuted(codes, draws.spawn(index, draw)) for draw in range(null_draws))
        null.append(torch.stack([_kept(rows, blind, chosen) for blind in shuffled]).mean(dim=0))
    return Measurement(
        values=joined(values),
        null=joined(null),
        samples=atom_names(dictionaries),
        convention=(
            f"mean linear CKA of a code ({read}) with {size} of {units} units of the pooled layer over that with all, "
            f"{masks} masks, held-out images"
        ),
    )


def _kept(rows: Tensor, codes: Tensor, masks: Tensor) -> Tensor:
    """Return the mean ratio of CKA with and without masks (M, d) for centred rows (m, d) and codes (m, k): (k,)."""
    centred = codes - codes.mean(dim=0)
    aligned = (rows.T @ centred).square()
    together = (rows.T @ rows).square()
    strength = ((masks @ together) * masks).sum(dim=1).sqrt() / together.sum().sqrt()
    shares = (masks @ aligned) / aligned.sum(dim=0)
    # A mask that leaves only units without variance leaves nothing of the code.
    ratio = torch.where(strength[:, None] > 0, shares / strength[:, None], 0.0)
    varies = centred.square().sum(dim=0) > 1e-20 * codes.square().sum(dim=0)
    return torch.where(varies & (aligned.sum(dim=0) > 0), ratio.mean(dim=0), torch.nan)
