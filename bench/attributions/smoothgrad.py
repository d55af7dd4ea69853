"""SmoothGrad and its kin: statistics of the gradient over noisy copies of the image."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine
from ..registry import LimenError, attribution
from ..spaces import Space


@attribution(version=1, citation="arXiv:1706.03825; arXiv:1810.03307", cost="samples forwards + samples backwards")
def smoothgrad(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    samples: PositiveInt = 50,
    sigma: NonNegativeFloat = 0.15,
    relative: bool = True,
    statistic: Literal["mean", "square", "variance"] = "mean",
) -> Tensor:
    """Average the gradient of the logit over Gaussian noise on the image, or take its square or variance.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit
    draws : Draws; the noise is keyed by each image's content
    samples : noisy copies an image
    sigma : standard deviation of the noise
    relative : `sigma` is a share of the image's range (largest minus smallest number), else absolute
    statistic : 'mean' (SmoothGrad), 'square' (SquareGrad) or 'variance' (VarGrad, divisor samples - 1)

    Returns
    -------
    (N, 1, H, W), signed for 'mean', else non-negative; channels are summed

    Raises
    ------
    LimenError
        If the variance of a single sample is asked for.

    References
    ----------
    Smilkov et al. 2017, arXiv:1706.03825; Hooker et al. 2019, arXiv:1806.10758; Adebayo et al. 2018, arXiv:1810.03307.
    """
    if statistic == "variance" and samples < 2:
        raise LimenError(f"attribution 'smoothgrad', option 'samples': given {samples}, the variance needs at least 2.")
    streams = draws.for_images(images)
    values = images.flatten(1)
    spread = (values.amax(dim=1) - values.amin(dim=1)) if relative else torch.ones_like(values[:, 0])
    scale = (sigma * spread).reshape(-1, 1, 1, 1)
    mean = squares = torch.zeros_like(space.coordinates(engine, images))
    for count in range(1, samples + 1):
        noise = torch.stack([stream.normal(*images.shape[1:]) for stream in streams])
        slope = engine.gradients(images + scale * noise, targets, space=space)
        # Welford's update: the sum of squares around the mean, free of cancellation.
        step = slope - mean
        mean = mean + step / count
        squares = squares + step * (slope - mean)
    if statistic == "variance":
        return space.credit(squares / (samples - 1))
    return space.credit(mean if statistic == "mean" else squares / samples + mean.square())
