"""HSIC attribution: how strongly the score depends on each cell being there, in any manner."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import attribution
from ..spaces import Space

_FLOOR = 1e-12
"""Smallest kernel width: scores that do not vary have none of their own."""


@attribution(version=1, citation="arXiv:2206.06219", cost="samples forwards")
def hsic(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt = 8,
    samples: PositiveInt = 512,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Measure the Hilbert-Schmidt dependence between each cell's presence and the score.

    The kernel of the masks is 1 where two masks agree about a cell, that of the scores a Gaussian whose width is the
    median distance of an image's scores; so the index ranks by the size of a dependence and is blind to its sign.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; the scrambled quasi-random masks, rounded to 0 and 1, are the same for all images
    side : cells along each axis
    samples : number of masks
    score : 'logit' or 'probability'
    upsampling : how the cells' indices become a map

    Returns
    -------
    (N, 1, H, W), non-negative; 0 everywhere if the score does not vary

    References
    ----------
    Novello, Fel and Vigouroux 2022, arXiv:2206.06219.
    """
    coordinates = space.coordinates(engine, images)
    masks = draws.sobol(samples, space.cells(coordinates, side)).round().type_as(coordinates)
    scores = engine.perturbed_scores(images, Masks.shared(masks), targets, space=space, score=score, side=side)
    found = torch.stack([dependence(masks, values) for values in scores])
    return space.spread(found, coordinates, side, mode=upsampling)


def dependence(masks: Tensor, scores: Tensor) -> Tensor:
    """Return HSIC between each column of binary masks (n, d) and scores (n,), float32 (d,), by its closed form.

    With the agreement kernel of binary masks, `tr(K_i H L H) / n^2 = 2 / n^2 * sum_j (L X)_ji X_ji`, X the masks
    centred by column: one product for all cells.
    """
    values, count = scores.double(), len(scores)
    gaps = (values[:, None] - values[None, :]).abs()
    pairs = torch.pdist(values[:, None])
    width = pairs.quantile(0.5).clamp(min=_FLOOR) if len(pairs) else torch.ones_like(values[0])
    kernel = torch.exp(-gaps.square() / (2 * width**2))
    centred = masks.double() - masks.double().mean(dim=0)
    found = 2 / count**2 * ((kernel @ centred) * centred).sum(dim=0)
    # The kernel is positive semi-definite, so what is below 0 is rounding; scores that never vary depend on nothing.
    return torch.where(gaps.max() > 0, found.clamp(min=0), 0).float()
