"""Coherence: how alike the two most alike atoms are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine.host import host
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check, fit_names, unit

_ROWS_AT_ONCE = 1024


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="k^2 d multiplications",
    of="dictionary",
    direction="down",
    bounds=(0.0, 1.0),
    null="random dictionaries of the same sizes",
    ceiling="0 up to d atoms, then the Welch bound sqrt((k - d) / (d (k - 1))), which no dictionary is below",
)
def coherence(dictionaries: Sequence[Dictionary], data: ConceptData) -> Measurement:
    """Measure the largest |cosine| of two atoms.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData

    Returns
    -------
    Measurement
        One value a fit, NaN below two live atoms; `extra` holds `nearest`, the mean over atoms of the |cosine| with the
        one most alike, and `centred`, the coherence with the mean atom subtracted.

    Raises
    ------
    LimenError
        If there is no dictionary.

    References
    ----------
    arXiv:2502.12892, appendix C; Welch 1974.
    """
    check("coherence", dictionaries, data)
    live = [unit(one.atoms)[~one.dead()] for one in dictionaries]
    nearest = [_nearest(atoms) for atoms in live]
    centred = [_nearest(unit(atoms - atoms.mean(dim=0))) for atoms in live]
    return Measurement(
        values=host(torch.stack([one.max() for one in nearest])),
        ceiling=[_welch(*atoms.shape) for atoms in live],
        samples=fit_names(dictionaries),
        convention="largest |cosine| of two live atoms, not centred",
        extra={
            "nearest": host(torch.stack([one.mean() for one in nearest])),
            "centred": host(torch.stack([one.max() for one in centred])),
        },
    )


def _nearest(atoms: Tensor) -> Tensor:
    """Return each unit atom's largest |cosine| with another, (k,); NaN for a single atom."""
    if len(atoms) < 2:
        return atoms.new_full((1,), torch.nan)
    best, start = [], 0
    for part in atoms.split(_ROWS_AT_ONCE):
        cosines = (part @ atoms.T).abs()
        cosines[torch.arange(len(part)), torch.arange(start, start + len(part))] = 0
        best.append(cosines.amax(dim=1))
        start += len(part)
    return torch.cat(best).clamp(max=1)


def _welch(k: int, d: int) -> float:
    return float(((k - d) / (d * (k - 1))) ** 0.5) if k > d > 0 and k > 1 else 0.0
