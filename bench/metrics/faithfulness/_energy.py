"""Taking concepts out of activations, most important first, until a stated share of their energy is gone."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...spaces.dictionary import Dictionary
from ._decision import Decision

Removal = Literal["null", "project"]
_NOTHING = 1e-300
_NUMBERS = 2**23
"""Most float64 numbers in one temporary."""
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
    used = (codes.abs().amax(dim=1) > 0) & ~dictionary.dead()
    # Atoms that an image does not hold go to the end, where they are cut off.
    order = credit.masked_fill(~used, -torch.inf).argsort(dim=1, descending=True, stable=True)
    most = max(1, int(used.sum(dim=1).max()))
    atoms = dictionary.atoms.double()
    held = _Held(atoms, atoms @ atoms.T, shares.double())
    remove = held.nulled if removal == "null" else held.projected
    size = max(
        1, _NUMBERS // max(most**2, most * dictionary.d, len(shares) * parts.maps.shape[1] * (most + dictionary.d))
    )
    found = []
    for batch in torch.ones_like(order[:, 0]).nonzero()[:, 0].split(size):
        first, maps = order[batch, :most], parts.maps[batch].double()
        taken = codes[batch].double().gather(2, first[:, None].expand(-1, codes.shape[1], -1))
        removed = remove(maps, taken, first, used[batch].gather(1, first))
        gone = removed.square().sum(dim=(2, 3)) / maps.square().sum(dim=(1, 2)).clamp_min(_NOTHING)[:, None]
        found.append((*_answers(parts, batch, maps[:, None] - removed), gone))
    return Curves(shares, *(torch.cat(column) for column in zip(*found, strict=True)))


def _answers(parts: Decision, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the fall of the target's logit and probability from the first of the maps (B, G, T, d), and lost leads."""
    logits = parts.head(maps.flatten(0, 1).type_as(parts.maps)).detach().double().unflatten(0, maps.shape[:2])
    target = parts.targets[images][:, None, None].expand(-1, maps.shape[1], 1)
    score, chance = (values.gather(2, target)[:, :, 0] for values in (logits, logits.softmax(dim=2)))
    flipped = (logits.argmax(dim=2) != target[:, :, 0]).double()
    return score[:, :1] - score, chance[:, :1] - chance, flipped


class _Held(NamedTuple):
    """What the atoms (k, d) of a dictionary are to each other, (k, k), and the shares (G,) asked for; float64."""

    atoms: Tensor
    gram: Tensor
    shares: Tensor

    def nulled(self, maps: Tensor, codes: Tensor, order: Tensor, used: Tensor) -> Tensor:
        """Return what is subtracted (B, G, T, d): whole contributions in order, and a part of the one that meets a share.

        Parameters
        ----------
        maps : (B, T, d)
        codes : (B, T, k'), in order
        order : (B, k'), the atoms
        used : bool (B, k'), which of them the image holds
        """
        inner = (codes.transpose(1, 2) @ codes) * self.gram[order[:, :, None], order[:, None, :]]
        size, before = inner.diagonal(dim1=1, dim2=2), inner.tril(-1).sum(dim=2)
        # |s + w|^2 = |s|^2 + 2 <s, w> + |w|^2, atom after atom; the first passage of a share is that of the running maximum.
        energy = (2 * before + size).cumsum(dim=1)
        wanted = maps.square().sum(dim=(1, 2))[:, None] * self.shares
        last = torch.searchsorted(energy.cummax(dim=1).values, wanted)
        place = last.clamp_max(energy.shape[1] - 1)
        missing = _before(energy, place) - wanted
        part = _part(size.gather(1, place), before.gather(1, place), missing)
        full = _kept(last, part, energy.shape[1])
        weighted = (codes[:, None] * full[:, :, None]).flatten(1, 2)
        return (weighted @ self.atoms[order]).unflatten(1, (len(self.shares), -1))

    def projected(self, maps: Tensor, codes: Tensor, order: Tensor, used: Tensor) -> Tensor:
        """Return what is subtracted (B, G, T, d): the projection on the span of the removed atoms, in order."""
        chosen = self.atoms[order] * used[:, :, None]
        basis = torch.stack([_orthonormal(one) for one in chosen])
        parts = maps @ basis.transpose(1, 2)
        energy = parts.square().sum(dim=1).cumsum(dim=1)
        wanted = maps.square().sum(dim=(1, 2))[:, None] * self.shares
        last = torch.searchsorted(energy, wanted)
        place = last.clamp_max(energy.shape[1] - 1)
        held = _before(energy, place)
        part = ((wanted - held) / (energy.gather(1, place) - held).clamp_min(_NOTHING)).clamp(0, 1).sqrt()
        full = _kept(last, part, energy.shape[1])
        weighted = (parts[:, None] * full[:, :, None]).flatten(1, 2)
        return (weighted @ basis).unflatten(1, (len(self.shares), -1))


def _before(energy: Tensor, place: Tensor) -> Tensor:
    """Return the energy (B, k') that is gone before the atom at each place (B, G)."""
    return torch.where(place > 0, energy.gather(1, (place - 1).clamp_min(0)), 0).clamp_min(0)


def _kept(last: Tensor, part: Tensor, count: int) -> Tensor:
    """Return weights (B, G, count): 1 for atoms before the last (B, G), a part for it, 0 after."""
    places = torch.ones_like(last[:1, :1]).expand(1, count).cumsum(dim=1) - 1
    weights = (places[:, None] < last[:, :, None]).type_as(part)
    return torch.where(places[:, None] == last[:, :, None], part[:, :, None], weights)


def _part(size: Tensor, product: Tensor, missing: Tensor) -> Tensor:
    """Return x in [0, 1] with `size x^2 + 2 product x + missing = 0`, missing <= 0."""
    root = (product.square() - size * missing).clamp_min(0).sqrt()
    return torch.where(size > 0, (root - product) / size.clamp_min(_NOTHING), 0).clamp(0, 1)


def _orthonormal(atoms: Tensor) -> Tensor:
    """Return an orthonormal row for what each atom (k, d) adds to the span of those before it; zero where nothing."""
    rows = torch.zeros_like(atoms)
    count = int((atoms != 0).any(dim=1).sum())
    if count <= atoms.shape[1]:
        # Atoms that are not used are zero, and come last.
        basis = torch.linalg.qr(atoms[:count].T)
        if bool((basis.R.diagonal().abs() > _WITHIN).all()):
            rows[:count] = basis.Q.T
            return rows
    for index, atom in enumerate(atoms):
        fresh = atom
        for _ in range(2):
            fresh = fresh - (rows[:index] @ fresh) @ rows[:index]
        length = fresh.norm()
        rows[index] = torch.where(length > _WITHIN, fresh / length.clamp_min(_WITHIN), 0)
    return rows
