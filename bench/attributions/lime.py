"""LIME: the slopes of a linear model of the score, fitted where copies are like the image."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space

Distance = Literal["mask", "cosine", "euclidean"]
_NUMBERS = 2**22
"""Most float64 numbers in one temporary."""
_SMALL = 1e-8
"""Smallest product of two lengths that a cosine divides by."""


@attribution(
    version=1,
    citation="arXiv:1602.04938",
    cost="samples forwards (500 at the defaults)",
    presets={
        "xplique": {"samples": 150, "distance": "euclidean", "width": 45.0, "penalty": "ridge", "alpha": 2.0},
        "captum": {"samples": 25, "distance": "cosine", "width": sqrt(2.0), "penalty": "lasso", "alpha": 0.01},
    },
)
def lime(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    samples: PositiveInt = 500,
    p: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    distance: Distance = "mask",
    width: PositiveFloat = 0.25,
    penalty: Literal["ridge", "lasso"] = "ridge",
    alpha: Annotated[float, Field(ge=0)] = 1.0,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["nearest", "bilinear"] = "nearest",
) -> Tensor:
    """Fit the score of copies with random cells by a weighted linear model, and return its coefficients.

    Copies weigh `exp(-D^2 / width^2)`, D their distance from the image. The intercept is not penalised.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; the subsets of cells are the same for all images
    side : cells along each axis, the features of the model; None is one cell a coordinate place. There are no
        superpixels: features are alike for all images, so one factorisation serves them all.
    samples : number of copies
    p : probability that a cell is kept
    distance : 'mask' is `1 - sqrt(share of cells kept)`, the cosine distance of a subset from the full one; 'cosine'
        and 'euclidean' compare the coordinates of copy and image, as captum and Xplique do
    width : of the kernel
    penalty, alpha : 'ridge' adds `alpha * |b|_2^2` to the weighted sum of squares, 'lasso' `alpha * |b|_1` to half its
        weighted mean (as scikit-learn does); 0 fits without penalty
    score : 'logit' or 'probability'
    upsampling : how the coefficients become a map; 'nearest' keeps each cell's at all its places

    Returns
    -------
    (N, 1, H, W), signed

    Raises
    ------
    LimenError
        If all copies weigh nothing, or they do not determine a model without penalty.

    Notes
    -----
    The presets give the peers' samples, kernels and penalties. The features differ: Xplique segments by quickshift
    and hides with grey, captum takes single channel values unless it is given a mask. With the grid's cells as that
    mask, captum's coefficients are these.

    References
    ----------
    Ribeiro, Singh and Guestrin 2016, arXiv:1602.04938.
    """
    coordinates = space.coordinates(engine, images)
    masks = draws.bernoulli(p, samples, space.cells(coordinates, side)).type_as(coordinates)
    scores = engine.perturbed_scores(images, Masks.shared(masks), targets, space=space, score=score, side=side)
    squares = squared_distances(distance, masks, coordinates, space, side)
    weights = torch.exp(-squares / width**2)
    if not weights.is_meta and float(weights.sum(dim=1).min()) == 0:
        raise LimenError(
            f"attribution 'lime', option 'width': given {width}, allowed is a wider kernel: the copies nearest to an "
            f"image are {float(squares.amin(dim=1).max().sqrt()):.4g} away, so all of them weigh 0."
        )
    if penalty == "lasso" and alpha > 0:
        found = engine.place(lasso(engine.numpy(masks), engine.numpy(scores), engine.numpy(weights), alpha))
    else:
        found = ridge(masks, scores, weights, alpha)
    return space.spread(found.type_as(coordinates), coordinates, side, mode=upsampling)


def squared_distances(kind: Distance, masks: Tensor, coordinates: Tensor, space: Space, side: int | None) -> Tensor:
    """Return D^2 between images and their copies under binary masks (n, d), float64 (N, n); (1, n) if alike for all.

    Sums over the cells of each image give it for all masks: no copy is built.
    """
    kept = masks.double()
    if kind == "mask":
        return (1 - kept.mean(dim=1).sqrt()).square().unsqueeze(0)
    baseline = space.baseline(coordinates)

    def sums(values: Tensor) -> Tensor:
        return space.pool(space.credit(values), side).double()

    if kind == "euclidean":
        return sums((coordinates - baseline).square()) @ (1 - kept).T
    own, cross, base = sums(coordinates.square()), sums(coordinates * baseline), sums(baseline.square())
    product = own @ kept.T + cross @ (1 - kept).T
    lengths = ((own @ kept.T + base @ (1 - kept).T) * own.sum(dim=1, keepdim=True)).sqrt()
    return (1 - product / lengths.clamp(min=_SMALL)).square()


def ridge(masks: Tensor, scores: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Fit scores (N, n) on masks (n, d) with weights (N, n) or (1, n), all images at once; float64 (N, d).

    Raises
    ------
    LimenError
        If the masks do not determine the coefficients.
    """
    design, values = masks.double(), scores.double()
    if len(weights) == 1:
        return _fit(design, values.T.unsqueeze(0), weights.double(), alpha)[0].T
    block = max(1, _NUMBERS // design.numel())
    parts = zip(values.split(block), weights.double().split(block), strict=True)
    return torch.cat([_fit(design, part.unsqueeze(2), own, alpha).squeeze(2) for part, own in parts])


def _fit(design: Tensor, values: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Return coefficients (W, d, R) of values (W, n, R) under W sets of weights (W, n)."""
    share = (weights / weights.sum(dim=1, keepdim=True)).unsqueeze(1)
    rows = design - share @ design
    weighted = rows * weights.unsqueeze(2)
    gram = rows.mT @ weighted + alpha * torch.eye(design.shape[1]).type_as(design)
    factor, fault = torch.linalg.cholesky_ex(gram)
    smallest = factor.diagonal(dim1=1, dim2=2).amin(dim=1) / gram.diagonal(dim1=1, dim2=2).amax(dim=1).sqrt()
    if not gram.is_meta and (bool(fault.any()) or not float(smallest.min()) > 1e-6):
        raise LimenError(
            f"attribution 'lime', option 'alpha': given {alpha}, but {len(design)} samples do not tell "
            f"{design.shape[1]} cells apart; allowed is a larger penalty, more samples or a smaller side."
        )
    return torch.cholesky_solve(weighted.mT @ (values - share @ values), factor)


def lasso(masks: np.ndarray, scores: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Fit scores (N, n) on masks (n, d) with weights (N, n) or (1, n), image by image; float64 (N, d)."""
    from sklearn.linear_model import Lasso

    weights = np.broadcast_to(weights, scores.shape)
    model = Lasso(alpha=alpha, max_iter=100_000)
    return np.stack(
        [
            model.fit(masks.astype(np.float64), own.astype(np.float64), sample_weight=weight).coef_.copy()
            for own, weight in zip(scores, weights, strict=True)
        ]
    )
