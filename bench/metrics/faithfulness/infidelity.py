"""Infidelity: how far the credit of a perturbation is from the change of the score it makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from ...engine import Draws, Engine
from ...records import Measurement
from ...registry import metric
from ...spaces import Space
from .._removal import removal
from ._curves import rebased

_NOISE_NUMBERS = 2**24
"""Most random numbers drawn at once; their number does not change them."""


@metric(
    version=1,
    citation="arXiv:1901.09392",
    cost="samples + 1 forwards, or side^2 + 2 at most for patches",
    of="maps",
    direction="down",
    bounds=(0.0, float("inf")),
    null="the same error for random maps",
    presets={
        "captum": {"perturbation": "noise", "samples": 10, "score": "logit"},
        "quantus": {"perturbation": "differences", "side": 56, "baseline": "min", "score": "logit"},
    },
)
def infidelity(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    space: Space,
    draws: Draws,
    perturbation: Literal["noise", "patches", "differences"] = "noise",
    samples: PositiveInt = 64,
    sigma: PositiveFloat = 0.3,
    side: PositiveInt = 8,
    scaled: bool = False,
    baseline: str | None = None,
    score: Literal["logit", "probability"] = "logit",
) -> Measurement:
    """Average the square error `(<I, map> - (f(x) - f(x - I)))^2` over perturbations I.

    A place is one feature: a noise value is shared by its channels, so that the channel sum of a gradient has the
    infidelity 0 on a linear network. Noise asks a map for sensitivities (gradients), patches for contributions.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes explained
    maps : (N, 1, H, W), signed
    space : Space, coordinates, cells and baseline
    draws : Draws; the noise is keyed by each image's content
    perturbation : 'noise', Gaussian at every place; 'patches', each cell in turn goes to the baseline and `<I, map>` is
        the sum of the map in it; 'differences', the same but the map is weighed by what the cell loses, summed over
        channels (Quantus', one patch at a time; its patches of 4 of 224 pixels are 56 cells a side)
    samples : draws of noise
    sigma : standard deviation of the noise, in coordinates of the space
    side : cells along each axis, for patches
    scaled : multiply each map by the factor that serves it best before the error is taken (captum's `normalize=True`)
    baseline : name of another baseline of the space, for patches; None keeps the space's own
    score : 'logit' or 'probability'

    Returns
    -------
    Measurement
        Values (N,), lower is better. `extra['scaled']` is the error with the best factor `extra['beta']` (0 for a map
        without credit), `extra['unexplained']` the same as a share of the mean square change, in [0, 1] (NaN where the
        score does not change).

    References
    ----------
    Yeh et al. 2019, arXiv:1901.09392.
    """
    space = rebased(space, baseline)
    if perturbation == "noise":
        ask = partial(engine.altered_scores, images, targets=targets, space=space, score=score)
        credit, change = _noise(ask, maps, draws.for_images(images), samples, sigma, f"noise {sigma}, {draws!r}")
        told = f"noise N(0, {sigma:g}^2) shared by the channels of a place, {samples} draws, credit as sensitivity"
    else:
        weights = maps if perturbation == "patches" else maps * _difference(engine, images, space)
        alone = maps.new_ones(space.cells(space.coordinates(engine, images), side)).diag()
        credit, change, _ = removal(
            engine, images, targets, weights, alone, space=space, side=side, score=score, per_place=False
        )
        unit = "contribution" if perturbation == "patches" else "weight of the difference, summed over channels"
        told = f"{len(alone)} patches, each alone replaced by the baseline '{space.name}', credit as {unit}"
    plain, extra = _errors(credit, change)
    return Measurement(
        values=extra["scaled"] if scaled else plain,
        convention=f"{score}; mean square error{' with the best factor for each map' if scaled else ''}; {told}",
        extra=extra,
    )


def _errors(credit: Tensor, change: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean square error (N,) of credit (N, M), and the same once each row has its best factor."""
    square = credit.square().mean(dim=1)
    beta = (credit * change).mean(dim=1) / square.masked_fill(square == 0, 1)
    scaled = (beta[:, None] * credit - change).square().mean(dim=1)
    moved = change.square().mean(dim=1)
    return (credit - change).square().mean(dim=1), {"scaled": scaled, "beta": beta, "unexplained": scaled / moved}


def _difference(engine: Engine, images: Tensor, space: Space) -> Tensor:
    coordinates = space.coordinates(engine, images)
    return space.credit(coordinates - space.baseline(coordinates))


def _noise(
    ask: Callable[..., Tensor], maps: Tensor, streams: list[Draws], samples: int, sigma: float, key: str
) -> tuple[Tensor, Tensor]:
    """Return `<I, map>` and `f(x) - f(x - I)`, both (N, samples) float64, for Gaussian I.

    Parameters
    ----------
    ask : `ask(count, alter, key=) -> (N, count)`, the scores of altered copies
    maps : (N, 1, *places)
    streams : N sources of noise, one an image
    key : names the noise
    """
    clean = ask(1, lambda held, image, copy: held, key="unchanged").double()
    # Noise of many images at full size fills the memory, so it is drawn in rounds.
    most = max(1, _NOISE_NUMBERS // maps.numel())
    credits, changes = [], []
    for start in range(0, samples, most):
        count = min(most, samples - start)
        noise = sigma * torch.stack(
            [torch.stack([stream.normal(*maps.shape[1:]) for _ in range(count)]) for stream in streams]
        )

        def alter(held: Tensor, image: Tensor, copy: Tensor, noise: Tensor = noise) -> Tensor:
            return held - noise[image, copy]

        changes.append(clean - ask(count, alter, key=f"{key}, {start} to {start + count}").double())
        credits.append((noise * maps[:, None]).flatten(2).double().sum(dim=2))
    return torch.cat(credits, dim=1), torch.cat(changes, dim=1)
