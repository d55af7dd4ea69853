"""Efficient parameter randomisation: how much more disordered the map gets once nothing learned is left."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...engine.randomise import reinitialised
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer


@metric(
    version=1,
    citation="arXiv:2401.06465",
    cost="1 explanation",
    of="maps",
    direction="up",
    bounds=(-1.0, float("inf")),
    null="an explainer that does not look at the network: 0",
)
def efficient_parameter_randomization(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    bins: PositiveInt = 100,
) -> Measurement:
    """Measure the relative rise of the entropy of the map's histogram when all of the network is randomised.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    explainer : explains the randomised network in the way the maps were made
    draws : Draws; the weights drawn are the same for every method
    bins : equal bins between the smallest and the largest value of each map

    Returns
    -------
    Measurement
        Values (N,), higher is better; NaN where the map is constant, since its entropy is 0. `extra` holds both
        entropies.

    References
    ----------
    Hedström, Weber, Lapuschkin, Höhne 2024, arXiv:2401.06465.
    """
    blank = engine.beside(reinitialised(engine.network, None, draws))
    before, after = entropy(maps, bins), entropy(explainer(images, targets, on=blank), bins)
    return Measurement(
        values=torch.where(before > 0, (after - before) / before, torch.nan),
        convention=(
            f"entropy (natural log) of the histogram of the signed map, {bins} bins between its own extremes: "
            "(randomised - trained) / trained, all parameters and running statistics drawn anew"
        ),
        extra={"entropy": before, "entropy_randomised": after},
    )


def entropy(maps: Tensor, bins: int) -> Tensor:
    """Return the entropy (N,) float64 of the histogram of each map (N, ...)."""
    values = maps.double().flatten(1)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    place = ((values - low) / torch.where(high > low, high - low, 1) * bins).long().clamp(max=bins - 1)
    counts = values.new_zeros(len(values), bins).scatter_add(1, place, torch.ones_like(values))
    return torch.special.entr(counts / values.shape[1]).sum(dim=1)
