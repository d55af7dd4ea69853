"""VarGrad: the variance of the gradient, or of any explainer, over noisy copies of the image."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine
from ..registry import LimenError, attribution
from ..spaces import Space
from ._channels import Channels, credit
from ._moments import GRADIENT, PRESETS, Noise, Options, moments


@attribution(
    version=1,
    citation="arXiv:1810.03307",
    cost="samples forwards + samples backwards",
    presets={**PRESETS, "captum": {**PRESETS["captum"], "unbiased": False}},
)
def vargrad(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    samples: PositiveInt = 50,
    sigma: NonNegativeFloat = 0.15,
    relative: bool = True,
    last_clean: bool = False,
    unbiased: bool = True,
    of: Any = GRADIENT,
    of_options: Options | None = None,
    channels: Channels = "sum",
) -> Tensor:
    """Take the variance of the gradient of the logit over Gaussian noise on the image.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, the coordinates that receive the credit
    draws : Draws; the noise is keyed by each image's content and the number of the copy
    samples : noisy copies an image
    sigma : standard deviation of the noise
    relative : `sigma` is a share of the image's range (largest minus smallest number), else absolute
    last_clean : the last copy is the image itself
    unbiased : divide by samples - 1, else by samples (captum)
    of : 'gradient', whose moments are taken in one pass, or any other explainer: a registered name, and in Python
        whatever `bench.api.explain` takes
    of_options : the options of that explainer
    channels : 'sum' or 'mean' over the channels; a matter of the gradient alone, other explainers give one value a place

    Returns
    -------
    (N, 1, H, W), non-negative

    Raises
    ------
    LimenError
        If `of` names no explainer, or the variance of a single sample is asked for.

    References
    ----------
    Adebayo et al. 2018, arXiv:1810.03307.
    """
    if samples < 2:
        raise LimenError(f"attribution 'vargrad', option 'samples': given {samples}, the variance needs at least 2.")
    noise = Noise(samples=samples, sigma=sigma, relative=relative, last_clean=last_clean)
    found = moments(engine, images, targets, noise, space=space, draws=draws, of=of, of_options=of_options)
    values = found.variance(unbiased=unbiased)
    return credit(values, space, channels) if of == GRADIENT else values
