"""Sobol attribution: the total variance of the score that goes through each cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine, Masks, Within
from ..registry import attribution
from ..spaces import Space
from ..spaces.space import cell_boxes
from ._designs import Design, points
from ._perturbed import Perturbation, cell_scores

Estimator = Literal["jansen", "homma", "glen", "janon"]


@attribution(
    version=2,
    citation="arXiv:2111.04138",
    cost="samples x (cells + 1) forwards (2,080 at the defaults), those of one cell changed in part",
    presets={"xplique": {"side": 8, "samples": 32, "design": "unscrambled", "estimator": "jansen", "score": "logit"}},
)
def sobol(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    samples: PositiveInt = 32,
    estimator: Estimator = "jansen",
    design: Design = "scrambled",
    perturbation: Perturbation = "inpainting",
    sigma: PositiveFloat = 1.0,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Estimate the total Sobol index of each cell under uniform masks towards the baseline.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; the design is the same for all images
    side : cells along each axis; None is one cell a coordinate place
    samples : rows of the design
    estimator : 'jansen', 'homma' (Saltelli's is the same), 'glen' or 'janon'; the last three may be worth it where the
        score's variance is badly known, and none reads the scores of the second design, so it is never run
    design : 'scrambled' or 'unscrambled' Sobol sequence, 'lhs' (Latin hypercube) or 'random'. Unscrambled, the first
        mask hides everything and the estimates are biased while samples are few.
    perturbation : 'inpainting' fades to the space's baseline, 'blur' to its blur, 'amplitude' adds (m - 1/2) sigma
    sigma : range of 'amplitude', in units of the coordinates
    score : 'logit' or 'probability'
    upsampling : how the cells' indices become a map

    Returns
    -------
    (N, 1, H, W); 0 everywhere if the score does not vary. Jansen's, Glen's and Janon's are not negative.

    Notes
    -----
    The preset 'xplique' gives that library's indices at each cell; it draws its maps bicubically, limen bilinearly.

    References
    ----------
    Fel et al. 2021, arXiv:2111.04138; Jansen 1999, doi:10.1016/S0010-4655(98)00154-4; Homma and Saltelli 1996,
    doi:10.1016/0951-8320(96)00002-6; Glen and Isaacs 2012, doi:10.1016/j.envsoft.2012.03.014; Janon et al. 2014,
    hal-00665048.
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    first, second = points(draws, design, samples, 2 * cells).type_as(coordinates).chunk(2, dim=1)
    boxes = cell_boxes(space, coordinates, side)
    scores = cell_scores(
        engine, images, replicated(first, second, boxes), targets,
        space=space, side=side, score=score, perturbation=perturbation, sigma=sigma,
    )  # fmt: skip
    indices = total_indices(scores.unflatten(1, (samples, cells + 1)), estimator)
    return space.spread(indices, coordinates, side, mode=upsampling)


def replicated(first: Tensor, second: Tensor, boxes: Within | None = None) -> Masks:
    """Return n (d + 1) masks of designs A and B (n, d), built when run: each row of A, then it with column i of B.

    Those of a row differ from its first in one cell, whose `boxes` are given where places have them.
    """
    samples, cells = first.shape

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        row, block = mask_index // (cells + 1), mask_index % (cells + 1)
        column = (block - 1).clamp(min=0)
        rows = first[row]
        swapped = torch.where(block > 0, second[row, column], first[row, column])
        return rows.scatter(1, column.unsqueeze(1), swapped.unsqueeze(1))

    return Masks.lazy(samples * (cells + 1), build, None if boxes is None else boxes.runs(samples))


def total_indices(scores: Tensor, estimator: Estimator = "jansen") -> Tensor:
    """Turn scores (N, n, d + 1), of rows of A and of them with column i of B, into total indices float32 (N, d).

    Scores are centred by the mean over A first: Homma's estimate would else depend on a constant added to the score.
    """
    plain, mixed = scores[:, :, 0].double(), scores[:, :, 1:].double().transpose(1, 2)
    centre = plain.mean(dim=1, keepdim=True)
    share, variance = _ESTIMATORS[estimator]((plain - centre).unsqueeze(1), mixed - centre.unsqueeze(2))
    return torch.where(variance > 0, share / variance, 0).float()


def _jansen(plain: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    correction = 1 if plain.shape[2] > 1 else 0
    return (plain - mixed).square().mean(dim=2) / 2, plain.var(dim=2, correction=correction)


def _homma(plain: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    variance = plain.square().mean(dim=2)
    return variance - (plain * mixed).mean(dim=2), variance


def _glen(plain: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    other = mixed - mixed.mean(dim=2, keepdim=True)
    spread = (plain.square().mean(dim=2) * other.square().mean(dim=2)).sqrt()
    return spread - (plain * other).mean(dim=2), spread


def _janon(plain: Tensor, mixed: Tensor) -> tuple[Tensor, Tensor]:
    # 1 - (e - m^2) / (v - m^2) with one divisor throughout is Jansen's numerator over the pooled variance.
    pooled = (plain.square() + mixed.square()).mean(dim=2) / 2 - (mixed.mean(dim=2) / 2).square()
    return (plain - mixed).square().mean(dim=2) / 2, pooled


_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "jansen": _jansen,
    "homma": _homma,
    "glen": _glen,
    "janon": _janon,
}
