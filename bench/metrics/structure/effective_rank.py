"""Effective rank: how many directions the atoms spread over."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...engine.host import host
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check, fit_names, unit


@metric(
    version=1,
    citation="Roy, Vetterli 2007, EUSIPCO",
    cost="singular values of (k, d)",
    of="dictionary",
    # Neither many nor few directions are better: data have the rank they have.
    direction="none",
    bounds=(1.0, float("inf")),
    null="random dictionaries of the same sizes",
    ceiling="min(k, d), orthonormal atoms",
)
def effective_rank(dictionaries: Sequence[Dictionary], data: ConceptData) -> Measurement:
    """Measure `exp(-sum p log p)`, p the singular values of the unit atoms over their sum.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData

    Returns
    -------
    Measurement
        One value a fit; NaN where every atom is zero.

    Raises
    ------
    LimenError
        If there is no dictionary.

    References
    ----------
    arXiv:2502.12892, appendix C.
    """
    check("effective_rank", dictionaries, data)
    values = []
    for one in dictionaries:
        lengths = torch.linalg.svdvals(unit(one.atoms))
        values.append(torch.special.entr(lengths / lengths.sum()).sum().exp())
    return Measurement(
        values=host(torch.stack(values)),
        ceiling=[min(one.k, one.d) for one in dictionaries],
        samples=fit_names(dictionaries),
        convention="exp of the entropy of the singular values of the unit atoms, not centred; zero atoms have no part",
    )
