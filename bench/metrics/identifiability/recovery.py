"""Recovery of a planted dictionary: are the atoms that were found the atoms that the data were made of?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData, Truth
from ...spaces.dictionary import Dictionary


@dataclass(frozen=True)
class _Reading:
    """What one set of atoms says of each true atom; arrays (k,)."""

    cosine: np.ndarray
    f1: np.ndarray
    f1_active: np.ndarray
    atom: np.ndarray


@metric(
    version=1,
    citation="arXiv:2602.14687",
    cost="1 + null_draws assignments (k, k) and two encodes a dictionary, and one pursuit",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="as many random unit atoms as are alive, read by their projections",
    ceiling="1, the true dictionary; the share of true atoms that can have a partner where there are fewer atoms",
)
def recovery(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, draws: Draws, null_draws: int = 5
) -> Measurement:
    """Match found atoms one to one with the true ones and take each true atom's cosine and the F1 of its support.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a true atom's value is their average
    data : ConceptData with `truth`
        Atoms that are never active on `train` are dead and match nothing.
    draws : Draws
    null_draws : random sets of atoms a dictionary

    Returns
    -------
    Measurement
        One value a true atom: the cosine with its partner, |cosine| where codes may be negative, 0 without a partner.
        `extra` holds `centred`, the cosine of the best partner when each side's mean atom is subtracted, with
        `centred_null`: what atoms have in common is lost where activations are centred. Of the partners above it holds
        `f1` (present where the code is above the threshold that is best on
        `train`, scored on `test`), `f1_null`, `f1_ceiling` (the better, on `train`, of two readers that were told the
        truth: a matching pursuit with the true atoms, and a linear map to the true codes), `f1_active`
        (present where the code is not 0, no threshold), `presence` (share of test rows that hold the atom) and `atom`
        (-1: none) in the first dictionary. F1 is NaN for an atom that a split never holds.

    Raises
    ------
    LimenError
        If there is no dictionary or no truth, or they differ in d.

    References
    ----------
    arXiv:2602.14687
    """
    truth = _check(dictionaries, data, null_draws)
    readings, null, centred, centred_null = [], [], [], []
    mean = data.train.mean(dim=0)
    for index, one in enumerate(dictionaries):
        train, test = one.encode(data.train), one.encode(data.test)
        alive = (train.abs().amax(dim=0) > 0) & ~one.dead()
        readings.append(_read(one.atoms * alive[:, None], train, test, truth, one.signed))
        centred.append(_centred(one.atoms[alive], truth.atoms, one.signed))
        for draw in range(null_draws):
            atoms = draws.spawn(index, draw).normal(int(alive.sum()), one.d)
            atoms = atoms / atoms.norm(dim=1, keepdim=True)
            projected = (data.train - mean) @ atoms.T, (data.test - mean) @ atoms.T
            centred_null.append(_centred(atoms, truth.atoms, one.signed))
            null.append(_read(atoms, *projected, truth, one.signed))
    fewer = np.mean([min(1.0, one.k / len(truth.atoms)) for one in dictionaries])
    return Measurement(
        values=_average(readings, "cosine"),
        null=_average(null, "cosine"),
        ceiling=np.full(len(truth.atoms), fewer),
        samples=tuple(f"true atom {index}" for index in range(len(truth.atoms))),
        convention=_convention(dictionaries),
        extra={
            "centred": np.mean(centred, axis=0),
            "centred_null": np.mean(centred_null, axis=0),
            "f1": _average(readings, "f1"),
            "f1_null": _average(null, "f1"),
            "f1_ceiling": fewer * _oracle(data, truth),
            "f1_active": _average(readings, "f1_active"),
            "presence": host(truth.test_support.double().mean(dim=0)),
            "atom": readings[0].atom,
        },
    )


def _check(dictionaries: Sequence[Dictionary], data: ConceptData, null_draws: int) -> Truth:
    if null_draws < 1:
        raise LimenError(f"metric 'recovery', option 'null_draws': given {null_draws}, allowed is 1 or more.")
    if not dictionaries or data.truth is None:
        raise LimenError(
            f"metric 'recovery': given {len(dictionaries)} dictionaries and {'no ' if data.truth is None else 'a '}truth, "
            "allowed are one or more, and planted data, such as `bench.zoo.planted.sparse().concept_data()`."
        )
    for one in dictionaries:
        if one.d != data.train.shape[1]:
            raise LimenError(
                f"metric 'recovery': dictionary '{one.name}' has {one.d} features, allowed is {data.train.shape[1]}."
            )
    return data.truth


def _read(atoms: Tensor, train: Tensor, test: Tensor, truth: Truth, signed: bool) -> _Reading:
    """Match atoms (k, d), unit or zero, with the true ones and read the support from their codes (n, k), (m, k)."""
    cosines = host(truth.atoms.double() @ atoms.double().T)
    gain = np.abs(cosines) if signed else cosines
    rows, partners = linear_sum_assignment(gain, maximize=True)
    # A zero atom is no partner.
    matched = gain[rows, partners] != 0
    rows, partners = rows[matched], partners[matched]
    empty = np.zeros(len(truth.atoms))
    reading = _Reading(empty.copy(), empty.copy(), empty.copy(), np.full(len(truth.atoms), -1))
    reading.cosine[rows], reading.atom[rows] = gain[rows, partners], partners
    side = torch.from_numpy(np.where(cosines[rows, partners] < 0, -1.0, 1.0)).type_as(train)
    seen, told = truth.train_support[:, rows], truth.test_support[:, rows]
    said = test[:, partners] * side
    threshold = _best_threshold(train[:, partners] * side, seen)
    reading.f1[rows] = _f1(said > threshold, told)
    reading.f1_active[rows] = _f1(test[:, partners] != 0, told)
    reading.f1[_absent(truth)] = reading.f1_active[_absent(truth)] = np.nan
    return reading


def _centred(atoms: Tensor, true: Tensor, signed: bool) -> np.ndarray:
    """Match atoms (k', d) with the true ones (k, d), each less its mean atom; the cosine of each true atom, (k,)."""
    found, wanted = (
        functional.normalize(side.double() - side.double().mean(dim=0), dim=1, eps=1e-9) for side in (atoms, true)
    )
    cosines = host(wanted @ found.T)
    gain = np.abs(cosines) if signed else cosines
    rows, partners = linear_sum_assignment(gain, maximize=True)
    reached = np.zeros(len(true))
    reached[rows] = gain[rows, partners]
    return reached


def _best_threshold(codes: Tensor, present: Tensor) -> Tensor:
    """Return, for each column, the threshold with the best F1 of `codes > threshold`; (k,)."""
    ordered, order = codes.sort(dim=0, descending=True)
    hits = present.gather(0, order).double().cumsum(dim=0)
    count = torch.ones_like(hits).cumsum(dim=0)
    f1 = 2 * hits / (count + present.sum(dim=0))
    below = torch.cat([ordered[1:], torch.full_like(ordered[:1], -torch.inf)])
    # Equal codes cannot be told apart: a cut is only between different ones.
    best = f1.masked_fill(ordered == below, -1).argmax(dim=0, keepdim=True)
    above, beneath = ordered.gather(0, best), below.gather(0, best)
    middle = torch.where(beneath.isinf(), beneath, (above + beneath) / 2)
    return torch.where(middle < above, middle, beneath)[0]


def _f1(says: Tensor, present: Tensor) -> np.ndarray:
    both = (says & present).double().sum(dim=0)
    total = says.double().sum(dim=0) + present.double().sum(dim=0)
    return host(2 * both / total.clamp_min(1))


def _oracle(data: ConceptData, truth: Truth) -> np.ndarray:
    """Return the F1 of a reader that was told the truth, (k,)."""
    offset = (data.train - truth.train_codes @ truth.atoms).mean(dim=0)
    rounds = 2 * int(truth.train_support.sum(dim=1).max())
    centred = (data.train - data.train.mean(dim=0)).double()
    linear = torch.linalg.lstsq(centred, (truth.train_codes - truth.train_codes.mean(dim=0)).double()).solution.float()
    readers = (
        (_pursuit(data.train - offset, truth.atoms, rounds), _pursuit(data.test - offset, truth.atoms, rounds)),
        (data.train @ linear, data.test @ linear),
    )
    best, score = np.zeros(len(truth.atoms)), np.full(len(truth.atoms), -1.0)
    for train, test in readers:
        threshold = _best_threshold(train, truth.train_support)
        known = _f1(train > threshold, truth.train_support)
        best = np.where(known > score, _f1(test > threshold, truth.test_support), best)
        score = np.maximum(known, score)
    best[_absent(truth)] = np.nan
    return best


def _pursuit(rows: Tensor, atoms: Tensor, rounds: int) -> Tensor:
    """Code rows by non-negative matching pursuit: each round serves the atom that explains most of what is left."""
    products, gram = rows @ atoms.T, atoms @ atoms.T
    codes = torch.zeros_like(products)
    for _ in range(rounds):
        value, atom = products.max(dim=1, keepdim=True)
        value = value.clamp_min(0)
        codes.scatter_add_(1, atom, value)
        products = products - value * gram[atom[:, 0]]
    return codes


def _absent(truth: Truth) -> np.ndarray:
    """Return which atoms a split never holds, bool (k,): F1 says nothing of them."""
    return host(~(truth.train_support.any(dim=0) & truth.test_support.any(dim=0)))


def _average(readings: Sequence[_Reading], column: str) -> np.ndarray:
    return np.mean([getattr(reading, column) for reading in readings], axis=0)


def _convention(dictionaries: Sequence[Dictionary]) -> str:
    signed = [one.signed for one in dictionaries]
    rule = "|cosine|" if all(signed) else "cosine" if not any(signed) else "cosine, or |cosine| of a signed dictionary"
    return (
        f"Hungarian matching on {rule} of true and live found atoms, not centred, a true atom without a partner counts "
        "as 0; F1 of the partner's support on held-out rows, its threshold chosen on train"
    )
