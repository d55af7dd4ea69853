"""KernelSHAP: Shapley values of cells by weighted regression, with efficiency held exactly."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:1705.07874; arXiv:2012.01536", cost="samples + 2 forwards")
def kernel_shap(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: Annotated[int, Field(ge=2)] = 8,
    samples: Annotated[int, Field(ge=2, multiple_of=2)] = 800,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["nearest", "bilinear"] = "nearest",
) -> Tensor:
    """Estimate each cell's Shapley value from paired subsets, drawn with the Shapley kernel's sizes.

    The values of an image sum to its score minus the baseline's, exactly: the constraint is eliminated, not weighted.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; subsets and their complements are the same for all images
    side : cells along each axis
    samples : number of subsets, half of them complements of the others
    score : 'logit' or 'probability'
    upsampling : how the cells' values become a map; 'nearest' keeps each cell's value at all its places

    Returns
    -------
    (N, 1, H, W), signed: at each place the Shapley value of its cell

    Raises
    ------
    LimenError
        If the subsets are too few to tell the cells apart.

    References
    ----------
    Lundberg and Lee 2017, arXiv:1705.07874; Covert and Lee 2021, arXiv:2012.01536.
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    chosen = subsets(draws, samples, cells)
    masks = torch.cat([chosen, torch.ones_like(chosen[:1]), torch.zeros_like(chosen[:1])]).type_as(coordinates)
    scores = engine.perturbed_scores(images, Masks.shared(masks), targets, space=space, score=score, side=side)
    values = shapley(chosen, scores[:, :-2], scores[:, -2], scores[:, -1])
    return space.spread(values, coordinates, side, mode=upsampling)


def subsets(draws: Draws, samples: int, cells: int) -> Tensor:
    """Draw subsets float32 (samples, cells): sizes k with weight 1 / (k (d - k)), each followed by its complement."""
    sizes = torch.arange(1, cells, dtype=torch.float64)
    weights = 1 / (sizes * (cells - sizes))
    edges = (weights / weights.sum()).cumsum(0)
    points = draws.uniform(samples // 2)
    size = 1 + (points.double()[:, None] > edges.type_as(points.double())[None, :-1]).sum(dim=1)
    order = draws.uniform(samples // 2, cells).argsort(dim=1).argsort(dim=1)
    first = (order < size[:, None]).float()
    return torch.stack([first, 1 - first], dim=1).flatten(0, 1)


def shapley(chosen: Tensor, scores: Tensor, full: Tensor, empty: Tensor) -> Tensor:
    """Solve the regression for subsets (n, d), scores (N, n), score of all cells and of none (N,); returns (N, d).

    Raises
    ------
    LimenError
        If the subsets do not determine the values.
    """
    design = chosen.double()
    gram = design.T @ design / len(design)
    target = (scores - empty[:, None]).double() @ design / len(design)
    factor, fault = torch.linalg.cholesky_ex(gram)
    if not gram.is_meta and (int(fault) or float(factor.diagonal().min()) < 1e-6):
        raise LimenError(
            f"attribution 'kernel_shap', option 'samples': {len(design)} subsets do not tell {design.shape[1]} cells "
            "apart; allowed is more samples or a smaller side."
        )
    free = torch.cholesky_solve(target.T, factor).T
    ones = torch.cholesky_solve(torch.ones_like(gram[:, :1]), factor)[:, 0]
    excess = (free.sum(dim=1) - (full - empty).double()) / ones.sum()
    return (free - excess[:, None] * ones).float()
