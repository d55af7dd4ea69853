"""Max-Sensitivity: the largest relative change of the map in a small ball around the image."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer, Kind, Noise
from ._perturbed import PLAIN, distances, relative


@metric(
    version=1,
    citation="arXiv:1901.09392",
    cost="samples explanations",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="an explainer that draws another random map for every image",
    presets={"captum": {"samples": 10}, "quantus": {"radius": 0.2, "samples": 200}},
)
def max_sensitivity(
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
    """Take the largest relative change of the map over noisy copies of the image.

    Parameters
    ----------
    engine : Engine, unused
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained, on the copies too
    maps : (N, 1, H, W), signed
    explainer : explains the copies in the way the maps were made
    draws : Draws; the noise is keyed by each image's content
    samples : noisy copies an image
    radius : of the L-infinity ball, or standard deviation of the noise, in normalised units
    noise : 'uniform' in the ball, 'positive' (its non-negative part) or 'normal'

    Returns
    -------
    Measurement
        Values (N,), lower is better; NaN where the map is zero everywhere (`extra['zero_map']`).

    References
    ----------
    Yeh et al. 2019, arXiv:1901.09392.
    """
    spread = Noise(noise, radius, samples)
    far = distances(images, targets, maps, explainer=explainer, noise=spread, draws=draws)
    shares, zero = relative(far, maps)
    return Measurement(
        values=shares.amax(dim=1),
        convention=f"{PLAIN} over the norm of the clean map, largest over {spread}; no normalisation of maps",
        extra={"zero_map": zero.double()},
    )
