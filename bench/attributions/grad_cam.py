"""Grad-CAM: the channels of a layer, weighted by the mean gradient they receive."""

from __future__ import annotations

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ._cam import Upsampling, check_places, drawn


@attribution(
    version=2,
    citation="arXiv:1610.02391",
    cost="1 forward + 1 partial backward",
    presets={
        "xplique": {"upsampling": "bicubic"},
        "captum": {"relu": False, "upsampling": "nearest"},
        "grad-cam": {"scaled": True},
    },
)
def grad_cam(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    relu: bool = True,
    upsampling: Upsampling = "bilinear",
    scaled: bool = False,
) -> Tensor:
    """Weight each channel of a layer by its mean gradient, sum, rectify and upsample.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    layer : name of a layer with (N, K, h, w) activations; None takes the network's own default
    relu : keep only evidence for the class, as published
    upsampling : how the layer's grid becomes a map
    scaled : scale each map to [0, 1]

    Returns
    -------
    (N, 1, H, W), non-negative with `relu`, but for the overshoot of 'bicubic'

    Raises
    ------
    LimenError
        If the layer's activations have no height and width.

    References
    ----------
    Selvaraju et al. 2017, arXiv:1610.02391.
    """
    activations, gradients = engine.tap_gradients(images, layer, targets)
    check_places(activations, engine, images, layer, "grad_cam")
    cam = (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)
    return drawn(cam, images, relu=relu, upsampling=upsampling, scaled=scaled)
