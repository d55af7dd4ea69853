"""Average stability: the mean distance between the map of an image and the maps of its noisy copies."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer, Kind, Noise
from ._perturbed import PLAIN, distances
from ._perturbed import relative as divided


@metric(
    version=1,
    citation="arXiv:2005.00631",
    cost="samples explanations",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="an explainer that draws another random map for every image",
    presets={"xplique": {"samples": 20, "radius": 0.1, "noise": "positive", "relative": False}},
)
def average_stability(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    samples: PositiveInt = 20,
    radius: PositiveFloat = 0.1,
    noise: Kind = "uniform",
    relative: bool = True,
) -> Measurement:
    """Average the distance between the map of an image and those of its noisy copies.

    Parameters
    ----------
    engine : Engine, unused
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained, on the copies too
    maps : (N, 1, H, W), signed
    explainer : explains the copies in the way the maps were made
    draws : Draws; the noise is keyed by each image's content
    samples : noisy copies an image
    radius : bound of the noise, or its standard deviation, in normalised units
    noise : 'uniform' on both sides, 'positive' (Xplique's, which also brightens the image) or 'normal'
    relative : divide by the norm of the clean map; an absolute distance grows with the units of the map, so that it
        can be compared neither between methods nor with the null

    Returns
    -------
    Measurement
        Values (N,), lower is better; NaN where `relative` and the map is zero everywhere. `extra['absolute']` is the
        distance as it is.

    References
    ----------
    Bhatt, Weller, Moura 2020, arXiv:2005.00631.
    """
    spread = Noise(noise, radius, samples)
    far = distances(images, targets, maps, explainer=explainer, noise=spread, draws=draws)
    shares, zero = divided(far, maps)
    over = " over the norm of the clean map" if relative else ", in the units of the map"
    return Measurement(
        values=(shares if relative else far).mean(dim=1),
        convention=f"{PLAIN}{over}, mean over {spread}; no normalisation of maps",
        extra={"absolute": far.mean(dim=1), "zero_map": zero.double()},
    )
