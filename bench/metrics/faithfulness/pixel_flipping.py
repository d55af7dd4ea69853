"""Pixel flipping: how fast the score falls when single values of pixels go, the most relevant pixels first."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import Rule, Score, Sweep, curve, ranks, rebased


@metric(
    version=1,
    citation="doi:10.1371/journal.pone.0130140",
    cost="steps + 1 forwards",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="the same curve for random maps",
    presets={"quantus": {"features_in_step": 1, "score": "probability", "baseline": "min", "rule": "counted"}},
)
def pixel_flipping(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    unit: Literal["value", "pixel"] = "value",
    steps: PositiveInt = 32,
    features_in_step: PositiveInt | None = None,
    score: Score = "probability",
    baseline: str | None = None,
    rule: Rule = "trapezoid",
) -> Measurement:
    """Integrate the score while single channel values are replaced by the baseline, most relevant first.

    A map has one credit a place, so the values of a place share its credit, and go in an order drawn for the image;
    Quantus ranks the values by attributions of their own. So this is `deletion` but for the steps that end within a
    pixel, and with `unit='pixel'` it is `deletion`.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    unit : 'value', one channel of one place, or 'pixel', all channels of a place
    steps : equal steps in units; fewer where there are fewer units
    features_in_step : units a step, instead of `steps`; the preset 'quantus' sets 1, which costs C x H x W forwards
    score : 'probability', or 'logit', whose area has no bounds
    baseline : another baseline than the space's, by its name
    rule : as for `deletion`

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve.

    References
    ----------
    Bach et al. 2015, doi:10.1371/journal.pone.0130140.
    """
    sweep = Sweep(space=rebased(space, baseline), steps=steps, width=features_in_step, score=score, rule=rule)
    if unit == "value":
        maps = maps.expand(-1, space.coordinates(engine, images).shape[1], *maps.shape[2:])
    rank = ranks(maps, draws.for_images(images))
    told = "channel values" if unit == "value" else "pixels (all channels at once)"
    return curve(engine, images, targets, rank, sweep, units=told, insert=False)
