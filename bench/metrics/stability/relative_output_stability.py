"""Relative output stability: the relative change of the map over the change of the logits."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer, Kind, Noise, norm
from ._relative import relative_stability


@metric(
    version=1,
    citation="arXiv:2203.06877",
    cost="samples explanations + samples forwards",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="an explainer that draws another random map for every image",
)
def relative_output_stability(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    samples: PositiveInt = 32,
    radius: PositiveFloat = 0.02,
    noise: Kind = "uniform",
) -> Measurement:
    """Take the largest ratio of the relative change of the map to the change of the logits.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained, on the copies too
    maps : (N, 1, H, W), signed
    explainer : explains the copies in the way the maps were made
    draws : Draws; the noise is keyed by each image's content
    samples : noisy copies an image
    radius : bound of the noise, or its standard deviation, in normalised units
    noise : 'uniform', 'positive' or 'normal'

    Returns
    -------
    Measurement
        Values (N,), lower is better, over the copies that keep the predicted class; NaN where none does
        (`extra['kept']` is their share). Places where the map is almost zero dominate it.

    References
    ----------
    Agarwal et al. 2022, arXiv:2203.06877.
    """
    spread = Noise(noise, radius, samples)
    logits = engine.scores(images)

    def change(index: Tensor, copies: Tensor) -> Tensor:
        return norm(engine.scores(copies) - logits[index])

    return relative_stability(
        engine,
        images,
        targets,
        maps,
        explainer=explainer,
        draws=draws,
        noise=spread,
        change=change,
        over="the Euclidean distance of the logits",
    )
