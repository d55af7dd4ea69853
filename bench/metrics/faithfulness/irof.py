"""IROF: the area over the relative score while superpixels go, the one of most credit first."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import Score, masks, rebased
from ._regions import check_pixels, grid, region_ranks
from ._superpixels import superpixels

Segmentation = Literal["slic", "grid"]
_SLACK = 0.01


@metric(
    version=1,
    citation="arXiv:2003.08747",
    cost="segments + 1 forwards",
    of="maps",
    direction="up",
    bounds=(float("-inf"), 1.0),
    null="the same area for random maps",
    presets={
        "quantus": {
            "segmentation": "slic", "segments": 100, "compactness": 10.0, "score": "probability", "baseline": "mean",
            "rule": "counted",
        }
    },
)  # fmt: skip
def irof(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    segmentation: Segmentation = "slic",
    segments: PositiveInt = 100,
    compactness: PositiveFloat = 10.0,
    score: Score = "probability",
    baseline: str | None = None,
    rule: Literal["trapezoid", "counted"] = "trapezoid",
) -> Measurement:
    """Integrate what the removal of superpixels takes from `f(x_k) / f(x)`, largest mean credit first.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, coordinates and baseline
    draws : Draws, for ties
    segmentation : 'slic', superpixels of like colour, in the space of pixels; 'grid', equal cells, in any space
    segments : superpixels wanted
    compactness : weight of place against CIELAB colour in 'slic'
    score : 'probability' or 'logit'
    baseline : another baseline than the space's, by its name
    rule : 'trapezoid', `1 - trapezoid(f(x_k) / f(x)) / n` over k = 0 .. n; 'counted' (Quantus), `n - trapezoid` over
        k = 1 .. n with steps of width 1, which has no bounds

    Returns
    -------
    Measurement
        Values (N,), higher is better, with the curve of ratios; NaN where f(x) is not positive, as `extra['undefined']`
        says. `extra['segments']` is the number of superpixels of each image.

    Raises
    ------
    LimenError
        For superpixels in another space than that of pixels.

    References
    ----------
    Rieger and Hansen 2020, arXiv:2003.08747.
    """
    space = rebased(space, baseline)
    if segmentation == "slic":
        check_pixels(space, engine, images, "metric 'irof', segmentation 'slic'", "; 'grid' takes any")
        labels, count = superpixels(_pictures(engine, images), segments, compactness)
    else:
        side = max(round(segments ** (1 / (maps.ndim - 2))), 1)
        labels, count = grid(maps, [min(side, length) for length in maps.shape[2:]])
    rank, present = region_ranks(maps, labels, count, draws.for_images(images))
    copies = masks(rank, range(count + 1), [False] * (count + 1))
    heights = engine.perturbed_scores(images, copies, targets, space=space, score=score).double()
    undefined = heights[:, 0] <= 0
    ratios = (heights / heights[:, :1]).masked_fill(undefined[:, None], float("nan"))
    steps = heights.new_tensor(range(count + 1), dtype=torch.float64)
    # An image with fewer superpixels ends at its own count: the steps beyond have no width.
    gone = torch.minimum(steps, present[:, None].double())
    if rule == "counted":
        values = present - torch.trapezoid(ratios[:, 1:], gone[:, 1:], dim=1)
    else:
        values = 1 - torch.trapezoid(ratios, gone, dim=1) / present
    said = "n - trapezoid of k = 1 to n, width 1" if rule == "counted" else "1 - trapezoid / n of k = 0 to n"
    return Measurement(
        values=values,
        curve_x=steps / count,
        curve_y=ratios,
        convention=(
            f"{score} relative to the clean image's; {segmentation} of about {count} segments, largest mean credit "
            f"first, ties at random, replaced by the baseline '{space.name}' one by one; {said}; NaN where f(x) <= 0"
        ),
        extra={"undefined": undefined.double(), "segments": present.double()},
    )


def _pictures(engine: Engine, images: Tensor) -> Tensor:
    """Undo the normalisation; an image that is then no picture in [0, 1] is stretched from its darkest to its brightest."""
    network = engine.network
    if len(network.mean) == images.shape[1]:
        mean, std = (images.new_tensor(values).reshape(1, -1, 1, 1) for values in (network.mean, network.std))
        images = images * std + mean
    low, high = (values.reshape(-1, 1, 1, 1) for values in images.flatten(1).aminmax(dim=1))
    no_picture = (low < -_SLACK) | (high > 1 + _SLACK)
    return torch.where(no_picture, (images - low) / (high - low).clamp(min=_SLACK), images).clamp(0, 1)
