"""RISE: the mean score of randomly masked copies, credited to what the masks kept."""

from __future__ import annotations

from math import ceil, prod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import interpolate

from ..engine import Draws, Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space


@attribution(
    version=2,
    citation="arXiv:1806.07421",
    cost="masks forwards",
    presets={
        "rise": {"masks": 4000, "side": 7, "p": 0.5, "score": "probability", "norm": "expected"},
        "xplique": {"masks": 4000, "side": 7, "p": 0.5, "score": "logit", "norm": "sum"},
    },
)
def rise(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    masks: PositiveInt = 4000,
    side: PositiveInt | None = 7,
    p: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    smooth: bool = True,
    score: Literal["logit", "probability"] = "probability",
    norm: Literal["sum", "expected"] = "sum",
) -> Tensor:
    """Average random masks, each weighted by the score of the image seen through it.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates and baseline
    draws : Draws; the masks are the same for all images
    masks : number of masks
    side : cells of the coarse Bernoulli mask along each axis; None, without `smooth`, is one cell a coordinate place
    p : probability that a cell is kept
    smooth : upsample the coarse masks bilinearly and shift each at random, as published; False keeps or hides the
        space's own cells, as is always done where places have no order (concepts)
    score : 'probability' or 'logit' (Xplique's)
    norm : divide by the 'sum' of the masks at each place, or by its 'expected' value masks * p (the paper's)

    Returns
    -------
    (N, 1, H, W)

    Raises
    ------
    LimenError
        If masks without a side are to be smooth.

    Notes
    -----
    Each mask is bilinearly upsampled to (side + 1) * ceil(length / side) and cropped at an offset of its own. The
    upsampling is linear and separable, so the weighted sum of all masks is found from the sums of the coarse masks that
    share an offset: no full-size mask is kept.

    References
    ----------
    Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
    """
    coordinates = space.coordinates(engine, images)
    if not (smooth and space.ordered):
        bits = draws.spawn("bits").bernoulli(p, masks, space.cells(coordinates, side)).type_as(coordinates)
        scores = engine.perturbed_scores(images, Masks.shared(bits), targets, space=space, score=score, side=side)
        credit = average(with_ones(scores) @ bits, masks * p if norm == "expected" else None)
        return space.spread(credit, coordinates, side)
    if side is None:
        raise LimenError("attribution 'rise', option 'side': given None, allowed is a number, or smooth=False.")
    lengths = coordinates.shape[2:]
    axes = len(lengths)
    bases = [interpolation(length, side, images) for length in lengths]
    bits = draws.spawn("bits").bernoulli(p, masks, *[side] * axes).type_as(images)
    offsets = [draws.spawn("offset", axis).integers(len(basis), masks) for axis, basis in enumerate(bases)]

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        mask = bits[mask_index]
        for basis, offset in zip(bases, offsets, strict=True):
            rows = mask.flatten(2).transpose(1, 2) if axes > 1 else mask.unsqueeze(1)
            mask = torch.bmm(rows, basis[offset[mask_index]]).unflatten(1, mask.shape[2:] or (1,))
        return mask.reshape(len(mask_index), 1, *lengths)

    scores = engine.perturbed_scores(images, Masks.lazy(masks, build), targets, space=space, score=score)
    sums = accumulate(with_ones(scores), bits, offsets, bases)
    return average(sums, masks * p if norm == "expected" else None).unsqueeze(1)


def with_ones(scores: Tensor) -> Tensor:
    """Return scores (N, M) over a row of ones, whose weighted sum is that of the masks themselves."""
    return torch.cat([scores, torch.ones_like(scores[:1])])


def average(sums: Tensor, expected: float | None) -> Tensor:
    """Divide sums (N + 1, ...) of scores times masks by the last of them, the masks' own, or by its expectation."""
    kept = sums[-1:] if expected is None else torch.full_like(sums[-1:], expected)
    return torch.where(kept > 0, sums[:-1] / kept, 0)


def interpolation(length: int, side: int, like: Tensor) -> Tensor:
    """Return (offsets, side, length): the linear upsampling of `side` cells, cropped at each offset."""
    cell = ceil(length / side)
    one_hot = torch.eye(side).type_as(like).unsqueeze(1)
    upsampled = interpolate(one_hot, size=(side + 1) * cell, mode="linear", align_corners=False).squeeze(1)
    return torch.stack([upsampled[:, offset : offset + length] for offset in range(cell)])


def accumulate(weights: Tensor, bits: Tensor, offsets: list[Tensor], bases: list[Tensor]) -> Tensor:
    """Sum the upsampled masks with `weights` (R, M) into (R, *lengths)."""
    shifts = [len(basis) for basis in bases]
    group = torch.zeros_like(offsets[0])
    for offset, count in zip(offsets, shifts, strict=True):
        group = group * count + offset
    # In float64: on a GPU the order of the sums varies, and must not show.
    coarse = bits.flatten(1).double()
    sums = coarse.new_zeros(len(weights), prod(shifts), coarse.shape[1])
    for row, weight in zip(sums, weights.double(), strict=True):
        row.index_add_(0, group, weight.unsqueeze(1) * coarse)
    sums = sums.type_as(weights).reshape(len(weights), *shifts, *bits.shape[1:])
    for done, basis in enumerate(bases):
        sums = torch.tensordot(sums, basis, dims=([1, 1 + len(bases) - done], [0, 1]))
    return sums
