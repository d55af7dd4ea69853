"""FEM: the places where the channels of a layer are far above their own mean; no gradient, no class."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..engine import Engine
from ..registry import attribution
from ._cam import Upsampling, check_places, drawn


@attribution(
    version=1,
    citation="doi:10.1109/IPTA50016.2020.9286629",
    cost="1 forward",
    presets={
        "xplique": {"upsampling": "bicubic"},
        "grad-cam": {"sums": "activations", "relu": True, "scaled": True},
    },
)
def fem(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    deviations: float = 2.0,
    sums: Literal["masks", "activations"] = "masks",
    relu: bool = False,
    upsampling: Upsampling = "bilinear",
    scaled: bool = False,
) -> Tensor:
    """Sum over channels where each is rare: above its mean by some standard deviations of its own map.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, unused: the map is of the layer, not of a class
    layer : name of a layer with (N, K, h, w) activations; None takes the network's own default
    deviations : standard deviations (of the population of places) above the mean from which a place is rare
    sums : 'masks' adds the masks of rare places, weighted by the channel's mean (Xplique); 'activations' adds the
        channels, weighted by their share of rare places (pytorch-grad-cam): another map
    relu : keep only what is positive
    upsampling : how the layer's grid becomes a map
    scaled : scale each map to [0, 1]

    Returns
    -------
    (N, 1, H, W), non-negative where the layer is

    Raises
    ------
    LimenError
        If the layer's activations have no height and width.

    References
    ----------
    Fuad et al. 2020, doi:10.1109/IPTA50016.2020.9286629.
    """
    activations = engine.tap(images, layer)
    check_places(activations, engine, images, layer, "fem")
    mean = activations.mean(dim=(2, 3), keepdim=True)
    spread = activations.std(dim=(2, 3), keepdim=True, correction=0)
    rare = (activations >= mean + deviations * spread).type_as(activations)
    if sums == "masks":
        found = (mean * rare).sum(dim=1, keepdim=True)
    else:
        found = (rare.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)
    return drawn(found, images, relu=relu, upsampling=upsampling, scaled=scaled)
