"""Taking concepts out of activations, most important first, until a stated share of their energy is gone."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...spaces.dictionary import Dictionary
from ._decision import Decision

Removal = Literal["null", "project"]
_WITHIN = 1e-9
"""Length outside the span of other atoms below which a unit atom lies in it."""


class Curves(NamedTuple):
    """What becomes of each image's decision, float64 (m, G), after shares (G,) of its energy are removed.

    Attributes
    ----------
    shares : (G,), from 0
    logit, probability : how far those of the target have fallen
    flipped : 1 where another class leads
    removed : the share that was in fact removed: less where the atoms hold no more
    """

    shares: Tensor
    logit: Tensor
    probability: Tensor
    flipped: Tensor
    removed: Tensor


def removal_curves(dictionary: Dictionary, parts: Decision, slopes: Tensor, shares: Tensor, removal: Removal) -> Curves:
    """Remove atoms by decreasing `sum_t u_ti <D_i, slope_t>`, the last one in part, and ask the head.

    Parameters
    ----------
    dictionary : Dictionary
    parts : Decision
    slopes : (m, T, d), what `parts.slopes()` gave
    shares : (G,), increasing from 0, of the energy `sum_t |a_t|^2`
    removal : 'null' subtracts `code * atom`; 'project' takes out the span of the removed atoms
    """
    codes = dictionary.encode(parts.maps)
    credit = (codes * (slopes @ dictionary.atoms.T)).sum(dim=1)
    falls, reached = [], []
    remove = _nulled if removal == "null" else _projected
    for image, maps in enumerate(parts.maps):
        order = credit[image].argsort(descending=True, stable=True)
        used = order[(codes[image].abs().amax(dim=0) > 0)[order] & ~dictionary.dead()[order]]
        removed = remove(maps, codes[image][:, used], dictionary.atoms[used], shares)
        energy = maps.double().square().sum().clamp_min(1e-300)
        reached.append(removed.square().sum(dim=(1, 2)) / energy)
        falls.append(_answers(parts, image, (maps.double() - removed).float()))
    logit, probability, flipped = (torch.stack(column) for column in zip(*falls, strict=True))
    return Curves(shares, logit, probability, flipped, torch.stack(reached))


def _answers(parts: Decision, image: int, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fall of the target's logit and probability from the first of the maps, and whether it lost the lead."""
    logits = parts.head(maps).detach().double()
    target = int(parts.targets[image])
    score, chance = logits[:, target], logits.softmax(dim=1)[:, target]
    return score[0] - score, chance[0] - chance, (logits.argmax(dim=1) != target).double()


def _nulled(maps: Tensor, codes: Tensor, atoms: Tensor, shares: Tensor) -> Tensor:
    """Return what is subtracted at each share, (G, T, d): whole contributions, and a part of the one that meets it."""
    taken, directions = codes.double(), atoms.double()
    whole = maps.double().square().sum()
    if not len(atoms):
        return maps.double() * shares.double()[:, None, None] * 0
    gram = (taken.T @ taken) * (directions @ directions.T)
    before = gram.tril(-1).sum(dim=1)
    size = gram.diagonal()
    # |s + w|^2 = |s|^2 + 2 <s, w> + |w|^2, atom after atom.
    energy = (2 * before + size).cumsum(dim=0)
    found = []
    for share in shares.double():
        wanted = share * whole
        full = torch.ones_like(size)
        if bool((energy >= wanted).any()):
            last = int((energy >= wanted).int().argmax())
            held = energy[last - 1].clamp_min(0) if last else energy.new_zeros(())
            full[last] = _part(size[last], before[last], held - wanted)
            full[last + 1 :] = 0
        found.append((taken * full) @ directions)
    return torch.stack(found)


def _part(size: Tensor, product: Tensor, missing: Tensor) -> Tensor:
    """Return x in [0, 1] with `size x^2 + 2 product x + missing = 0`, missing <= 0."""
    root = (product.square() - size * missing).clamp_min(0).sqrt()
    return torch.where(size > 0, (root - product) / size.clamp_min(1e-300), 0).clamp(0, 1)


def _projected(maps: Tensor, codes: Tensor, atoms: Tensor, shares: Tensor) -> Tensor:
    """Return what is subtracted at each share, (G, T, d): the projection on the span of the removed atoms."""
    rows, basis = maps.double(), _orthonormal(atoms.double())
    whole = rows.square().sum()
    parts = rows @ basis.T
    energy = parts.square().sum(dim=0).cumsum(dim=0)
    found = []
    for share in shares.double():
        wanted = share * whole
        full = torch.ones_like(energy)
        if bool((energy >= wanted).any()):
            last = int((energy >= wanted).int().argmax())
            held = energy[last - 1] if last else energy.new_zeros(())
            size = (energy[last] - held).clamp_min(1e-300)
            full[last] = ((wanted - held) / size).clamp(0, 1).sqrt()
            full[last + 1 :] = 0
        found.append((parts * full) @ basis)
    return torch.stack(found)


def _orthonormal(atoms: Tensor) -> Tensor:
    """Return an orthonormal row for what each atom (k, d) adds to the span of those before it; zero where nothing."""
    if not len(atoms):
        return atoms
    if len(atoms) <= atoms.shape[1]:
        basis = torch.linalg.qr(atoms.T)
        if bool((basis.R.diagonal().abs() > _WITHIN).all()):
            return basis.Q.T
    rows = torch.zeros_like(atoms)
    for index, atom in enumerate(atoms):
        fresh = atom
        for _ in range(2):
            fresh = fresh - (rows[:index] @ fresh) @ rows[:index]
        length = fresh.norm()
        rows[index] = torch.where(length > _WITHIN, fresh / length.clamp_min(_WITHIN), 0)
    return rows
