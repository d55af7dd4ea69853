"""HSIC attribution: how strongly the score depends on each cell being there, in any manner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space
from ._designs import Design, points
from ._perturbed import Perturbation, cell_scores

InputKernel = Literal["binary", "sobolev", "rbf"]
OutputKernel = Literal["rbf", "sobolev"]
Width = Literal["distance", "value"]
Order = Literal["first", "total"]
_FLOOR = 1e-12
"""Smallest kernel width: scores that do not vary have none of their own."""
_MASK_WIDTH = 0.5
"""Width of the Gaussian kernel of real-valued masks, as published."""
_NUMBERS = 2**20
"""Most float64 numbers in one temporary."""
_HALVINGS = 64
"""Bisections behind a median distance: they leave 2^-64 of the range."""


@attribution(
    version=2,
    citation="arXiv:2206.06219",
    cost="samples forwards",
    presets={"xplique": {"side": 8, "samples": 500, "design": "unscrambled", "width": "value", "divisor": "samples"}},
)
def hsic(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt | None = 8,
    samples: PositiveInt = 512,
    input_kernel: InputKernel = "binary",
    output_kernel: OutputKernel = "rbf",
    width: Width = "distance",
    order: Order = "first",
    divisor: Literal["squared", "samples"] = "squared",
    design: Design = "scrambled",
    perturbation: Perturbation = "inpainting",
    sigma: PositiveFloat = 1.0,
    score: Literal["logit", "probability"] = "logit",
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Measure the Hilbert-Schmidt dependence between each cell's presence and the score.

    The index ranks by the size of a dependence of any form and is blind to its sign.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates, cells and baseline
    draws : Draws; the masks are the same for all images
    side : cells along each axis; None is one cell a coordinate place
    samples : number of masks
    input_kernel : 'binary' rounds the masks to 0 and 1 and asks whether two agree; 'sobolev' (of order one) and 'rbf'
        (width 1/2) take masks with any value between
    output_kernel : 'rbf', or 'sobolev' of probabilities
    width : of the Gaussian of the scores: the median 'distance' of an image's scores, or their median 'value', as in
        Xplique. The latter is a scale only where scores are far from 0 and is there to reproduce numbers.
    order : 'first' measures a cell by itself; 'total' is `1 - HSIC(all other cells) / HSIC(all cells)`, with products
        of kernels over cells, which also counts what a cell does only together with others. It needs many samples,
        and a 'binary' or 'sobolev' input kernel.
    divisor : samples 'squared', or 'samples' as in Xplique: a constant factor of the first order
    design : 'scrambled' or 'unscrambled' Sobol sequence, 'lhs' (Latin hypercube) or 'random'
    perturbation : 'inpainting' fades to the space's baseline, 'blur' to its blur, 'amplitude' adds (m - 1/2) sigma
    sigma : range of 'amplitude', in units of the coordinates
    score : 'logit' or 'probability'
    upsampling : how the cells' indices become a map

    Returns
    -------
    (N, 1, H, W), 0 everywhere if the score does not vary; of first order not negative

    Raises
    ------
    LimenError
        If the Sobolev kernel, which lives on [0, 1], is asked of logits, or a total index of Gaussian kernels.

    Notes
    -----
    The preset 'xplique' gives that library's indices at each cell; it draws its maps bicubically, limen bilinearly.

    References
    ----------
    Novello, Fel and Vigouroux 2022, arXiv:2206.06219; Da Veiga 2015, doi:10.1080/00949655.2014.945932.
    """
    if output_kernel == "sobolev" and score != "probability":
        raise LimenError(
            f"attribution 'hsic', option 'output_kernel': given 'sobolev' for score '{score}', allowed is "
            "score 'probability': the kernel lives on [0, 1]."
        )
    if order == "total" and input_kernel == "rbf":
        raise LimenError(
            "attribution 'hsic', option 'order': given 'total' for the input kernel 'rbf', allowed are 'binary' and "
            "'sobolev': the shares of other kernels do not add up."
        )
    coordinates = space.coordinates(engine, images)
    masks = points(draws, design, samples, space.cells(coordinates, side)).type_as(coordinates)
    masks = masks.round() if input_kernel == "binary" else masks
    scores = cell_scores(
        engine, images, Masks.shared(masks), targets,
        space=space, side=side, score=score, perturbation=perturbation, sigma=sigma,
    )  # fmt: skip
    found = dependence(masks, scores, input_kernel=input_kernel, output_kernel=output_kernel, width=width, order=order)
    found = found * samples if divisor == "samples" and order == "first" else found
    return space.spread(found.float(), coordinates, side, mode=upsampling)


