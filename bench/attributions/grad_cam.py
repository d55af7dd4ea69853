"""Grad-CAM: the channels of a layer, weighted by the mean gradient they receive."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate

from ..engine import Engine
from ..registry import LimenError, attribution


@attribution(version=1, citation="arXiv:1610.02391", cost="1 forward + 1 partial backward")
def grad_cam(engine: Engine, images: Tensor, targets: Tensor, *, layer: str | None = None, relu: bool = True) -> Tensor:
    """Weight each channel of a layer by its mean gradient, sum, rectify and upsample bilinearly.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    layer : name of a layer with (N, K, h, w) activations; None takes the network's own default
    relu : keep only evidence for the class, as published

    Returns
    -------
    (N, 1, H, W), non-negative with `relu`

    Raises
    ------
    LimenError
        If the layer's activations have no height and width.

    References
    ----------
    Selvaraju et al. 2017, arXiv:1610.02391.
    """
    activations, gradients = engine.tap_gradients(images, layer, targets)
    if activations.ndim != 4:
        raise LimenError(
            f"attribution 'grad_cam', layer '{layer or engine.default_layer(images)}': given activations of shape {tuple(activations.shape[1:])}, "
            "allowed is (channels, height, width)."
        )
    cam = (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)
    if relu:
        cam = cam.relu()
    return interpolate(cam, size=images.shape[-2:], mode="bilinear", align_corners=False)
