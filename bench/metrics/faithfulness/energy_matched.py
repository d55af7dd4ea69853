"""Energy-matched decisions: how far does the logit fall for the same amount of activation taken away?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary, positions
from ._decision import Decision, decision
from ._energy import Curves, Removal, removal_curves

Share = Annotated[float, Field(gt=0, le=1)]


@metric(
    version=1,
    citation="arXiv:2411.03993",
    cost="points heads an image, for each dictionary and each of its controls, and one backward",
    of="dictionary",
    direction="up",
    bounds=(-float("inf"), float("inf")),
    null="the same for as many random orthogonal directions, least-squares codes, centred where the dictionary is",
    ceiling="at an affine head, the steepest fall that any change of that energy can bring",
)
def energy_matched(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    fraction: Share = 0.25,
    points: Annotated[int, Field(ge=3)] = 21,
    removal: Removal = "null",
    score: Literal["logit", "probability"] = "logit",
    null_draws: PositiveInt = 5,
) -> Measurement:
    """Remove a dictionary's atoms from each image, most important first, and average the fall of the score over energy.

    One of 25 dense directions carries far more of an activation than one of 2,048 units, so that atoms counted one by
    one favour the dense ones. Here the abscissa is the energy of what was removed, `|a - a'|^2 / |a|^2` summed over
    positions: the atom that passes a share is removed in the part that meets it, so that all dictionaries are compared
    at equal energies. Where a dictionary has no more to give, its last score is held.

    Parameters
    ----------
    dictionaries : one or more fits of one method; an image's value is their average
    data : ConceptData with `test_maps`, `head` and `targets`
    draws : Draws
    fraction : largest share of the energy that is removed; atoms that speak against the class come last in the order,
        and past the energy of those that speak for it (about half of a balanced activation's) the curve falls again
    points : shares at which the head is asked, evenly spaced from 0
    removal : 'null' subtracts what an atom adds, `code * atom`, and leaves what the dictionary does not explain;
        'project' takes out all that lies along the removed atoms, also what other atoms put there, so that it does not
        depend on the codes but for their order
    score : of the target class, 'logit' or 'probability'
    null_draws : sets of random directions

    Returns
    -------
    Measurement
        One value an image: the mean fall of the score over shares from 0 to `fraction`, by the trapezoid rule. The order
        is that of gradient x input, exact where the head is affine. The curve is that of the mean fit. `extra` holds
        `pca` (as many principal components, at most d), `probability`, `flipped` (another class leads at some share),
        `flip_share` (the first, NaN if none), `removed` (the share really removed),
        `removed_null` (so many random directions may hold less), and `flipped` of both controls. The function `curves` of
        this file gives the controls' curves.

    Raises
    ------
    LimenError
        If there is no dictionary or a part of the data is missing.

    References
    ----------
    Reacts to the atom-by-atom decision test of arXiv:2411.03993.
    """
    if not dictionaries:
        raise LimenError("metric 'energy_matched': given 0 dictionaries, allowed is one or more.")
    parts = decision(data, "energy_matched")
    slopes, shares = parts.slopes(), _shares(parts, fraction, points)
    found = [removal_curves(one, parts, slopes, shares, removal) for one in dictionaries]
    blind, components = [], []
    for k, centred in sorted({(one.k, bool(one.mean.any())) for one in dictionaries}):
        components.append(removal_curves(principal(data, k), parts, slopes, shares, removal))
        for draw in range(null_draws):
            control = random_directions(data, k, draws.spawn(k, draw), centred=centred)
            blind.append(removal_curves(control, parts, slopes, shares, removal))
    falls = host(torch.stack([getattr(one, score) for one in found]).mean(dim=0))
    return Measurement(
        values=_area(found, score),
        null=_area(blind, score),
        ceiling=_ceiling(parts, slopes, shares) if data.head_weights is not None and score == "logit" else None,
        curve_x=host(shares),
        curve_y=falls,
        samples=tuple(f"image {index}" for index in range(len(parts.maps))),
        convention=(
            f"mean fall of the {score} over shares 0 to {fraction:g} of the energy |a|^2 of all positions, {points} points, "
            f"atoms {'subtracted' if removal == 'null' else 'projected out'} by decreasing signed gradient x input, the "
            "last in part; held where the atoms are used up"
        ),
        extra={
            "pca": _area(components, score),
            "probability": _area(found, "probability"),
            "flipped": _most(found, "flipped"),
            "flipped_null": _most(blind, "flipped"),
            "flipped_pca": _most(components, "flipped"),
            "flip_share": _flip_share(found),
            "removed": _most(found, "removed"),
            "removed_null": _most(blind, "removed"),
        },
    )


def curves(
    dictionary: Dictionary, data: ConceptData, *, fraction: float = 0.25, points: int = 21, removal: Removal = "null"
) -> Curves:
    """Return the curves behind the metric for one dictionary, or for a control made by `principal` or `random_directions`.

    Returns
    -------
    Curves
        Shares (G,) and, float64 (m, G), the falls of logit and probability, flips, and shares really removed.
    """
    parts = decision(data, "energy_matched")
    return removal_curves(dictionary, parts, parts.slopes(), _shares(parts, fraction, points), removal)


def principal(data: ConceptData, k: int) -> Dictionary:
    """Return the control of principal components: k of the training activations, or as many as there are features."""
    rows = positions(data.train if data.train_maps is None else data.train_maps).double()
    mean = rows.mean(dim=0)
    centred = rows - mean
    atoms = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(dims=[1]).T[:k]
    return _linear("pca", atoms, mean, atoms)


def random_directions(data: ConceptData, k: int, draws: Draws, *, centred: bool = True) -> Dictionary:
    """Return the control that knows nothing: k random directions, with the codes of least squares and smallest norm.

    They are orthogonal to each other, beyond d in sets of d: independent directions lean together, their codes of least
    squares grow against each other and waste energy, the more the nearer k is to d, which would make a null too easy.

    Parameters
    ----------
    data : ConceptData
    k : number of directions
    draws : Draws
    centred : code what is left after the mean of the training activations, else activations as they are. What all images
        share holds much energy and decides nothing, so that a dictionary of uncentred codes has an uncentred control.
    """
    d = data.train.shape[1]
    sets = [torch.linalg.qr(draws.normal(d, d).type_as(data.train).double()).Q for _ in range(-(-k // d))]
    atoms = torch.cat(sets)[:k]
    mean = data.train.double().mean(dim=0) * centred
    return _linear("random", atoms, mean, torch.linalg.pinv(atoms).T)


def _linear(name: str, atoms: Tensor, mean: Tensor, filters: Tensor) -> Dictionary:
    return Dictionary(name=name, atoms=atoms, mean=mean, encoder="linear", signed=True, parameters={"filters": filters})


def _shares(parts: Decision, fraction: float, points: int) -> Tensor:
    return parts.maps.new_tensor(np.linspace(0, fraction, points), dtype=torch.float64)


def _area(found: Sequence[Curves], column: str) -> np.ndarray:
    shares = found[0].shares
    heights = torch.stack([getattr(one, column) for one in found]).mean(dim=0)
    return host(torch.trapezoid(heights, shares, dim=1) / shares[-1])


def _most(found: Sequence[Curves], column: str) -> np.ndarray:
    return host(torch.stack([getattr(one, column).amax(dim=1) for one in found]).mean(dim=0))


def _flip_share(found: Sequence[Curves]) -> np.ndarray:
    """Return the first share at which another class leads, averaged over the fits in which one does."""
    firsts = []
    for one in found:
        first = one.shares[one.flipped.argmax(dim=1)]
        firsts.append(torch.where(one.flipped.amax(dim=1) > 0, first, torch.nan))
    return host(torch.stack(firsts).nanmean(dim=0))


def _ceiling(parts: Decision, slopes: Tensor, shares: Tensor) -> np.ndarray:
    """Return the mean of |slope| sqrt(share) |a|, the largest product with a vector of that energy."""
    size = slopes.double().flatten(1).norm(dim=1) * parts.maps.double().flatten(1).norm(dim=1)
    heights = size[:, None] * shares.sqrt()
    return host(torch.trapezoid(heights, shares, dim=1) / shares[-1])
