"""Gradient x input: the first-order share of each coordinate in the score."""

from __future__ import annotations

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ..spaces import Space
from ._channels import Channels, credit


@attribution(
    version=2,
    citation="arXiv:1605.01713",
    cost="1 forward + 1 backward",
    presets={"xplique": {"channels": "mean"}, "captum": {}, "quantus": {}},
)
def gradient_input(
    engine: Engine, images: Tensor, targets: Tensor, *, space: Space, channels: Channels = "sum"
) -> Tensor:
    """Multiply each coordinate by the derivative of the logit, summed over channels with sign.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit
    channels : 'sum', which alone keeps completeness, or 'mean' over the channels

    Returns
    -------
    (N, 1, H, W), signed

    References
    ----------
    Shrikumar et al. 2016, arXiv:1605.01713.
    """
    coordinates = space.coordinates(engine, images)
    return credit(coordinates * engine.gradients(images, targets, space=space), space, channels)
