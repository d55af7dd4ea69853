"""WCAM: the total variance of the score that goes through each block of wavelet coefficients."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import PositiveInt
from torch import Tensor

from ..engine import Draws, Engine
from ..registry import ATTRIBUTIONS, attribution
from ..spaces import Space
from ._coefficients import handed_back, wavelets


@attribution(
    version=1,
    citation="arXiv:2305.14979",
    cost="samples x (cells + 1) forwards (4,112 at the defaults)",
    presets={"wcam": {"side": 28, "samples": 8, "wavelet": "haar", "levels": 3}},
)
def wcam(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt = 16,
    samples: PositiveInt = 16,
    wavelet: str | None = None,
    levels: PositiveInt | None = None,
    score: Literal["logit", "probability"] = "logit",
) -> Tensor:
    """Estimate the total Sobol index of each block of wavelet coefficients, and draw the indices over all scales.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised; also waveforms (N, C, T) and volumes (N, C, D, H, W)
    targets : (N,) int64, the classes to explain
    space : Pixels for a map of pixels, Wavelets for the indices over the coefficients; it also gives the baseline
    draws : Draws; the design is the same for all images
    side : blocks along each axis of the array of coefficients; a multiple of 2^levels keeps each in one sub-band
    samples : rows of the design
    wavelet : 'haar', 'db1' .. 'db10', 'sym2' .. 'sym9'; None is that of the space, or 'haar'
    levels : scales; None is those of the space, or 3
    score : 'logit' or 'probability'

    Returns
    -------
    (N, 1, H, W), non-negative
        In Wavelets each coefficient has the index of its block. In Pixels the indices at all scales are added where
        their coefficients look; `Wavelets.scales` draws each scale of the former by itself.

    Raises
    ------
    LimenError
        If the space is another one, or has another wavelet than the one asked for.

    References
    ----------
    Kasmi, Dubus, Saint-Drenan, Blanc 2023, arXiv:2305.14979; Fel et al. 2021, arXiv:2111.04138.
    """
    coefficients = wavelets(space, wavelet, levels, "attribution 'wcam'")
    # The method is Sobol's, in another space: the registry keeps the two files apart.
    indices = ATTRIBUTIONS.load("sobol")(
        engine,
        images,
        targets,
        space=coefficients,
        draws=draws,
        side=side,
        samples=samples,
        score=score,
        upsampling="nearest",
    )
    return handed_back(cast(Tensor, indices), coefficients, space)
