"""Score-CAM: the channels of a layer, weighted by the score of the image seen through each of them."""

from __future__ import annotations

from torch import Tensor

from ..engine import Engine, Masks
from ..registry import LimenError, attribution
from ..spaces import Pixels, Space
from ._cam import Upsampling, check_places, drawn


@attribution(
    version=1,
    citation="arXiv:1910.01279",
    cost="1 + channels forwards",
    presets={"grad-cam": {"scaled": True}},
)
def score_cam(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    layer: str | None = None,
    relu: bool = True,
    upsampling: Upsampling = "bilinear",
    scaled: bool = False,
) -> Tensor:
    """Weight each channel of a layer by the softmax over channels of the score it keeps as a mask, sum and rectify.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Space, coordinates and baseline; what a mask hides becomes the baseline
    layer : name of a layer with (N, K, h, w) activations; None takes the network's own default
    relu : keep only what is positive, as published
    upsampling : how the layer's grid becomes a mask and a map
    scaled : scale each map to [0, 1]

    Returns
    -------
    (N, 1, H, W), non-negative with `relu`, but for the overshoot of 'bicubic'

    Raises
    ------
    LimenError
        If the layer's activations have no height and width, or the space is not that of pixels.

    References
    ----------
    Wang et al. 2020, arXiv:1910.01279.
    """
    if not isinstance(space, Pixels):
        raise LimenError(f"attribution 'score_cam', space: given '{space.name}', allowed is pixels, which it masks.")
    activations = engine.tap(images, layer)
    check_places(activations, engine, images, layer, "score_cam")

    def build(image: Tensor, channel: Tensor) -> Tensor:
        seen = activations[image, channel].unsqueeze(1)
        # Scaled after upsampling, as published, so that bicubic overshoot stays within [0, 1].
        return drawn(seen, images, relu=False, upsampling=upsampling, scaled=True)

    masks = Masks.lazy(activations.shape[1], build)
    scores = engine.perturbed_scores(images, masks, targets, space=space)
    cam = (scores.softmax(dim=1)[..., None, None] * activations).sum(dim=1, keepdim=True)
    return drawn(cam, images, relu=relu, upsampling=upsampling, scaled=scaled)
