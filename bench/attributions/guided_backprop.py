"""Guided backpropagation: the gradient that passes a ReLU only where both it and the ReLU's input are positive."""

from __future__ import annotations

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ..spaces import Space
from ._channels import Channels, credit


@attribution(
    version=1,
    citation="arXiv:1412.6806",
    cost="1 forward + 1 backward",
    presets={"xplique": {"channels": "mean"}, "captum": {}, "zennit": {}},
)
def guided_backprop(
    engine: Engine, images: Tensor, targets: Tensor, *, space: Space, channels: Channels = "sum"
) -> Tensor:
    """Send the logit back, at each ReLU only where the gradient is positive and the ReLU was open.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit
    channels : 'sum' or 'mean' over the channels

    Returns
    -------
    (N, 1, H, W), signed

    Raises
    ------
    LimenError
        If the network has no ReLU operation, or hides them (compiled, scripted, checkpointed).

    References
    ----------
    Springenberg et al. 2015, arXiv:1412.6806.
    """
    return credit(engine.gradients(images, targets, space=space, rule="guided"), space, channels)
