"""Insertion minus deletion: both curves of one baseline, whose difference is 0 for a random order of any network."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import Rule, Score, Sweep, area, masks, ranks, rebased


@metric(
    version=1,
    citation="arXiv:1806.07421",
    cost="2 * steps forwards",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="0 for a random order, on any network, since both curves share one baseline",
    presets={
        "xplique": {"steps": 10, "score": "logit", "baseline": "zero", "rule": "steps"},
        "wam": {"steps": 64, "score": "probability", "baseline": "zero", "rule": "peak"},
    },
)
def insertion_deletion(
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
    """Subtract the deletion area from the insertion area; image and baseline are run once for both curves.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and the one baseline of both curves; with two, as RISE has, random maps are not at 0
    draws : Draws, for ties
    steps : equal steps in places; fewer where there are fewer places
    step_pixels : places a step, instead of `steps`
    score : 'probability', or 'logit', whose area has no bounds
    baseline : another baseline than the space's, by its name
    rule : as for `deletion`

    Returns
    -------
    Measurement
        Values (N,), higher is better; the curve is insertion minus deletion, `extra` holds both areas.

    References
    ----------
    Petsiuk, Das, Saenko 2018, arXiv:1806.07421.
    """
    sweep = Sweep(space=rebased(space, baseline), steps=steps, width=step_pixels, score=score, rule=rule)
    rank = ranks(maps, draws.for_images(images))
    total = rank[0].numel()
    counts = sweep.counts(total)
    inner = counts[1:-1]
    copies = masks(rank, [*counts, *inner], [False] * len(counts) + [True] * len(inner))
    heights = engine.perturbed_scores(images, copies, targets, space=sweep.space, score=score)
    deleted, inserted = heights.split([len(counts), len(inner)], dim=1)
    inserted = torch.cat([deleted[:, -1:], inserted, deleted[:, :1]], dim=1)
    fractions = heights.new_tensor(counts, dtype=torch.float64) / total
    areas = {"insertion": area(inserted, fractions, rule), "deletion": area(deleted, fractions, rule)}
    told = sweep.told("places (all channels at once)", len(counts) - 1)
    return Measurement(
        values=areas["insertion"] - areas["deletion"],
        curve_x=fractions,
        curve_y=inserted - deleted,
        convention=f"{score}; inserted into, less replaced by, the {told}",
        extra=areas,
    )
