"""Stability of a dictionary: do two fits that differ by chance alone find the same atoms?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from ._matching import Matching, match

_NULL_PAIRS = 2**23
"""Cosines spent on the null of a pair, which hardly varies between draws where atoms are many."""


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="3 + null_draws assignments (k, k) a pair, 4 from 2900 atoms on",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="two dictionaries of random unit atoms, as many as are alive",
    ceiling="1, a permuted copy",
)
def dictionary_stability(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, draws: Draws, null_draws: int = 5
) -> Measurement:
    """Match the atoms of each pair of dictionaries one to one and average their cosines.

    Fits that reach the same atoms because nothing was left to chance score 1 as well: read the value beside R2, and
    beside what differed between the fits, which the convention tells.

    Parameters
    ----------
    dictionaries : two or more fits of one method
    data : ConceptData
        Atoms that are never active on `train` are dead; R2 is measured on `test`.
    draws : Draws
    null_draws : most pairs of random dictionaries averaged into the null of a pair; fewer, at least one, of more than
        1300 atoms, where one draw tells the next to three digits

    Returns
    -------
    Measurement
        One value a pair; `extra` holds `centred` (the mean atom subtracted), `null_matched` (random atoms with the
        mean and covariance of the found ones), `r2_first`, `r2_second`, `dead_first`, `dead_second`, and `gap`, what
        the value may lack of the best matching's: 0 up to 1024 atoms, else certified by the dual.

    Raises
    ------
    LimenError
        If there are fewer than two dictionaries, they differ in d, or one has no live atom.

    References
    ----------
    arXiv:2502.12892, eq. 2.
    """
    _check(dictionaries, null_draws)
    signed = any(one.signed for one in dictionaries)
    alive = [_alive(one, data.train) for one in dictionaries]
    fit = [_r2(one, data.test) for one in dictionaries]
    rows = []
    for first, second in combinations(range(len(dictionaries)), 2):
        one, other, stream = alive[first], alive[second], draws.spawn(first, second)
        found = _best(one, other, signed)
        rows.append(
            {
                "value": _mean(found, one, other),
                "null": _chance(one, other, stream, null_draws, signed),
                "null_matched": _matched(_alike(one, stream), _alike(other, stream), signed),
                "centred": _matched(one - one.mean(dim=0), other - other.mean(dim=0), signed),
                "r2_first": fit[first],
                "r2_second": fit[second],
                "dead_first": dictionaries[first].k - len(one),
                "dead_second": dictionaries[second].k - len(other),
                "gap": found.gap,
            }
        )
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    return Measurement(
        values=columns.pop("value"),
        null=columns.pop("null"),
        ceiling=np.ones(len(rows)),
        samples=tuple(f"fits {first + 1} and {second + 1}" for first, second in combinations(range(len(alive)), 2)),
        convention=_convention(dictionaries, signed),
        extra=columns,
    )


def _check(dictionaries: Sequence[Dictionary], null_draws: int) -> None:
    if null_draws < 1:
        raise LimenError(
            f"metric 'dictionary_stability', option 'null_draws': given {null_draws}, allowed is 1 or more."
        )
    if len(dictionaries) < 2:
        raise LimenError(
            f"metric 'dictionary_stability': given {len(dictionaries)} dictionary, allowed are two or more fits."
        )
    if len({one.d for one in dictionaries}) > 1:
        raise LimenError(
            "metric 'dictionary_stability': given dictionaries of "
            f"{', '.join(str(one.d) for one in dictionaries)} features, allowed is one layer for all."
        )


def _alive(one: Dictionary, activations: Tensor) -> Tensor:
    active = one.encode(activations).abs().amax(dim=0) > 0
    atoms = one.atoms[active & ~one.dead()].double()
    if not len(atoms):
        raise LimenError(
            f"metric 'dictionary_stability': dictionary '{one.name}' has no live atom; allowed is one or more."
        )
    return atoms


def _best(first: Tensor, second: Tensor, signed: bool) -> Matching:
    return match(_unit(first.double()), _unit(second.double()), signed)


def _mean(found: Matching, first: Tensor, second: Tensor) -> float:
    """Average the cosines of a matching; a live atom without a partner counts as 0."""
    return float(found.gains.sum() / max(len(first), len(second)))


def _matched(first: Tensor, second: Tensor, signed: bool) -> float:
    return _mean(_best(first, second, signed), first, second)


def _chance(one: Tensor, other: Tensor, draws: Draws, most: int, signed: bool) -> float:
    """Average the matched cosine of random atoms, as many as there are found ones."""
    count = max(1, min(most, _NULL_PAIRS // (len(one) * len(other))))
    return float(
        np.mean([_matched(draws.normal(*one.shape), draws.normal(*other.shape), signed) for _ in range(count)])
    )


def _unit(atoms: Tensor) -> Tensor:
    norms = atoms.norm(dim=1, keepdim=True)
    # The mean atom subtracted from a single atom leaves nothing: direction undefined, cosine 0.
    return torch.where(norms > 1e-12, atoms / norms.clamp_min(1e-12), 0.0)


def _alike(atoms: Tensor, draws: Draws) -> Tensor:
    """Draw Gaussian atoms with the mean and the covariance of the given ones."""
    count, mean = len(atoms), atoms.mean(dim=0)
    factor = (atoms - mean) / count**0.5
    if count > factor.shape[1]:
        # As many directions as features say the same of the covariance.
        factor = torch.linalg.qr(factor, mode="r").R
    return mean + draws.normal(count, len(factor)).double() @ factor


def _r2(one: Dictionary, activations: Tensor) -> float:
    residual = activations.double() - one.decode(one.encode(activations)).double()
    spread = activations.double() - activations.double().mean(dim=0)
    return float(1 - residual.square().sum() / spread.square().sum())


def _convention(dictionaries: Sequence[Dictionary], signed: bool) -> str:
    data = {one.provenance.get("data") for one in dictionaries}
    seeds = {one.provenance.get("draws") for one in dictionaries}
    differs = [name for name, facts in (("seeds", seeds), ("resampled data", data)) if len(facts) > 1]
    across = f"stability across {' and '.join(differs)}" if differs else "the fits differ in nothing on record"
    return (
        f"{across}; best one-to-one matching on {'|cosine|' if signed else 'cosine'} of live atoms, not centred, an "
        "unmatched live atom counts as 0; R2 on held-out rows beside it"
    )