def dependence(
    masks: Tensor,
    scores: Tensor,
    *,
    input_kernel: InputKernel = "binary",
    output_kernel: OutputKernel = "rbf",
    width: Width = "distance",
    order: Order = "first",
) -> Tensor:
    """Return HSIC, `tr(K_i H L H) / n^2`, between each column of masks (n, d) and scores (N, n), float64 (N, d).

    Of total order it is a share of the HSIC of all columns together.
    """
    found = []
    for part in scores.double().split(max(1, _NUMBERS // len(masks) ** 2)):
        gram = Gram(part, output_kernel, width)
        if order == "total":
            index = totals(masks, gram, input_kernel)
        elif input_kernel == "binary":
            index = agreement(masks, gram).clamp(min=0) / len(masks) ** 2
        else:
            index = traces(masks, gram, input_kernel).clamp(min=0) / len(masks) ** 2
        varies = part.amax(dim=1, keepdim=True) > part.amin(dim=1, keepdim=True)
        # The kernels are positive semi-definite, so what was below 0 is rounding; a constant depends on nothing.
        found.append(torch.where(varies, index, 0))
    return torch.cat(found)


class Gram:
    """The kernel of scores (B, n) with each other, up to terms that centring removes; made a block of rows at a time.

    Parameters
    ----------
    values : (B, n) float64
    kernel, width : as `hsic` says
    """

    def __init__(self, values: Tensor, kernel: OutputKernel, width: Width) -> None:
        self._values, self._kernel = values, kernel
        if kernel == "rbf":
            scale = median_gap(values) if width == "distance" else values.quantile(0.5, dim=1).abs()
            self._divisor = -2 * scale.clamp(min=_FLOOR).square()[:, None, None]

    def rows(self, most: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of at most `most` rows: where they are, and the kernel there (B, r, n)."""
        images, count = self._values.shape
        fitting = max(1, _NUMBERS // (images * count))
        step = fitting if most is None else min(fitting, most)
        for start in range(0, count, step):
            here = slice(start, min(start + step, count))
            gaps = (self._values[:, here, None] - self._values[:, None, :]).abs_()
            yield here, gaps.mul_(-0.5) if self._kernel == "sobolev" else gaps.square_().div_(self._divisor).exp_()

    def centred(self, most: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield the same of `H L H`."""
        means = torch.cat([block.mean(dim=2) for _, block in self.rows()], dim=1)
        shift = means - means.mean(dim=1, keepdim=True)
        for here, block in self.rows(most):
            yield here, block.sub_(shift[:, here, None]).sub_(means[:, None, :])


def median_gap(values: Tensor) -> Tensor:
    """Return the median distance between two of the values (B, n), (B,), without listing the pairs; 1 if there is none."""
    count = values.shape[1] * (values.shape[1] - 1) // 2
    if not count:
        return torch.ones_like(values[:, 0])
    ordered = (values - values.amin(dim=1, keepdim=True)).sort(dim=1).values
    wanted = (count + 1) // 2
    # No gap is as small as `low`, or fewer than wanted; at `high` there are enough.
    low, high = torch.full_like(ordered[:, 0], -1), ordered[:, -1].clone()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = _pairs_within(ordered, middle) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    median = _next_gap(ordered, low)
    if count % 2:
        return median
    return (median + torch.where(_pairs_within(ordered, median) > wanted, median, _next_gap(ordered, median))) / 2


def _pairs_within(ordered: Tensor, gap: Tensor) -> Tensor:
    """Count the pairs of ordered values (B, n) at most `gap` (B,) apart, (B,)."""
    reached = torch.searchsorted(ordered, ordered + gap[:, None], right=True)
    behind = torch.ones_like(reached).cumsum(dim=1)
    return (reached - behind).clamp(min=0).sum(dim=1)


def _next_gap(ordered: Tensor, gap: Tensor) -> Tensor:
    """Return the smallest distance of a pair that is larger than `gap` (B,), (B,)."""
    last = ordered.shape[1] - 1
    behind = torch.ones_like(ordered).cumsum(dim=1).long()
    first = torch.maximum(torch.searchsorted(ordered, ordered + gap[:, None], right=True), behind)
    found = ordered.gather(1, first.clamp(max=last)) - ordered
    return torch.where(first <= last, found, torch.inf).amin(dim=1)


def agreement(masks: Tensor, gram: Gram) -> Tensor:
    """Return `tr(K_i H L H)` (B, d) of the kernel that asks whether binary masks (n, d) agree, by its closed form.

    It is `2 sum_j (L X)_ji X_ji`, X the masks centred by column: one product for all cells and images.
    """
    columns = masks.double() - masks.double().mean(dim=0)
    parts = [(block @ columns).mul_(columns[here]).sum(dim=1) for here, block in gram.rows()]
    return 2 * torch.stack(parts).sum(dim=0)


def traces(masks: Tensor, gram: Gram, input_kernel: InputKernel) -> Tensor:
    """Return `tr(K_i L)` (B, d) of real-valued masks (n, d), a block of rows of all K_i at a time.

    With L centred, the Sobolev kernel `(x - 1/2)(y - 1/2) + ((x - y)^2 - |x - y| + 1/6) / 2` leaves `-|x - y| / 2`:
    what depends on x or y alone vanishes, and the products cancel.
    """
    columns = masks.double().T
    found = torch.zeros_like(masks[:1, :1]).double()
    for here, block in gram.centred(max(1, _NUMBERS // columns.numel())):
        gaps = columns[:, here, None] - columns[:, None, :]
        if input_kernel == "sobolev":
            kernel = gaps.abs_().mul_(-0.5)
        else:
            kernel = gaps.square_().mul_(-0.5 / _MASK_WIDTH**2).exp_()
        found = found + block.flatten(1) @ kernel.flatten(1).T
    return found


def totals(masks: Tensor, gram: Gram, input_kernel: InputKernel) -> Tensor:
    """Return `1 - tr(K_-i L) / tr(K L)` (B, d), K the product of `1 + k_i` over all columns, K_-i over all but one.

    Each `k_i` integrates to 0 over a column's distribution, fair or uniform, so that shares add up; L is centred.
    """
    columns = masks.double().T
    others = whole = torch.zeros_like(masks[:1, :1]).double()
    for here, rows in gram.centred(max(1, _NUMBERS // columns.numel())):
        one, another = columns[:, here, None], columns[:, None, :]
        factors = 1.5 - (one - another).square()
        if input_kernel == "sobolev":
            gaps = (one - another).abs()
            factors = 1 + (one - 0.5) * (another - 0.5) + (gaps.square() - gaps + 1 / 6) / 2
        product, block = factors.prod(dim=0), rows.flatten(1)
        whole = whole + block @ product.flatten()[:, None]
        others = others + block @ (product / factors).flatten(1).T
    return torch.where(whole > 0, 1 - others / whole, 0)
