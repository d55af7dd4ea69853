"""Stability of a dictionary: do two fits that differ by chance alone find the same atoms?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="3 + null_draws assignments (k, k) a pair",
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
    null_draws : pairs of random dictionaries averaged into the null of a pair

    Returns
    -------
    Measurement
        One value a pair; `extra` holds `centred` (the mean atom subtracted), `null_matched` (random atoms with the
        mean and covariance of the found ones), `r2_first`, `r2_second`, `dead_first`, `dead_second`.

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
        rows.append(
            {
                "value": _matched(one, other, signed),
                "null": _chance(one, other, stream, null_draws, signed),
                "null_matched": _matched(_alike(one, stream), _alike(other, stream), signed),
                "centred": _matched(one - one.mean(dim=0), other - other.mean(dim=0), signed),
                "r2_first": fit[first],
                "r2_second": fit[second],
                "dead_first": dictionaries[first].k - len(one),
                "dead_second": dictionaries[second].k - len(other),
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


def _matched(first: Tensor, second: Tensor, signed: bool) -> float:
    """Average the cosines of the best one-to-one matching; a live atom without a partner counts as 0."""
    cosines = host(_unit(first.double()) @ _unit(second.double()).T)
    gain = np.abs(cosines) if signed else cosines
    return float(gain[linear_sum_assignment(gain, maximize=True)].sum() / max(gain.shape))


def _chance(one: Tensor, other: Tensor, draws: Draws, count: int, signed: bool) -> float:
    """Average the matched cosine of random atoms, as many as there are found ones."""
    return float(
        np.mean([_matched(draws.normal(*one.shape), draws.normal(*other.shape), signed) for _ in range(count)])
    )


def _unit(atoms: Tensor) -> Tensor:
    norms = atoms.norm(dim=1, keepdim=True)
    # The mean atom subtracted from a single atom leaves nothing: direction undefined, cosine 0.
    return torch.where(norms > 1e-12, atoms / norms.clamp_min(1e-12), 0.0)


def _alike(atoms: Tensor, draws: Draws) -> Tensor:
    """Draw Gaussian atoms with the mean and the covariance of the given ones."""
    mean = atoms.mean(dim=0)
    weights = draws.normal(len(atoms), len(atoms)).double() / len(atoms) ** 0.5
    return mean + weights @ (atoms - mean)


def _r2(one: Dictionary, activations: Tensor) -> float:
    residual = activations.double() - one.decode(one.encode(activations)).double()
    spread = activations.double() - activations.double().mean(dim=0)
    return float(1 - residual.square().sum() / spread.square().sum())


def _convention(dictionaries: Sequence[Dictionary], signed: bool) -> str:
    data = {one.provenance.get("data") for one in dictionaries}
    seeds = {one.provenance.get("draws") for one in dictionaries}
    differs = [name for name, facts in (("data", data), ("seed", seeds)) if len(facts) > 1]
    return (
        f"Hungarian matching on {'|cosine|' if signed else 'cosine'} of live atoms, not centred, an unmatched live atom "
        f"counts as 0; the fits differ in {' and '.join(differs) or 'nothing on record'}; R2 on held-out rows beside it"
    )
