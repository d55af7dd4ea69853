"""Occlusion: how much the score drops when a window is covered by the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import ceil
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:1311.2901", cost="windows + 1 forwards (729 at the defaults)")
def occlusion(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    patch: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    reduce_windows: Literal["mean", "sum"] = "mean",
    score: Literal["logit", "probability"] = "logit",
) -> Tensor:
    """Give each coordinate the mean drop of the score over the covering windows it lies in.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates and baseline
    patch : side of the window; None is a fourteenth of the shorter side, rounded up
    stride : step between windows; None is half a patch. The last window is moved back to the border, so every
        coordinate is covered.
    reduce_windows : 'mean' or 'sum' (Xplique's) of the drops of the windows over a coordinate
    score : 'logit' or 'probability'

    Returns
    -------
    (N, 1, H, W), signed

    Raises
    ------
    LimenError
        If the stride is larger than the patch, which would leave coordinates uncovered.

    References
    ----------
    Zeiler, Fergus 2014, arXiv:1311.2901.
    """
    coordinates = space.coordinates(engine, images)
    lengths = coordinates.shape[2:]
    patch = ceil(min(lengths) / 14) if patch is None else patch
    stride = max(1, patch // 2) if stride is None else stride
    if stride > patch:
        raise LimenError(
            f"attribution 'occlusion', option 'stride': given {stride}, allowed is at most the patch of {patch}."
        )
    covers = [windows(length, patch, stride, images) for length in lengths]
    counts = [len(cover) for cover in covers]
    total = reduce(int.__mul__, counts)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        places = torch.unravel_index(mask_index, counts)
        covered = outer([cover[place] for cover, place in zip(covers, places, strict=True)])
        return (1 - covered).unsqueeze(1)

    # The untouched copy goes through the space too: where coordinates only approximate the image,
    # the drop must not contain that error.
    nothing_covered = Masks.shared(coordinates.new_ones(1, 1, *lengths))
    whole = engine.perturbed_scores(images, nothing_covered, targets, space=space, score=score)
    kept = engine.perturbed_scores(images, Masks.lazy(total, build), targets, space=space, score=score)
    credit = (whole - kept).reshape(len(images), *counts)
    for cover in covers:
        credit = torch.tensordot(credit, cover, dims=([1], [0]))
    if reduce_windows == "mean":
        credit = credit / outer([cover.sum(dim=0, keepdim=True) for cover in covers])
    return credit.unsqueeze(1)


def windows(length: int, patch: int, stride: int, like: Tensor) -> Tensor:
    """Return (n, length): 1 where window i covers the place, the last window clamped to the border."""
    last = max(length - patch, 0)
    starts = like.new_tensor([*range(0, last, stride), last])
    places = starts.new_ones(length).cumsum(0) - 1
    return ((places >= starts[:, None]) & (places < starts[:, None] + patch)).type_as(like)


def outer(factors: Sequence[Tensor]) -> Tensor:
    """Multiply (B, L1), (B, L2) ... into (B, L1, L2 ...)."""
    return reduce(
        lambda left, right: left.unsqueeze(-1) * right.reshape(len(right), *[1] * (left.ndim - 1), -1), factors
    )
