"""Deletion: how fast the score falls when the most relevant places go first."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import Rule, Score, Sweep, curve, ranks, rebased


@metric(
    version=2,
    citation="arXiv:1806.07421",
    cost="steps + 1 forwards",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="the same curve for random maps",
    presets={
        "rise": {"step_pixels": 224, "score": "probability", "baseline": "zero", "rule": "steps"},
        "xplique": {"steps": 10, "score": "logit", "baseline": "zero", "rule": "steps"},
        "wam": {"steps": 64, "score": "probability", "baseline": "zero", "rule": "peak"},
    },
)
def deletion(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    steps: PositiveInt = 32,
    step_pixels: PositiveInt | None = None,
    score: Score = "probability",
    baseline: str | None = None,
    rule: Rule = "trapezoid",
) -> Measurement:
    """Integrate the score while places are replaced by the baseline, most relevant first.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    steps : equal steps in places; fewer where there are fewer places
    step_pixels : places a step, instead of `steps`
    score : 'probability', or 'logit', whose area has no bounds
    baseline : another baseline than the space's, by its name
    rule : 'trapezoid' over the fraction touched; 'steps', each of one width (RISE, Xplique); 'counted', of width 1 and
        without the clean image (Quantus); 'peak', the mean over the largest (WAM)

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve.

    References
    ----------
    Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
    """
    sweep = Sweep(space=rebased(space, baseline), steps=steps, width=step_pixels, score=score, rule=rule)
    rank = ranks(maps, draws.for_images(images))
    return curve(engine, images, targets, rank, sweep, units="places (all channels at once)", insert=False)
