"""Local Lipschitz estimate: the steepest change of the map around the image."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer, Kind, Noise, norm, over_copies
from ._perturbed import PLAIN
from ._perturbed import relative as divided


@metric(
    version=1,
    citation="arXiv:1806.08049",
    cost="samples explanations",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="an explainer that draws another random map for every image",
    presets={"quantus": {"noise": "normal", "radius": 0.1, "samples": 200, "relative": False}},
)
def local_lipschitz(
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
    relative: bool = False,
) -> Measurement:
    """Take the largest ratio of the change of the map to the change of the image over noisy copies.

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
    noise : 'uniform', 'positive' or 'normal'
    relative : divide both changes by the norms of the clean map and image (a condition number, free of units)

    Returns
    -------
    Measurement
        Values (N,), lower is better: a lower bound of the local Lipschitz constant of the explainer.
        `extra['condition']` is the relative form, NaN where the map is zero everywhere.

    References
    ----------
    Alvarez-Melis, Jaakkola 2018, arXiv:1806.08049.
    """
    spread = Noise(noise, radius, samples)

    def measure(index: Tensor, copies: Tensor, others: Tensor) -> Tensor:
        return norm(others - maps[index]) / norm(copies - images[index])

    steepest = over_copies(images, targets, explainer, spread, draws, measure).amax(dim=1)
    shares, zero = divided(steepest[:, None], maps)
    condition = shares[:, 0] * norm(images)
    form = "relative to the norms of the clean map and image" if relative else "in the units of map and image"
    return Measurement(
        values=condition if relative else steepest,
        convention=f"{PLAIN} over that of the images, {form}, largest over {spread}; no normalisation of maps",
        extra={"condition": condition, "zero_map": zero.double()},
    )
