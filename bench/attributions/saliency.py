"""Saliency: the size of the gradient of the score."""

from __future__ import annotations

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:1312.6034", cost="1 forward + 1 backward")
def saliency(engine: Engine, images: Tensor, targets: Tensor, *, space: Space) -> Tensor:
    """Take the largest absolute derivative of the logit over the channels of each coordinate.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit

    Returns
    -------
    (N, 1, H, W), non-negative

    References
    ----------
    Simonyan, Vedaldi, Zisserman 2014, arXiv:1312.6034.
    """
    return engine.gradients(images, targets, space=space).abs().amax(dim=1, keepdim=True)
