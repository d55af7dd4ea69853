"""FORGrad: any explanation without its high frequencies, and the choice of the frequency to cut at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from ..adapters import explained
from ..engine import Draws, Engine
from ..registry import LimenError, attribution
from ..spaces import Pixels, Space

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""


@attribution(
    version=1,
    citation="arXiv:2307.09591",
    cost="that of the method under `of`",
    presets={"xplique": {"sigma": 15.0}},
)
def forgrad(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    of: Any = "saliency",
    of_options: dict[str, Any] | None = None,
    sigma: NonNegativeFloat | None = None,
) -> Tensor:
    """Take the absolute map of another method and keep its low frequencies.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Pixels, handed to the method under `of`
    draws : Draws, handed to the method under `of`
    of : the method that is filtered: a registered name, and in Python whatever `bench.api.explain` takes
    of_options : its options
    sigma : frequencies up to this radius stay, in cycles per image; None is 15 at 224 pixels, in proportion

    Returns
    -------
    (N, 1, H, W), non-negative

    Raises
    ------
    LimenError
        If `of` names no explainer, or the space is not pixels.

    References
    ----------
    Muzellec et al. 2023, arXiv:2307.09591.
    """
    if not isinstance(space, Pixels):
        # Coefficients may be laid out like an image, but their frequencies mean nothing.
        raise LimenError(f"attribution 'forgrad', space: given '{space.name}', allowed is pixels, which it filters.")
    maps = explained(of, engine, images, targets, space=space, draws=draws.spawn("of"), options=of_options or {})
    return low_pass(maps, sigma)


def default_cutoff(height: int) -> float:
    """Return the cut-off in cycles per image: 15 at 224 pixels, in proportion to the height, rounded."""
    return float(round(15 * height / 224))


def low_pass(maps: Tensor, sigma: float | None = None) -> Tensor:
    """Keep the frequencies of the absolute map up to a radius.

    Parameters
    ----------
    maps : (N, 1, H, W), of any sides
    sigma : radius in cycles per image, the mean (0) always stays; None is `default_cutoff` of the height

    Returns
    -------
    (N, 1, H, W), non-negative; the absolute map itself where `sigma` reaches its highest frequency

    Raises
    ------
    LimenError
        If the maps are no images, or `sigma` is negative.
    """
    if maps.ndim != 4:
        raise LimenError(f"low-pass filter: given maps {tuple(maps.shape)}, allowed is (N, 1, H, W).")
    height, width = maps.shape[-2:]
    sigma = default_cutoff(height) if sigma is None else float(sigma)
    if not sigma >= 0:
        raise LimenError(f"low-pass filter, 'sigma': given {sigma}, allowed is 0 or more cycles per image.")
    rows, columns = np.rint(np.fft.fftfreq(height) * height), np.rint(np.fft.rfftfreq(width) * width)
    # A radius such as the root of 34 is not exact: what lies on the circle stays.
    kept = maps.new_tensor(np.hypot(rows[:, None], columns[None, :]) <= sigma * (1 + 1e-9))
    spectrum = torch.fft.rfft2(maps.abs().float()) * kept
    return torch.fft.irfft2(spectrum, s=(height, width)).abs()


@dataclass(frozen=True, kw_only=True)
class Cutoff:
    """Mean faithfulness over candidate cut-offs.

    Attributes
    ----------
    best : the cut-off with the largest mean; of equals the largest cut-off, which filters least
    sigmas : (T,) cycles per image; infinity is the absolute map itself
    values : (T, N), one score a cut-off and image
    means, lows, highs : (T,) with 95 % percentile bootstrap intervals over images; the limits are NaN below two
    counts : (T,) images with a finite score
    """

    best: float
    sigmas: np.ndarray
    values: np.ndarray
    means: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    counts: np.ndarray


def choose_cutoff(
    maps: Tensor,
    score: Callable[[Tensor], Any],
    *,
    sigmas: Sequence[float] | None = None,
    seed: int = 0,
) -> Cutoff:
    """Choose the cut-off of one method on one network: the one whose filtered maps are the most faithful on average.

    Parameters
    ----------
    maps : (N, 1, H, W), the method's maps of a set of images
    score : callable
        Scores maps (N, 1, H, W), one number an image, larger is better; for example
        `lambda maps: bench.api.score("insertion", engine, images, maps, targets, null=zeros).gains`. Scores on other
        images than those that are reported later, since the choice fits them.
    sigmas : candidate cut-offs in cycles per image; None is every second one from 1 to the radius of the highest
        frequency along an axis, and infinity
    seed : of the bootstrap

    Returns
    -------
    Cutoff
        The choice and the whole curve behind it. The interval at the best cut-off knows nothing of the choice.

    Raises
    ------
    LimenError
        If there are no candidates, or a score is not one number an image, or none is finite.

    References
    ----------
    Muzellec et al. 2023, arXiv:2307.09591.
    """
    candidates = _candidates(maps, sigmas)
    values = np.stack([_scored(score, low_pass(maps, sigma), len(maps)) for sigma in candidates])
    counts = np.isfinite(values).sum(axis=1)
    if not counts.all():
        worst = candidates[int(counts.argmin())]
        raise LimenError(
            f"choice of cut-off: given no finite score at {worst} cycles per image, allowed is at least one."
        )
    means = np.nanmean(np.where(np.isfinite(values), values, np.nan), axis=1)
    lows, highs = zip(*(_interval(row, seed) for row in values), strict=True)
    best = max(range(len(candidates)), key=lambda index: (means[index], candidates[index]))
    return Cutoff(
        best=float(candidates[best]),
        sigmas=np.asarray(candidates),
        values=values,
        means=means,
        lows=np.asarray(lows),
        highs=np.asarray(highs),
        counts=counts,
    )


def _candidates(maps: Tensor, sigmas: Sequence[float] | None) -> list[float]:
    if sigmas is None:
        highest = max(maps.shape[-2:]) // 2
        return [*map(float, range(1, highest + 1, 2)), float("inf")]
    if not len(sigmas):
        raise LimenError("choice of cut-off, 'sigmas': given none, allowed is one or more cycles per image.")
    return sorted({float(sigma) for sigma in sigmas})


def _scored(score: Callable[[Tensor], Any], maps: Tensor, count: int) -> np.ndarray:
    given = score(maps)
    values = np.asarray(given.tolist() if isinstance(given, Tensor) else given, dtype=np.float64)
    if values.shape != (count,):
        raise LimenError(
            f"choice of cut-off: given scores {values.shape} of {count} maps, allowed is one number a map."
        )
    return values


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(finite.size, size=(RESAMPLES, finite.size))
    low, high = np.quantile(finite[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
