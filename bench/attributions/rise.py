"""RISE: the mean score of randomly masked copies, credited to what the masks kept."""

from __future__ import annotations

from math import ceil, prod
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import interpolate

from ..engine import Draws, Engine, Masks
from ..registry import attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:1806.07421", cost="masks forwards")
def rise(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    masks: PositiveInt = 4000,
    side: PositiveInt = 7,
    p: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    score: Literal["logit", "probability"] = "probability",
    norm: Literal["sum", "expected"] = "sum",
) -> Tensor:
    """Average smooth random masks, each weighted by the score of the image seen through it.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates and baseline
    draws : Draws; the masks are the same for all images
    masks : number of masks
    side : cells of the coarse Bernoulli mask along each axis
    p : probability that a cell is kept
    score : 'probability' or 'logit' (Xplique's)
    norm : divide by the 'sum' of the masks at each place, or by its 'expected' value masks * p (the paper's)

    Returns
    -------
    (N, 1, H, W)

    Notes
    -----
    Each mask is bilinearly upsampled to (side + 1) * ceil(length / side) and cropped at an offset of its own. The
    upsampling is linear and separable, so the weighted sum of all masks is found from the sums of the coarse masks that
    share an offset: no full-size mask is kept.

    References
    ----------
    Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
    """
    lengths = space.coordinates(engine, images).shape[2:]
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
    weights = torch.cat([scores, torch.ones_like(scores[:1])])
    sums = accumulate(weights, bits, offsets, bases)
    kept = sums[-1:] if norm == "sum" else torch.full_like(sums[-1:], masks * p)
    return torch.where(kept > 0, sums[:-1] / kept, 0).unsqueeze(1)


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
    coarse = bits.flatten(1)
    sums = weights.new_zeros(len(weights), prod(shifts), coarse.shape[1])
    for row, weight in zip(sums, weights, strict=True):
        row.index_add_(0, group, weight.unsqueeze(1) * coarse)
    sums = sums.reshape(len(weights), *shifts, *bits.shape[1:])
    for done, basis in enumerate(bases):
        sums = torch.tensordot(sums, basis, dims=([1, 1 + len(bases) - done], [0, 1]))
    return sums
