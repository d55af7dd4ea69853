"""Grad-CAM++: the channels of a layer, weighted by their positive gradients and by how local these are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ._cam import Upsampling, check_places, drawn


@attribution(
    version=1,
    citation="arXiv:1710.11063",
    cost="1 forward + 1 partial backward",
    presets={"xplique": {"pooling": "mean", "upsampling": "bicubic"}, "grad-cam": {"scaled": True}},
)
def grad_cam_pp(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    pooling: Literal["sum", "mean"] = "sum",
    relu: bool = True,
    upsampling: Upsampling = "bilinear",
    scaled: bool = False,
) -> Tensor:
    """Weight each channel of a layer by its positive gradients, each place by its share, sum, rectify and upsample.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    layer : name of a layer with (N, K, h, w) activations; None takes the network's own default
    pooling : 'sum' over places as published (equation 19), or Xplique's 'mean'
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
    Chattopadhay et al. 2018, arXiv:1710.11063.
    """
    activations, gradients = engine.tap_gradients(images, layer, targets)
    check_places(activations, engine, images, layer, "grad_cam_pp")
    weights = channel_weights(activations, gradients, pooling)
    return drawn(
        (weights * activations).sum(dim=1, keepdim=True), images, relu=relu, upsampling=upsampling, scaled=scaled
    )


def channel_weights(activations: Tensor, gradients: Tensor, pooling: Literal["sum", "mean"] = "sum") -> Tensor:
    """Return the weights (N, K, 1, 1) of equation 19: `g^2 / (2 g^2 + S g^3)` is `1 / (2 + S g)` where g is not 0."""
    divisor = 2 + _pooled(activations, pooling) * gradients
    alpha = torch.where((gradients != 0) & (divisor != 0), 1 / divisor, 0)
    return _pooled(alpha * gradients.relu(), pooling)


def _pooled(values: Tensor, pooling: str) -> Tensor:
    places = (2, 3)
    return values.sum(dim=places, keepdim=True) if pooling == "sum" else values.mean(dim=places, keepdim=True)
