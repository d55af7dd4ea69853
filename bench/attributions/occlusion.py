"""Occlusion: how much the score drops when a window is covered by the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import ceil
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..engine import Engine, Masks, Within
from ..registry import LimenError, attribution
from ..spaces import Space

Border = Literal["clamp", "cut", "drop", "wrap"]
Lengths = PositiveInt | tuple[PositiveInt, ...]


@attribution(
    version=2,
    citation="arXiv:1311.2901",
    cost="windows + 2 forwards at most, those of windows in part (729 windows at the defaults)",
    presets={
        "xplique": {"patch": 3, "stride": 3, "reduce_windows": "sum", "border": "drop"},
        "captum": {"reduce_windows": "mean", "border": "cut"},
        "quantus": {"patch": 4, "stride": 1, "reduce_windows": "mean", "border": "cut"},
        "zennit": {"patch": 8, "stride": 8, "reduce_windows": "sum", "border": "wrap", "window": "keep"},
    },
)
def occlusion(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    patch: Lengths | None = None,
    stride: Lengths | None = None,
    window: Literal["hide", "keep"] = "hide",
    border: Border = "clamp",
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
    patch : side of the window, or its sides, one an axis; None is a fourteenth of the shortest axis, rounded up, and 1
        where places have no order (concepts)
    stride : step between windows, likewise; None is half a patch
    window : 'hide' covers the window and credits the drop of the score; 'keep' covers all but the window and credits
        the score itself, which is inclusion (zennit's default)
    border : where the last window does not fit, 'clamp' moves it back to the border, so that all windows are equal and
        every coordinate is covered; 'cut' keeps the part inside (captum), 'drop' leaves the window out (Xplique: what
        no window covers gets 0), 'wrap' goes on at the other border (zennit)
    reduce_windows : 'mean' or 'sum' of the windows over a coordinate
    score : 'logit' or 'probability'

    Returns
    -------
    (N, 1, H, W), signed

    Raises
    ------
    LimenError
        If there is not one patch or stride an axis, or a stride is larger than its patch, which would leave gaps.

    References
    ----------
    Zeiler, Fergus 2014, arXiv:1311.2901.
    """
    coordinates = space.coordinates(engine, images)
    lengths = coordinates.shape[2:]
    patch = (ceil(min(lengths) / 14) if space.ordered else 1) if patch is None else patch
    sides = per_axis("patch", patch, len(lengths))
    steps = per_axis("stride", tuple(max(1, side // 2) for side in sides) if stride is None else stride, len(lengths))
    for side, step in zip(sides, steps, strict=True):
        if step > side:
            raise LimenError(
                f"attribution 'occlusion', option 'stride': given {step}, allowed is at most the patch of {side}."
            )
    sides = tuple(min(side, length) for side, length in zip(sides, lengths, strict=True))
    begins = [starts(*axis, border) for axis in zip(lengths, sides, steps, strict=True)]
    covers = [windows(*axis, border, images) for axis in zip(lengths, sides, begins, strict=True)]
    counts = [len(cover) for cover in covers]
    # A place is outside a window if it is along any axis, so one pass over it makes the mask.
    factors, combine = ([1 - cover for cover in covers], torch.maximum) if window == "hide" else (covers, torch.mul)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        places = torch.unravel_index(mask_index, counts)
        return outer([each[place] for each, place in zip(factors, places, strict=True)], combine).unsqueeze(1)

    boxes = None
    if window == "hide" and border != "wrap" and len(lengths) == 2:
        # What is cut at a border lies inside a whole window that ends there.
        inside = (
            torch.tensor(begin).clamp(max=length - side)
            for begin, length, side in zip(begins, lengths, sides, strict=True)
        )
        boxes = Within(torch.cartesian_prod(*inside), (sides[0], sides[1]))
    masks = Masks.lazy(reduce(int.__mul__, counts), build, boxes)
    credit = engine.perturbed_scores(images, masks, targets, space=space, score=score)
    if window == "hide":
        # The untouched copy goes through the space too: where coordinates only approximate the image,
        # the drop must not contain that error.
        untouched = Masks.shared(coordinates.new_ones(1, 1, *lengths))
        credit = engine.perturbed_scores(images, untouched, targets, space=space, score=score) - credit
    credit = credit.reshape(len(images), *counts)
    for cover in covers:
        credit = torch.tensordot(credit, cover, dims=([1], [0]))
    if reduce_windows == "mean":
        credit = credit / outer([cover.sum(dim=0, keepdim=True) for cover in covers]).clamp(min=1)
    return credit.unsqueeze(1)


def per_axis(option: str, given: Lengths, axes: int) -> tuple[int, ...]:
    """Return one number an axis.

    Raises
    ------
    LimenError
        If as many numbers as axes are not given.
    """
    numbers = (given,) * axes if isinstance(given, int) else tuple(given)
    if len(numbers) != axes:
        raise LimenError(
            f"attribution 'occlusion', option '{option}': given {len(numbers)} numbers, allowed is one, or one for "
            f"each of {axes} axes."
        )
    return numbers


def starts(length: int, patch: int, stride: int, border: Border) -> list[int]:
    """Return where the windows of an axis begin."""
    last = length - patch
    return {
        "clamp": [*range(0, last, stride), last],
        "cut": list(range(0, last + stride, stride)),
        "drop": list(range(0, last + 1, stride)),
        "wrap": list(range(0, length, stride)),
    }[border]


def windows(length: int, patch: int, begin: Sequence[int], border: Border, like: Tensor) -> Tensor:
    """Return (n, length): 1 where window i covers the place."""
    places = like.new_ones(length).cumsum(0) - 1
    gaps = places - like.new_tensor(begin)[:, None]
    gaps = gaps % length if border == "wrap" else gaps
    return ((gaps >= 0) & (gaps < patch)).type_as(like)


def outer(factors: Sequence[Tensor], combine: Callable[[Tensor, Tensor], Tensor] = torch.mul) -> Tensor:
    """Combine (B, L1), (B, L2) ... into (B, L1, L2 ...)."""
    return reduce(
        lambda left, right: combine(left.unsqueeze(-1), right.reshape(len(right), *[1] * (left.ndim - 1), -1)), factors
    )
