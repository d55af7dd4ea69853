"""ROAD: does the network still see the class once the most relevant pixels are imputed from the others?"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from ._curves import ranks
from ._imputation import impute
from ._regions import check_pixels

Percentage = Annotated[float, Field(gt=0, lt=100)]
Order = Literal["most", "least"]
Output = Literal["confidence", "accuracy"]


@metric(
    version=2,
    citation="arXiv:2202.00449",
    cost="one forward and one imputation a percentage",
    of="maps",
    direction="down",
    bounds=(0.0, 1.0),
    null="the same for random maps",
    presets={"quantus": {"percentages": tuple(range(1, 100, 2)), "order": "most", "output": "accuracy", "noise": 0.01}},
)
def road(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    percentages: Annotated[tuple[Percentage, ...], Field(min_length=1)] = (10, 30, 50, 70, 90),
    order: Order = "most",
    output: Output = "confidence",
    noise: NonNegativeFloat = 0.01,
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4,
) -> Measurement:
    """Average the confidence left when a percentage of the pixels is removed and imputed, without retraining.

    A removed pixel becomes the weighted mean of its neighbours, plus noise: exact interpolation would betray which
    pixels are gone, and so the class, by the shape of what was removed.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed; larger is more relevant
    space : Space, that of pixels; its baseline is not used
    draws : Draws, for ties, and for the noise of each image
    percentages : of the pixels, rounded down to whole pixels
    order : 'most' relevant first; or 'least', where the score is what is lost, so that lower is better here too
    output : 'confidence', the probability of the class, or 'accuracy', 1 where it is still the class predicted; both are
        in `extra`
    noise : standard deviation, in the units of the coordinates; one field an image, for all its percentages
    rtol : relative residual at which an imputation is solved

    Returns
    -------
    Measurement
        Values (N,), lower is better, with the curve of what is left at each percentage. `extra` holds the mean
        `confidence` and `accuracy` left.

    Raises
    ------
    LimenError
        For another space than that of pixels.

    References
    ----------
    Rong, Leemann et al. 2022, arXiv:2202.00449.
    """
    check_pixels(space, engine, images, "metric 'road'")
    own = draws.for_images(images)
    rank = ranks(maps, own)
    places = rank[0].numel()
    counts = [min(int(places * percentage / 100), places - 1) for percentage in percentages]
    gone, grain = rank.new_tensor(counts), torch.stack([one.normal(*images.shape[1:]) for one in own])

    def alter(pictures: Tensor, image: Tensor, copy: Tensor) -> Tensor:
        first = rank[image] if order == "most" else places - 1 - rank[image]
        removed = first < gone[copy].reshape(-1, 1, 1, 1)
        return impute(pictures, removed, rtol=rtol) + noise * grain[image] * removed

    found = engine.altered_scores(images, len(counts), alter, None, space=space, score="probability").double()
    left = {
        "confidence": found.gather(2, targets[:, None, None].expand(-1, len(counts), 1))[..., 0],
        "accuracy": (found.argmax(dim=2) == targets[:, None]).double(),
    }
    kept = left[output].mean(dim=1)
    lost = "" if order == "most" else "1 - "
    return Measurement(
        values=kept if order == "most" else 1 - kept,
        curve_x=found.new_tensor(counts) / places,
        curve_y=left[output],
        convention=(
            f"{lost}{output}, mean over {', '.join(f'{one:g}' for one in percentages)} % of the places of '{space.name}' "
            f"removed, {order} relevant first, ties at random; noisy linear imputation (residual {rtol:g}, noise "
            f"{noise:g} in normalised units)"
        ),
        extra={name: values.mean(dim=1) for name, values in left.items()},
    )
