"""MACO: the magnitude of the spectrum is held to natural pictures', the phase alone is moved."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Aim, Climb, Draws, Engine
from ..registry import visualization
from ..spaces.natural import Natural
from ._made import Visual, made, network_size
from ._phases import buffer_of
from ._views import Centre, Crops

Share = Annotated[float, Field(gt=0, le=1)]
Range = tuple[Share, Share]


@visualization(
    version=1,
    citation="arXiv:2306.06805",
    cost="steps x crops forwards and backwards",
    presets={
        "xplique": {
            "steps": 256,
            "crops": 32,
            "noise": 0.08,
            "side": (0.5, 0.5),
            "last_side": (0.05, 0.05),
            "side_sd": 0.05,
            "centre": "normal",
            "centre_sd": 0.15,
        },
        "horama": {"steps": 1000, "crops": 6, "noise": 0.05, "side": (0.25, 0.3), "restandardise": True},
    },
)
def maco(
    engine: Engine,
    targets: Tensor,
    *,
    natural: Natural,
    draws: Draws,
    steps: PositiveInt = 256,
    crops: PositiveInt = 16,
    side: Range = (0.2, 0.5),
    last_side: Range | None = None,
    side_sd: NonNegativeFloat = 0.0,
    centre: Centre = "uniform",
    centre_sd: PositiveFloat = 0.15,
    noise: NonNegativeFloat = 0.1,
    learning_rate: PositiveFloat = 1.0,
    optimiser: Literal["adam", "nadam"] = "nadam",
    minimise: bool = False,
    restandardise: bool = False,
) -> Visual:
    """Maximise a logit over the phases of a picture whose magnitudes are natural.

    The phases are those of a real picture that is optimised, so that the magnitude is exact in every bin; free phases
    of a half spectrum lose about a third of it in the columns that must be Hermitian.

    Parameters
    ----------
    engine : Engine
        Of a network, or of concepts (`bench.spaces.concept_engine`): its classes are what pictures are made for.
    targets : int64 (n,)
    natural : Natural
        Colours and spectrum, measured on an image set at the size of the pictures.
    steps, crops
        Steps, and views of the picture at each.
    side, last_side, side_sd
        Share of the picture's side that a view takes: drawn evenly from a range that moves to `last_side`, plus
        Gaussian spread.
    centre, centre_sd
        Where views lie: anywhere, or around the middle.
    noise
        Uniform within it plus Gaussian of that standard deviation, on pictures in 0 .. 1.
    learning_rate, optimiser
        Of the phases' picture, whose values begin with standard deviation 1.
    restandardise
        Put that picture back to mean 0 and standard deviation 1 after each step.
    minimise
        Make what the target answers to least.

    Returns
    -------
    Visual

    References
    ----------
    Fel et al. 2023, arXiv:2306.06805.
    """
    size = natural.size
    start = torch.stack([draws.spawn("start", int(one)).normal(3, size, size) for one in targets])

    def render(parameters: dict[str, Tensor]) -> Tensor:
        return natural.paint(buffer_of(parameters["noise"], natural.magnitude))

    def standard(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        values = parameters["noise"]
        spread, mean = torch.std_mean(values, dim=(1, 2, 3), keepdim=True)
        return {"noise": (values - mean) / spread.clamp(min=1e-12)}

    views = Crops(
        count=crops,
        size=network_size(engine),
        side=side,
        last=last_side,
        spread=side_sd,
        centre=centre,
        centre_sd=centre_sd,
        noise=noise,
        steps=steps,
        keys=tuple(int(one) for one in targets),
        draws=draws,
    )
    climb = Climb(steps=steps, learning_rate=learning_rate, optimiser=optimiser)
    aim = Aim(
        render=render, views=views, climb=climb, sign=-1 if minimise else 1, retract=standard if restandardise else None
    )
    return made(engine.ascend({"noise": start}, targets, aim), natural)
