"""Sobol attribution: the total variance of the score that goes through each cell."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:2111.04138", cost="samples x (cells + 1) forwards (2,080 at the defaults)")
def sobol(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt = 8,
    samples: PositiveInt = 32,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Estimate the total Sobol index of each cell (Jansen) under uniform masks towards the baseline.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; the scrambled quasi-random design is the same for all images
    side : cells along each axis
    samples : rows of the design
    score : 'logit' or 'probability'
    upsampling : how the cells' indices become a map

    Returns
    -------
    (N, 1, H, W), non-negative; 0 everywhere if the score does not vary

    References
    ----------
    Fel et al. 2021, arXiv:2111.04138; Jansen 1999, doi:10.1016/S0010-4655(98)00154-4.
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    masks = Masks.shared(design(draws, samples, cells).type_as(coordinates))
    scores = engine.perturbed_scores(images, masks, targets, space=space, score=score, side=side)
    return space.spread(total_indices(scores, samples), coordinates, side, mode=upsampling)


def design(draws: Draws, samples: int, cells: int) -> Tensor:
    """Return masks (samples * (cells + 1), cells): A first, then A with column i taken from B, for each i."""
    first, second = draws.sobol(samples, 2 * cells).chunk(2, dim=1)
    mixed = first.repeat(cells, 1, 1)
    mixed.diagonal(dim1=0, dim2=2).copy_(second)
    return torch.cat([first, mixed.flatten(0, 1)])


def total_indices(scores: Tensor, samples: int) -> Tensor:
    """Turn scores (N, samples * (cells + 1)) of `design` into Jansen's total indices (N, cells)."""
    plain = scores[:, :samples]
    mixed = scores[:, samples:].unflatten(1, (-1, samples))
    spread = (plain.unsqueeze(1) - mixed).square().mean(dim=2) / 2
    variance = plain.var(dim=1, keepdim=True, correction=1 if samples > 1 else 0)
    return torch.where(variance > 0, spread / variance, 0)
