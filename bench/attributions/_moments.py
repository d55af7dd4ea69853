"""What SmoothGrad, SquareGrad and VarGrad share: mean and spread of an explanation over noisy copies of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..adapters import explained
from ..engine import Draws, Engine
from ..registry import ATTRIBUTIONS, LimenError, unknown
from ..spaces import Space

GRADIENT = "gradient"
"""The name under `of` of the plain gradient, whose moments the engine takes in one pass."""
Options = dict[str, Any]
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "xplique": {"samples": 50, "sigma": 0.2, "relative": False, "channels": "mean"},
    "captum": {"samples": 5, "sigma": 1.0, "relative": False},
    "zennit": {"samples": 20, "sigma": 0.1, "last_clean": True},
    "pair": {"samples": 25, "sigma": 0.15},
    "wam": {"samples": 25, "sigma": 0.25},
}


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise on images: `samples` copies, `sigma` a share of each image's range if `relative`, else absolute;
    with `last_clean` the last copy has none."""

    samples: int
    sigma: float
    relative: bool
    last_clean: bool

    def on(self, images: Tensor, draws: Draws) -> NoisyCopies:
        """Return the noisy copies of images (N, C, *places)."""
        return NoisyCopies(self, images, draws)


class NoisyCopies:
    """Copies of images whose noise is keyed by the image's content and the copy's number alone."""

    def __init__(self, noise: Noise, images: Tensor, draws: Draws) -> None:
        self._noise, self._images, self._draws = noise, images, draws
        self._streams = draws.for_images(images) if not images.is_meta else []
        low, high = images.flatten(1).aminmax(dim=1)
        spread = high - low if noise.relative else torch.ones_like(high)
        self._ones = [1] * (images.ndim - 1)
        self._scale = (noise.sigma * spread).reshape(-1, *self._ones)

    def build(self, image: Tensor, copy: Tensor) -> Tensor:
        """Return the copies numbered `copy` (B,) of the images at `image` (B,), as (B, C, *places)."""
        shape = self._images.shape[1:]
        if image.is_meta:
            return self._images[image] + self._scale[image] * self._draws.normal(len(image), *shape)
        numbers = zip(image.tolist(), copy.tolist(), strict=True)
        noise = torch.stack([self._streams[one].spawn("copy", number).normal(*shape) for one, number in numbers])
        if self._noise.last_clean:
            noise = noise * (copy < self._noise.samples - 1).reshape(-1, *self._ones)
        return self._images[image] + self._scale[image] * noise


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and sum of squared deviations (N, *S) over `count` copies."""

    mean: Tensor
    deviations: Tensor
    count: int

    @property
    def square(self) -> Tensor:
        """The mean of the squares."""
        return self.mean.square() + self.deviations / self.count

    def variance(self, *, unbiased: bool = True) -> Tensor:
        """The variance: divisor count - 1, or count where it is the biased one."""
        return self.deviations / (self.count - 1 if unbiased else self.count)


def moments(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    noise: Noise,
    *,
    space: Space,
    draws: Draws,
    of: Any,
    of_options: Options | None,
) -> Moments:
    """Return the moments of the gradient (N, *coordinates), or of another explainer's maps (N, 1, *places).

    Parameters
    ----------
    of : 'gradient', a registered name, or anything `bench.adapters` takes
    of_options : its options

    Raises
    ------
    LimenError
        If `of` is not known, or the gradient is given options.
    """
    copies = noise.on(images, draws)
    if of != GRADIENT:
        return _of_maps(engine, images, targets, copies, noise.samples, _Other(of, of_options, space, draws))
    if of_options:
        raise LimenError(f"attribution, option 'of_options': given {of_options}, the plain gradient takes none.")

    def alter(coordinates: Tensor, image: Tensor, copy: Tensor) -> Tensor:
        # The noise is the image's, whatever the coordinates are.
        return space.coordinates(engine, copies.build(image, copy))

    mean, deviations = engine.gradient_moments(images, noise.samples, alter, targets, space=space)
    return Moments(mean=mean, deviations=deviations, count=noise.samples)


@dataclass(frozen=True)
class _Other:
    of: Any
    options: Options | None
    space: Space
    draws: Draws

    def __post_init__(self) -> None:
        names = [GRADIENT, *ATTRIBUTIONS.names()]
        if isinstance(self.of, str) and self.of not in names:
            raise unknown("attribution, option 'of'", self.of, names)

    def __call__(self, engine: Engine, images: Tensor, targets: Tensor) -> Tensor:
        """Explain one copy of each image; the explainer's own randomness is the same for every copy."""
        return explained(
            self.of,
            engine,
            images,
            targets,
            space=self.space,
            draws=self.draws.spawn("of"),
            options=self.options or {},
        ).double()


def _of_maps(
    engine: Engine, images: Tensor, targets: Tensor, copies: NoisyCopies, count: int, explain: _Other
) -> Moments:
    every = targets.new_ones(len(images)).cumsum(0) - 1
    mean = explain(engine, copies.build(every, 0 * every), targets)
    deviations = torch.zeros_like(mean)
    for number in range(1, count):
        maps = explain(engine, copies.build(every, 0 * every + number), targets)
        # Welford's update, free of cancellation.
        step = maps - mean
        mean = mean + step / (number + 1)
        deviations = deviations + step * (maps - mean)
    return Moments(mean=mean.float(), deviations=deviations.float(), count=count)
