"""Average drop: the share of the class's probability that is lost when the image is dimmed by its own map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...engine import Engine, Masks
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import rebased

Weighting = Literal["signed", "positive", "absolute"]
WEIGHTS = {"signed": "the map", "positive": "the map's positive part", "absolute": "the map's absolute value"}


@metric(
    version=1,
    citation="arXiv:1710.11063",
    cost="2 forwards",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="the same drop for random maps",
    presets={"grad_cam_pp": {"weighting": "positive"}},
)
def average_drop(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    weighting: Weighting = "signed",
    baseline: str | None = None,
) -> Measurement:
    """Measure `max(f(x) - f(x'), 0) / f(x)`, where x' is the image blended with the baseline by the map as weights.

    The weights are the map scaled from its smallest to its largest value, so a map that is the same everywhere has none.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    weighting : what is scaled to [0, 1]: 'signed', the map; 'positive', what is above 0 (Grad-CAM++); 'absolute', which
        cannot tell a map from its inverse
    baseline : another baseline than the space's, by its name

    Returns
    -------
    Measurement
        Values (N,), lower is better; NaN where the weights are all the same or f(x) is 0, as `extra['undefined']` says.
        `extra` also holds `increase`, 1 where f(x') > f(x), and `gain`, `max(f(x') - f(x), 0) / (1 - f(x))`, NaN where
        f(x) is 1.

    References
    ----------
    Chattopadhay et al. 2018, arXiv:1710.11063; for the gain, Zhang et al. 2023, arXiv:2301.07002.
    """
    space = rebased(space, baseline)
    weights, constant = _scaled(maps, weighting)
    before = engine.scores(images, "probability").gather(1, targets[:, None])[:, 0].double()
    copies = Masks.lazy(1, lambda image, _: weights[image])
    after = engine.perturbed_scores(images, copies, targets, space=space, score="probability")[:, 0].double()
    nothing = torch.full_like(before, float("nan"))
    undefined = constant | (before <= 0)
    rise = (after - before).clamp(min=0)
    return Measurement(
        values=torch.where(undefined, nothing, (before - after).clamp(min=0) / before),
        convention=(
            f"probability; image blended with the baseline '{space.name}', weights are {WEIGHTS[weighting]} scaled from "
            "smallest to largest, all channels at once; NaN where they are all the same"
        ),
        extra={
            "undefined": undefined.double(),
            "increase": torch.where(constant, nothing, (after > before).double()),
            "gain": torch.where(constant | (before >= 1), nothing, rise / (1 - before)),
        },
    )


def _scaled(maps: Tensor, weighting: Weighting) -> tuple[Tensor, Tensor]:
    """Return weights (N, 1, *places) in [0, 1], and whether the map gives none (N,)."""
    credit = {"signed": maps, "positive": maps.clamp(min=0), "absolute": maps.abs()}[weighting]
    low, high = credit.flatten(1).aminmax(dim=1)
    ones = [1] * (maps.ndim - 1)
    width = (high - low).reshape(-1, *ones)
    return torch.where(width > 0, (credit - low.reshape(-1, *ones)) / width, 0), high == low
