"""Fourier: the half spectrum is moved, high frequencies scaled down so that they do not take over."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Aim, Climb, Draws, Engine
from ..registry import visualization
from ..spaces.natural import Natural, frequencies
from ._made import Visual, made, network_size
from ._views import Crops

Share = Annotated[float, Field(gt=0, le=1)]


@visualization(
    version=1,
    citation="doi:10.23915/distill.00007",
    cost="steps x crops forwards and backwards",
    presets={
        "lucent": {"steps": 512, "decay": 1.0, "learning_rate": 0.05, "side": (0.8, 1.0), "noise": 0.0},
        "horama": {"steps": 1000, "crops": 6, "decay": 1.5, "noise": 0.05, "side": (0.25, 0.3)},
    },
)
def fourier(
    engine: Engine,
    targets: Tensor,
    *,
    natural: Natural,
    draws: Draws,
    steps: PositiveInt = 256,
    crops: PositiveInt = 16,
    side: tuple[Share, Share] = (0.5, 0.95),
    noise: NonNegativeFloat = 0.05,
    decay: NonNegativeFloat = 1.0,
    spread: PositiveFloat = 0.01,
    learning_rate: PositiveFloat = 0.05,
    optimiser: Literal["adam", "nadam"] = "adam",
    minimise: bool = False,
) -> Visual:
    """Maximise a logit over a picture's Fourier coefficients, preconditioned by 1 / frequency.

    Parameters
    ----------
    engine : Engine
    targets : int64 (n,)
    natural : Natural
        Gives the size and the colours; its spectrum is compared with, not imposed.
    steps, crops, side, noise
        As in `maco`.
    decay
        A coefficient at frequency f is scaled by 1 / max(f, 1 / S) ** decay.
    spread
        Standard deviation of the coefficients at the start.
    learning_rate, optimiser
        Of the coefficients before they are scaled.
    minimise
        Make what the target answers to least.

    Returns
    -------
    Visual

    References
    ----------
    Olah, Mordvintsev & Schubert 2017, doi:10.23915/distill.00007.
    """
    size = natural.size
    bins = (3, size, size // 2 + 1)
    drawn = [draws.spawn("start", int(one)).normal(2, *bins) for one in targets]
    start = {
        name: spread * torch.stack([one[part] for one in drawn]) for part, name in enumerate(("real", "imaginary"))
    }
    scale = size / frequencies(size, natural.magnitude).clamp(min=1 / size) ** decay / size

    def render(parameters: dict[str, Tensor]) -> Tensor:
        spectrum = torch.complex(parameters["real"], parameters["imaginary"]) * scale
        return natural.paint(torch.fft.irfft2(spectrum, s=(size, size), norm="ortho"))

    views = Crops(
        count=crops,
        size=network_size(engine),
        side=side,
        noise=noise,
        steps=steps,
        keys=tuple(int(one) for one in targets),
        draws=draws,
    )
    climb = Climb(steps=steps, learning_rate=learning_rate, optimiser=optimiser)
    return made(
        engine.ascend(start, targets, Aim(render=render, views=views, climb=climb, sign=-1 if minimise else 1)), natural
    )
