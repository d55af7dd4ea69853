"""Insertion: how fast the score rises when the most relevant places come first."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import curve


@metric(
    version=1,
    citation="arXiv:1806.07421",
    cost="steps + 1 forwards",
    of="maps",
    direction="up",
    bounds=(0.0, 1.0),
    null="the same curve for random maps",
)
def insertion(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    steps: PositiveInt = 32,
    score: Literal["probability", "logit"] = "probability",
) -> Measurement:
    """Integrate the score while places are put back on the baseline, most relevant first.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    steps : equal steps in places; fewer where there are fewer places
    score : 'probability', or 'logit' (Xplique's), whose area has no bounds

    Returns
    -------
    Measurement
        Values (N,), higher is better, with the curve.

    References
    ----------
    Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
    """
    return curve(engine, images, targets, maps, space=space, draws=draws, steps=steps, score=score, insert=True)
