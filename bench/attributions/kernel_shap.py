"""KernelSHAP: Shapley values of cells by weighted regression, with efficiency held exactly."""

from __future__ import annotations

from math import comb
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space

_HEAVY = 1e6
"""captum's weight of the empty and the full set, where all others weigh 1."""


@attribution(
    version=2,
    citation="arXiv:1705.07874; arXiv:2012.01536",
    cost="samples + 2 forwards",
    presets={
        "xplique": {"samples": 800, "paired": False, "constraint": "none"},
        "captum": {"samples": 23, "paired": False, "constraint": "weighted"},
    },
)
def kernel_shap(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: Annotated[int, Field(ge=2)] | None = 8,
    samples: Annotated[int, Field(ge=2)] = 800,
    paired: bool = True,
    constraint: Literal["exact", "weighted", "none"] = "exact",
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["nearest", "bilinear"] = "nearest",
) -> Tensor:
    """Estimate each cell's Shapley value from paired subsets, drawn with the Shapley kernel's sizes.

    The values of an image sum to its score minus the baseline's, exactly: the constraint is eliminated, not weighted.
    Where all subsets are fewer than `samples`, each is run once and the values are exact.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; subsets are the same for all images
    side : cells along each axis; None is one cell a coordinate place
    samples : number of subsets, beside the empty and the full one
    paired : draw the complement of every subset too, which makes games of pairwise interactions exact
    constraint : 'exact'; 'weighted' fits an intercept and gives the two ends a weight of 1e6 (captum), 'none' fits an
        intercept to the drawn subsets alone (Xplique): its values do not sum to the score. These two take the
        shortest solution where the subsets do not determine one.
    score : 'logit' or 'probability'
    upsampling : how the cells' values become a map; 'nearest' keeps each cell's value at all its places

    Returns
    -------
    (N, 1, H, W), signed: at each place the Shapley value of its cell

    Raises
    ------
    LimenError
        If the subsets are too few to tell the cells apart, cannot be paired, or there is one cell alone.

    Notes
    -----
    The preset 'captum' counts 23 subsets and the two ends, that library's 25 samples; its cells are the grid's here,
    single channel values there. Xplique's cells are quickshift segments and its baseline is grey: give a space.

    References
    ----------
    Lundberg and Lee 2017, arXiv:1705.07874; Covert and Lee 2021, arXiv:2012.01536.
    """
    coordinates = space.coordinates(engine, images)
    cells = space.cells(coordinates, side)
    if cells < 2 or (paired and samples % 2):
        wrong, allowed = ("side", "2 cells or more") if cells < 2 else ("samples", "an even number, or paired=False")
        given = f"{cells} cell" if cells < 2 else samples
        raise LimenError(f"attribution 'kernel_shap', option '{wrong}': given {given}, allowed is {allowed}.")
    weights = None
    if constraint == "exact" and 2**cells - 2 <= samples:
        chosen, weights = every_subset(cells, coordinates)
    else:
        chosen = subsets(draws, samples, cells, paired=paired).type_as(coordinates)
    # Before the forwards: too few subsets are refused at once.
    regression = Regression(chosen, weights) if constraint == "exact" else None
    ends = chosen[:2] * 0 + chosen.new_tensor([[1.0], [0.0]])
    masks = chosen if constraint == "none" else torch.cat([chosen, ends])
    scores = engine.perturbed_scores(images, Masks.shared(masks), targets, space=space, score=score, side=side)
    if regression is not None:
        values = regression.shapley(scores[:, :-2], scores[:, -2], scores[:, -1])
    else:
        values = least_squares(masks, scores, heavy=2 if constraint == "weighted" else 0)
    return space.spread(values.float(), coordinates, side, mode=upsampling)


def subsets(draws: Draws, samples: int, cells: int, *, paired: bool = True) -> Tensor:
    """Draw subsets float32 (samples, cells) of sizes k with weight 1 / (k (d - k)); paired, complements follow."""
    count = samples // 2 if paired else samples
    sizes = torch.arange(1, cells, dtype=torch.float64)
    weights = 1 / (sizes * (cells - sizes))
    edges = (weights / weights.sum()).cumsum(0)
    points = draws.uniform(count).double()
    size = 1 + (points[:, None] > edges.type_as(points)[None, :-1]).sum(dim=1)
    order = draws.uniform(count, cells).argsort(dim=1).argsort(dim=1)
    first = (order < size[:, None]).float()
    return torch.stack([first, 1 - first], dim=1).flatten(0, 1) if paired else first


def every_subset(cells: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return all subsets but the empty and the full one, (2^d - 2, d), and their kernel weights float64."""
    bits = 2 ** torch.arange(cells)
    chosen = (torch.arange(1, 2**cells - 1)[:, None] // bits) % 2
    kernel = [0.0] + [1 / (comb(cells, size) * size * (cells - size)) for size in range(1, cells)]
    weights = torch.tensor(kernel, dtype=torch.float64)[chosen.sum(dim=1)]
    return chosen.type_as(like), weights.type_as(like.double())


class Regression:
    """The weighted regression on subsets, factored before any of their scores is known.

    Parameters
    ----------
    chosen : (n, d) subsets
    weights : (n,) or None, which is 1 for all

    Raises
    ------
    LimenError
        If the subsets do not determine the values.
    """

    def __init__(self, chosen: Tensor, weights: Tensor | None = None) -> None:
        design = chosen.double()
        rows = design if weights is None else design * weights[:, None]
        self._rows = rows / (len(design) if weights is None else weights.sum())
        gram = design.T @ self._rows
        self._factor, fault = torch.linalg.cholesky_ex(gram)
        if not gram.is_meta and (int(fault) or float(self._factor.diagonal().min()) < 1e-6):
            raise LimenError(
                f"attribution 'kernel_shap', option 'samples': {len(design)} subsets do not tell {design.shape[1]} cells "
                "apart; allowed is more samples or a smaller side."
            )

    def shapley(self, scores: Tensor, full: Tensor, empty: Tensor) -> Tensor:
        """Solve under the constraint that the values sum to `full - empty`.

        Parameters
        ----------
        scores : (N, n), of the subsets
        full, empty : (N,) scores of all cells and of none

        Returns
        -------
        float64 (N, d)
        """
        base = empty.double()
        target = (scores.double() - base[:, None]) @ self._rows
        free = torch.cholesky_solve(target.T, self._factor).T
        ones = torch.cholesky_solve(torch.ones_like(self._rows[:1].T), self._factor)[:, 0]
        excess = (free.sum(dim=1) - (full.double() - base)) / ones.sum()
        return free - excess[:, None] * ones


def least_squares(design: Tensor, scores: Tensor, *, heavy: int = 0) -> Tensor:
    """Fit scores (N, n) on subsets (n, d) and an intercept, the last `heavy` rows weighted 1e6; float64 (N, d)."""
    rows, values = design.double(), scores.double()
    weights = torch.ones_like(rows[:, 0])
    weights[len(rows) - heavy :] = _HEAVY
    shares, root = weights / weights.sum(), weights.sqrt()
    rows = (rows - shares @ rows) * root[:, None]
    values = (values - (values @ shares)[:, None]) * root
    return values @ torch.linalg.pinv(rows).T
