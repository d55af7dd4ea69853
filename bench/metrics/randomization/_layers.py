"""Maps of a network whose layers are randomised one after another, compared with the map of the network itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ...engine import Draws, Engine
from ...engine.randomise import layers_from_the_top, reinitialised
from ...records import Measurement
from .._similarity import spearman, ssim

Order = Literal["cumulative", "independent"]
Similarity = Literal["spearman", "ssim"]
SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"spearman": spearman, "ssim": ssim}
SAID = {
    "spearman": "Spearman with average ranks over places",
    "ssim": "2-D SSIM (Gaussian window 11, sigma 1.5) of maps divided by their largest |value|, zero at mid-grey",
}


def by_layer(
    engine: Engine,
    images: Tensor,
    explain: Callable[[Engine], Tensor],
    *,
    draws: Draws,
    order: Order,
    steps: int | None,
    similarity: Similarity,
    absolute: bool,
) -> Measurement:
    """Compare the map of the network with those of copies whose layers are randomised, from the top.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W), for the order of the layers
    explain : maps (N, 1, H, W) of the network an engine runs
    draws : Draws; each parameter has its own stream
    order : 'cumulative' (all layers from the top down to this one) or 'independent' (this one alone)
    steps : at most so many networks, evenly spaced over the layers, the last one included; None = every layer
    similarity, absolute : as in `parameter_randomization`

    Returns
    -------
    Measurement
        Values (N,) = mean over the layers at which the similarity is defined.
    """
    layers = layers_from_the_top(engine, images)
    count = len(layers) if steps is None else min(steps, len(layers))
    ends = [(step + 1) * len(layers) // count for step in range(count)]
    learned = explain(engine)
    alike = []
    for end in ends:
        chosen = layers[:end] if order == "cumulative" else layers[end - 1 : end]
        found = explain(engine.beside(reinitialised(engine.network, chosen, draws)))
        pair = (learned.abs(), found.abs()) if absolute else (learned, found)
        alike.append(SIMILARITIES[similarity](*pair))
    curve = torch.stack(alike, dim=1)
    form = "all layers from the top down to this one" if order == "cumulative" else "this layer alone"
    return Measurement(
        values=curve.nanmean(dim=1),
        convention=(
            f"{SAID[similarity]} of {'|map|' if absolute else 'the signed map'} and that of the network with {form} drawn "
            f"anew, mean over {count} of {len(layers)} layers; every parameter and running statistic is drawn"
        ),
        curve_x=learned.new_tensor([end / len(layers) for end in ends]),
        curve_y=curve,
        extra={"last": curve[:, -1], "undefined": curve.isnan().double().sum(dim=1)},
    )
