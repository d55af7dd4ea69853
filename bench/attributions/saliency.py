"""Saliency: the size of the gradient of the score."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ..spaces import Space


@attribution(
    version=2,
    citation="arXiv:1312.6034",
    cost="1 forward + 1 backward",
    presets={"xplique": {"channels": "max"}, "quantus": {"channels": "sum"}, "wam": {"channels": "mean"}},
)
def saliency(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    channels: Literal["max", "sum", "mean"] = "max",
) -> Tensor:
    """Take the absolute derivative of the logit, the largest over the channels of each coordinate.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit
    channels : largest, sum or mean of the absolute derivatives over the channels

    Returns
    -------
    (N, 1, H, W), non-negative

    References
    ----------
    Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034.
    """
    sizes = engine.gradients(images, targets, space=space).abs()
    if channels == "max":
        return sizes.amax(dim=1, keepdim=True)
    return sizes.sum(dim=1, keepdim=True) if channels == "sum" else sizes.mean(dim=1, keepdim=True)
