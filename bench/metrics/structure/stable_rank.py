"""Stable rank: how many times the atoms hold their own strongest direction."""

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
    citation="arXiv:2502.12892",
    cost="singular values of (k, d)",
    of="dictionary",
    # Neither many nor few directions are better: data have the rank they have.
    direction="none",
    bounds=(1.0, float("inf")),
    null="random dictionaries of the same sizes",
    ceiling="min(k, d), orthonormal atoms",
)
def stable_rank(dictionaries: Sequence[Dictionary], data: ConceptData) -> Measurement:
    """Measure `|D|_F^2 / |D|_2^2` of the unit atoms.

    A small value with many atoms says that they share a direction: near-duplicates around a common mean. `extra` holds
    the value with the mean atom subtracted.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData

    Returns
    -------
    Measurement
        One value a fit, NaN where every atom is zero; `extra` holds `centred`.

    Raises
    ------
    LimenError
        If there is no dictionary.

    References
    ----------
    arXiv:2502.12892, appendix C.
    """
    check("stable_rank", dictionaries, data)
    plain, centred = [], []
    for one in dictionaries:
        atoms = unit(one.atoms)
        live = atoms[~one.dead()]
        plain.append(_stable_rank(torch.linalg.svdvals(atoms)))
        centred.append(_stable_rank(torch.linalg.svdvals(live - live.mean(dim=0) if len(live) else atoms)))
    return Measurement(
        values=host(torch.stack(plain)),
        ceiling=[min(one.k, one.d) for one in dictionaries],
        samples=fit_names(dictionaries),
        convention="|D|_F^2 / |D|_2^2 of the unit atoms, not centred; zero atoms have no part",
        extra={"centred": host(torch.stack(centred))},
    )


def _stable_rank(lengths: torch.Tensor) -> torch.Tensor:
    return lengths.square().sum() / lengths.max().square()
