"""Random logit test: a map for another class should not look like the map for this one."""

from __future__ import annotations

import torch
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import LimenError, metric
from .._noisy import Explainer
from ._layers import SAID, SIMILARITIES, Similarity


@metric(
    version=1,
    citation="arXiv:1912.09818",
    cost="1 explanation",
    of="maps",
    direction="down",
    bounds=(-1.0, 1.0),
    null="an explainer that does not look at the class: 1",
)
def random_logit(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    similarity: Similarity = "ssim",
) -> Measurement:
    """Compare the map with the map for another class, drawn for each image.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    explainer : explains the other class in the way the maps were made
    draws : Draws; the class is keyed by the image's content
    similarity : 'ssim' or 'spearman'

    Returns
    -------
    Measurement
        Values (N,), lower is better; NaN where 'spearman' meets a constant map. `extra['other']` is the class drawn.

    Raises
    ------
    LimenError
        If the network has a single class.

    References
    ----------
    Sixt, Granz, Landgraf 2020, arXiv:1912.09818.
    """
    classes = engine.scores(images).shape[1]
    if classes < 2:
        raise LimenError(
            f"metric 'random_logit': given network '{engine.network.name}' of {classes} class, allowed are two or more."
        )
    steps = torch.stack([stream.integers(classes - 1) for stream in draws.for_images(images)])
    others = (targets + 1 + steps) % classes
    return Measurement(
        values=SIMILARITIES[similarity](maps, explainer(images, others)),
        convention=f"{SAID[similarity]} of the signed maps for the class explained and for one other class drawn for the image",
        extra={"other": others},
    )
