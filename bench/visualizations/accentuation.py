"""Feature accentuation: what of a picture drives a logit is strengthened, and the rest of it stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from ..engine import Aim, Anchor, Climb, Draws, Engine
from ..registry import LimenError, visualization
from ..spaces.natural import Natural
from ._made import Visual, made, network_size
from ._phases import buffer_of
from ._views import Crops

Share = Annotated[float, Field(gt=0, le=1)]
Space = Literal["phase", "fourier", "pixels"]
Rows = dict[str, Tensor]
Render = Callable[[Rows], Tensor]


@visualization(version=1, citation="arXiv:2402.10039", cost="steps x crops x (2 forwards + 1 backward)")
def accentuation(
    engine: Engine,
    targets: Tensor,
    *,
    natural: Natural,
    seeds: Tensor,
    draws: Draws,
    steps: NonNegativeInt = 100,
    crops: PositiveInt = 16,
    side: tuple[Share, Share] = (0.85, 0.95),
    noise: NonNegativeFloat = 0.02,
    alpha: NonNegativeFloat = 1.0,
    layer: str | None = None,
    parametrisation: Space = "fourier",
    learning_rate: PositiveFloat = 0.05,
    optimiser: Literal["adam", "nadam"] = "adam",
    stop_at: float | None = None,
) -> Visual:
    """Maximise a logit from a picture on, held near it by a layer's activations under the same views.

    The weight of the penalty is alpha times the ratio of the logit's slope to the penalty's, both in absolute value
    over the picture, taken once after the first step: at the picture itself the penalty has no slope.

    Parameters
    ----------
    engine : Engine
    targets : int64 (n,)
    natural : Natural
        Colours of the parametrisation, and the size.
    seeds : float32 (n, 3, S, S) in 0 .. 1
        The pictures to begin with.
    steps, crops, side, noise
        As in `maco`.
    alpha
        Strength of the penalty; 0 = none.
    layer
        Whose activations are held; None is the engine's default layer.
    parametrisation
        'phase' moves the phases and keeps the picture's own magnitudes; 'fourier' moves all coefficients; 'pixels' the
        logits of the pixels.
    learning_rate, optimiser
        Of the parameters.
    stop_at
        A picture whose mean logit has reached this stays as it is.

    Returns
    -------
    Visual
        `null` is the logit of the pictures as they were.

    References
    ----------
    Hamblin et al. 2024, arXiv:2402.10039.
    """
    if tuple(seeds.shape[1:]) != (3, natural.size, natural.size) or len(seeds) != len(targets):
        raise LimenError(
            f"accentuation, seeds: given {tuple(seeds.shape)}, allowed is ({len(targets)}, 3, {natural.size}, "
            f"{natural.size}), one picture a target."
        )
    start, fixed, render = _parametrised(natural, seeds, parametrisation)
    views = Crops(
        count=crops,
        size=network_size(engine),
        side=side,
        noise=noise,
        steps=steps,
        keys=tuple(range(len(targets))),
        draws=draws,
    )
    anchor = Anchor(layer=layer or engine.default_layer(seeds[:1]), alpha=alpha) if alpha else None
    climb = Climb(steps=steps, learning_rate=learning_rate, optimiser=optimiser, stop_at=stop_at)
    aim = Aim(render=render, views=views, climb=climb, anchor=anchor, fixed=fixed)
    return made(engine.ascend(start, targets, aim), natural)


def _parametrised(natural: Natural, seeds: Tensor, space: Space) -> tuple[Rows, Rows, Render]:
    """Return parameters of pictures, what stays fixed of them, and how both are drawn: they give the pictures back."""
    buffer, size = natural.unpaint(seeds), natural.size
    spectrum = torch.fft.rfft2(buffer)

    def from_phases(rows: Rows) -> Tensor:
        return natural.paint(buffer_of(rows["noise"], rows["magnitude"]))

    def from_spectrum(rows: Rows) -> Tensor:
        return natural.paint(torch.fft.irfft2(torch.complex(rows["real"], rows["imaginary"]) * size, s=(size, size)))

    if space == "pixels":
        return {"buffer": buffer}, {}, lambda rows: natural.paint(rows["buffer"])
    if space == "fourier":
        return {"real": spectrum.real / size, "imaginary": spectrum.imag / size}, {}, from_spectrum
    # A picture of unit variance has the same phases, and steps that do not depend on its contrast.
    contrast = buffer.flatten(1).std(dim=1).clamp(min=1e-6).reshape(-1, 1, 1, 1)
    return {"noise": buffer / contrast}, {"magnitude": spectrum.abs()}, from_phases
