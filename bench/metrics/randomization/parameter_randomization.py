"""Model parameter randomisation test: a map of an untrained network should not look like that of the trained one."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from .._noisy import Explainer
from ._layers import Order, Similarity, by_layer


@metric(
    version=1,
    citation="arXiv:1810.03292",
    cost="steps explanations",
    of="maps",
    direction="down",
    bounds=(-1.0, 1.0),
    null="an explainer that does not look at the network: 1",
    presets={"quantus": {"absolute": True}},
)
def parameter_randomization(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    explainer: Explainer,
    draws: Draws,
    order: Order = "cumulative",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    steps: PositiveInt | None = None,
) -> Measurement:
    """Average the similarity of the map to the maps of networks whose layers are randomised from the top.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    explainer : explains the randomised networks in the way the maps were made
    draws : Draws; the weights drawn are the same for every method
    order : 'cumulative', or 'independent': one layer at a time, the others as they were
    similarity : 'spearman' or 'ssim'
    absolute : compare |map|: a sign that flips is no change then
    steps : at most so many networks, evenly spaced over the layers, the last one included; None = every layer

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve over the share of layers randomised; a layer at which a map is
        constant ranks nothing, is left out and counted in `extra['undefined']`. `extra['last']` is the similarity at
        the last network (all layers, if cumulative).

    References
    ----------
    Adebayo et al. 2018, arXiv:1810.03292.
    """

    def explain(on: Engine) -> Tensor:
        return maps if on is engine else explainer(images, targets, on=on)

    return by_layer(
        engine, images, explain, draws=draws, order=order, steps=steps, similarity=similarity, absolute=absolute
    )
