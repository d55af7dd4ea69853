"""Independent match: does an autoencoder of one network alone find the atoms that the shared code has for it?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check, random_atoms, unit


@metric(
    version=1,
    citation="arXiv:2502.03714",
    cost="1 + null_draws assignments (k, k) an independent fit",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="random atoms, as many as the independent fit has, matched in the same way",
    ceiling="1, the same atom",
)
def independent_match(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    above: float = 0.5,
    null_draws: int = 5,
) -> Measurement:
    """Match the first dictionary's atoms one to one with those of each other dictionary, and return their cosines.

    Parameters
    ----------
    dictionaries : a network's view of a universal dictionary, then one or more dictionaries of that network alone
    data : ConceptData of that network
    draws : Draws
    above : cosine from which an atom counts as found
    null_draws : sets of random atoms an independent fit

    Returns
    -------
    Measurement
        One value an atom of the view that is not dead, the mean over the independent fits; 0 where it has no partner.
        `extra` holds `found`, the share of the fits in which the cosine is larger than `above`, and `found_null`.

    Raises
    ------
    LimenError
        If there are fewer than two dictionaries, or all atoms of one are dead.

    References
    ----------
    arXiv:2502.03714
    """
    check("independent_match", dictionaries, data, null_draws=null_draws)
    if len(dictionaries) < 2:
        raise LimenError(
            "metric 'independent_match': given 1 dictionary, allowed are a network's view and one or more fits of it alone."
        )
    alive = [one.atoms[~one.dead()] for one in dictionaries]
    if not all(len(atoms) for atoms in alive):
        raise LimenError(
            "metric 'independent_match': given a dictionary whose atoms are all dead, allowed are live ones."
        )
    signed = any(one.signed for one in dictionaries)
    kept = host((~dictionaries[0].dead()).nonzero()[:, 0])
    found, blind = [], []
    for fit, (one, atoms) in enumerate(zip(dictionaries[1:], alive[1:], strict=True)):
        found.append(_matched(alive[0], atoms, signed))
        for draw in range(null_draws):
            chance = random_atoms(one, draws.spawn(fit, draw))[: len(atoms)].type_as(atoms)
            blind.append(_matched(alive[0], chance, signed))
    return Measurement(
        values=np.mean(found, axis=0),
        null=np.mean(blind, axis=0),
        ceiling=np.ones(len(kept)),
        samples=tuple(f"atom {atom + 1}" for atom in kept),
        convention=(
            f"{'|cosine|' if signed else 'cosine'} of atoms matched one to one (Hungarian) with {len(found)} independent "
            f"fits; found above {above:g}"
        ),
        extra={
            "found": np.mean(np.array(found) > above, axis=0),
            "found_null": np.mean(np.array(blind) > above, axis=0),
        },
    )


def _matched(view: Tensor, other: Tensor, signed: bool) -> np.ndarray:
    cosines = host(unit(view) @ unit(other).T)
    gain = np.abs(cosines) if signed else cosines
    found = np.zeros(len(view))
    rows, columns = linear_sum_assignment(gain, maximize=True)
    found[rows] = gain[rows, columns]
    return found
