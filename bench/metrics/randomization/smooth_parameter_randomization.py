"""Smooth parameter randomisation: the same test on maps averaged over noisy copies, free of the gradient's own noise."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer, Noise, batches
from ._layers import Order, Similarity, by_layer


@metric(
    version=1,
    citation="arXiv:2401.06465",
    cost="(steps + 1) x samples explanations",
    of="maps",
    direction="down",
    bounds=(-1.0, 1.0),
    null="an explainer that does not look at the network: 1",
)
def smooth_parameter_randomization(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    samples: PositiveInt = 50,
    sigma: PositiveFloat = 0.1,
    order: Order = "cumulative",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    steps: PositiveInt | None = None,
) -> Measurement:
    """Average the similarity to maps of randomised networks, each map being a mean over noisy copies of the image.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained, on the copies too
    maps : (N, 1, H, W), unused: both sides of a comparison are averaged over the same noise
    explainer : explains the copies and the randomised networks in the way the maps were made
    draws : Draws; noise keyed by each image's content, the same for every network
    samples : noisy copies an image
    sigma : standard deviation of the noise, as a share of the image's range
    order, similarity, absolute, steps : as in `parameter_randomization`

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve over the share of layers randomised.

    References
    ----------
    Hedström, Weber, Lapuschkin, Höhne 2024, arXiv:2401.06465.
    """
    noise = Noise("normal", sigma, samples, relative=True)

    def explain(on: Engine) -> Tensor:
        total = torch.zeros_like(maps)
        for index, copies in batches(images, noise, draws.spawn("noise")):
            total = total.index_add(0, index, explainer(copies, targets[index], on=on))
        return total / samples

    found = by_layer(
        engine, images, explain, draws=draws, order=order, steps=steps, similarity=similarity, absolute=absolute
    )
    return replace(found, convention=f"{found.convention}; each map is the mean over {noise}")
