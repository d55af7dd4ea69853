"""Feature complexity: how late in the network a code can be read by a linear map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import atom_names, check, joined, permuted
from ._ridge import fit_ridge


@metric(
    version=1,
    citation="arXiv:2407.06076",
    cost="one factorisation a layer for all atoms of all fits; one encode a dictionary",
    of="dictionary",
    # Complex features are not worse ones.
    direction="none",
    bounds=(0.0, 1.0),
    null="random directions of the same layer; codes that know nothing score 1",
    ceiling="1, a code that no layer holds linearly",
)
def feature_complexity(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, draws: Draws, noise: bool = False
) -> Measurement:
    """Measure `K(z) = 1 - (1/L) sum_l R2_l(z)`, R2_l how well layer l tells the code z on held-out images.

    The linear-Gaussian V-information of the paper is the variance of a standardised code that a linear probe explains.
    Probes are ridge regressions fitted on the training split, each with the penalty that generalised cross-validation
    chooses, and scored on the held-out one: in sample, p features explain p / (n - 1) of pure noise. A layer that
    predicts worse than the mean holds nothing, R2 = 0.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `layers`
    draws : Draws
    noise : measure also codes in an order of their own, which must score 1; doubles the work

    Returns
    -------
    Measurement
        One value an atom of a fit, NaN where its code is constant on a split; `extra` holds `r2 <layer>` for each layer,
        and `noise` if asked for.

    Raises
    ------
    LimenError
        If there is no dictionary, the data have no layers, or there are fewer than four training images.

    References
    ----------
    Fel et al. 2024, arXiv:2407.06076.
    """
    check("feature_complexity", dictionaries, data)
    data.require("feature_complexity", "layers")
    if len(data.train) < 4:
        raise LimenError(f"metric 'feature_complexity': given {len(data.train)} training images, allowed is 4 or more.")
    train = torch.cat([one.encode(data.train) for one in dictionaries], dim=1).double()
    test = torch.cat([one.encode(data.test) for one in dictionaries], dim=1).double()
    held = _held(data.layers, train, test)
    extra = {f"r2 {name}": joined([share]) for name, share in held.items()}
    if noise:
        blind = _held(data.layers, permuted(train, draws.spawn("train")), permuted(test, draws.spawn("test")))
        extra["noise"] = joined([_complexity(blind)])
    return Measurement(
        values=joined([_complexity(held)]),
        ceiling=np.ones(train.shape[1]),
        samples=atom_names(dictionaries),
        convention=(
            f"1 - mean held-out R2 (at least 0) of ridge probes on the pooled activations of {len(held)} layers "
            f"({', '.join(held)}), penalty by generalised cross-validation"
        ),
        extra=extra,
    )


def _held(layers: Mapping[str, tuple[Tensor, Tensor]], train: Tensor, test: Tensor) -> dict[str, Tensor]:
    """Return the share of each code's held-out variance that a linear map of each layer tells, (k,) each."""
    spread = (test - test.mean(dim=0)).square().sum(dim=0)
    varies = (spread > 0) & (train.amax(dim=0) > train.amin(dim=0))
    shares = {}
    for name, (seen, held_out) in layers.items():
        lost = (test - fit_ridge(seen, train).predict(held_out)).square().sum(dim=0)
        shares[name] = torch.where(varies, (1 - lost / spread).clamp(min=0), torch.nan)
    return shares


def _complexity(shares: Mapping[str, Tensor]) -> Tensor:
    return 1 - torch.stack(list(shares.values())).mean(dim=0)
