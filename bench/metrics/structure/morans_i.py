"""Moran's I: do an atom's codes lie together in the picture?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...engine import Draws
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import atom_names, check, joined, random_atoms

_IMAGES_AT_ONCE = 64


@metric(
    version=1,
    citation="Moran 1950, Biometrika 37",
    cost="one encode of every position, and as much for each null draw",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="random directions of the same activations, active at as many positions as the atom: neighbours see alike",
)
def morans_i(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    least_active: int = 5,
    most_active: float = 0.9,
    images: int = 50,
    null_draws: int = 1,
) -> Measurement:
    """Measure the spatial autocorrelation of each atom's codes on the grid of positions, averaged over images.

    `I = (T / W) sum_ij w_ij (z_i - m)(z_j - m) / sum_i (z_i - m)^2`, w = 1 for positions that share an edge. Codes at
    random places score -1 / (T - 1), but activations of a network are alike at neighbouring places whatever the
    direction, so that the null is random directions.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `test_maps` and `grid`
    draws : Draws
    least_active : positions of an image at which an atom must speak for the image to count
    most_active : largest share of them
    images : images that must count for an atom to have a value; fewer, where there are not twice as many
    null_draws : sets of random directions a dictionary

    Returns
    -------
    Measurement
        One value an atom of a fit, NaN where too few images count; `extra` holds `images`, how many do, and
        `scattered`, -1 / (T - 1).

    Raises
    ------
    LimenError
        If there is no dictionary, or the data have no grid of two or more rows or columns.
    """
    check("morans_i", dictionaries, data, least_active=least_active, images=images, null_draws=null_draws)
    data.require("morans_i", "test_maps", "grid")
    assert data.test_maps is not None
    assert data.grid is not None
    maps, grid = data.test_maps, data.grid
    if maps.shape[1] < 2:
        raise LimenError(f"metric 'morans_i': given a grid of {grid}, allowed is one with two or more positions.")
    wanted = min(images, max(1, len(maps) // 2))
    limits = least_active, most_active * maps.shape[1]
    values, counts, null = [], [], []
    for index, one in enumerate(dictionaries):
        codes = torch.cat([one.encode(part) for part in maps.split(_IMAGES_AT_ONCE)])
        total, count = _summed(codes, grid, limits)
        values.append(torch.where(count >= wanted, total / count, torch.nan))
        counts.append(count)
        blind = [_blind(one, codes, maps, draws.spawn(index, draw)) for draw in range(null_draws)]
        null.append(torch.stack([_mean(_summed(part, grid, limits)) for part in blind]).mean(dim=0))
    scattered = torch.full_like(torch.cat(counts), -1 / (maps.shape[1] - 1))
    return Measurement(
        values=joined(values),
        null=joined(null),
        samples=atom_names(dictionaries),
        convention=(
            f"Moran's I on a {grid[0]} x {grid[1]} grid, neighbours share an edge; mean over images with "
            f"{least_active} or more and at most {most_active:.0%} of positions active; atoms with fewer than {wanted} left out"
        ),
        extra={"images": joined(counts), "scattered": joined([scattered])},
    )


def _summed(codes: Tensor, grid: tuple[int, int], limits: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return the sum of I over the images that count and their number, each (k,), from codes (m, T, k)."""
    total = codes.new_zeros(codes.shape[2]).double()
    count = torch.zeros_like(total)
    for part in codes.split(_IMAGES_AT_ONCE):
        active = (part != 0).sum(dim=1)
        found = _index(part.double().unflatten(1, grid))
        counts = (active >= limits[0]) & (active <= limits[1]) & found.isfinite()
        total += torch.where(counts, found, 0).sum(dim=0)
        count += counts.sum(dim=0)
    return total, count


def _index(codes: Tensor) -> Tensor:
    """Return I (m, k) of codes (m, H, W, k); NaN where all positions are alike."""
    centred = codes - codes.mean(dim=(1, 2), keepdim=True)
    height, width = codes.shape[1:3]
    across = (centred[:, :, 1:] * centred[:, :, :-1]).sum(dim=(1, 2))
    down = (centred[:, 1:] * centred[:, :-1]).sum(dim=(1, 2))
    pairs = height * (width - 1) + (height - 1) * width
    return height * width / pairs * (across + down) / centred.square().sum(dim=(1, 2))


def _mean(summed: tuple[Tensor, Tensor]) -> Tensor:
    return summed[0] / summed[1]


def _blind(one: Dictionary, codes: Tensor, maps: Tensor, draws: Draws) -> Tensor:
    """Return what random directions say above a threshold, each at as many positions as one atom speaks at."""
    answers = ((maps - one.mean).double() @ random_atoms(one, draws).T).flatten(0, 1)
    active = (codes != 0).flatten(0, 1).sum(dim=0)
    ordered = answers.sort(dim=0, descending=True).values
    threshold = ordered.gather(0, active.clamp(max=len(answers) - 1)[None])
    return (answers - threshold).relu().reshape(codes.shape)
