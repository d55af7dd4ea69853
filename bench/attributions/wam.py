"""WAM: gradient attribution of wavelet coefficients, of waveforms, images and volumes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine
from ..registry import attribution
from ..spaces import Pixels, Space, Wavelets
from ._coefficients import handed_back, wavelets
from ._moments import GRADIENT, Noise, moments

Variant = Literal["smoothgrad", "integrated_gradients", "gradient"]


@attribution(
    version=1,
    citation="arXiv:2410.01482",
    cost="samples forwards + samples backwards",
    presets={
        "wam": {"samples": 25, "sigma": 0.25, "wavelet": "haar", "levels": 3, "normalise": True},
        "wam_audio": {"samples": 25, "sigma": 0.001, "wavelet": "haar", "levels": 3, "normalise": True},
        "wam_volume": {"samples": 25, "sigma": 0.25, "wavelet": "haar", "levels": 1, "normalise": True},
    },
)
def wam(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    variant: Variant = "smoothgrad",
    samples: PositiveInt = 25,
    sigma: NonNegativeFloat = 0.25,
    wavelet: str | None = None,
    levels: PositiveInt | None = None,
    normalise: bool = False,
) -> Tensor:
    """Attribute the logit to wavelet coefficients by gradients, and draw them over all scales.

    The transform is orthonormal, so the gradient of the coefficients is the transform of the gradient of the pixels:
    the pixels' methods are run, and their result is transformed once.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised; also waveforms (N, C, T) and volumes (N, C, D, H, W)
    targets : (N,) int64, the classes to explain
    space : Pixels for a map of pixels, Wavelets for the coefficients' own credit; its baseline is the path's start
    draws : Draws; the noise is keyed by each image's content and the number of the copy
    variant : 'smoothgrad' averages the gradient over noisy images; 'integrated_gradients' multiplies its mean along the
        path from the baseline by what the coefficients changed; 'gradient' takes it where the image is
    samples : noisy copies, or points on the path (Gauss-Legendre)
    sigma : standard deviation of the noise, a share of the image's range. It is added to the pixels: independent
        Gaussian noise has the same law in every orthonormal basis.
    wavelet : 'haar', 'db1' .. 'db10', 'sym2' .. 'sym9'; None is that of the space, or 'haar'
    levels : scales; None is those of the space, or 3
    normalise : divide each sub-band of each image by its largest magnitude (the published maps do so over the batch)

    Returns
    -------
    (N, 1, H, W)
        In Wavelets signed, in the layout of the coefficients; 'integrated_gradients' sums to f(x) - f(baseline) up to
        the error of the rule unless normalised. In Pixels non-negative: the magnitudes at all scales, added.
        `Wavelets.scales` draws each scale of the former by itself.

    Raises
    ------
    LimenError
        If the space is another one, or has another wavelet than the one asked for.

    References
    ----------
    Kasmi, Brunetto, Fel, Parekh 2025, arXiv:2410.01482.
    """
    coefficients = wavelets(space, wavelet, levels, "attribution 'wam'")
    pixels = Pixels(coefficients.kind)
    if variant == "gradient":
        credit = coefficients.transform(engine.gradients(images, targets, space=pixels))
    elif variant == "integrated_gradients":
        credit = integrated(engine, images, targets, coefficients, samples)
    else:
        noise = Noise(samples=samples, sigma=sigma, relative=True, last_clean=False)
        found = moments(engine, images, targets, noise, space=pixels, draws=draws, of=GRADIENT, of_options=None)
        credit = coefficients.transform(found.mean)
    credit = coefficients.credit(credit)
    credit = normalised(credit, coefficients) if normalise else credit
    return handed_back(credit, coefficients, space)


def integrated(engine: Engine, images: Tensor, targets: Tensor, space: Wavelets, steps: int) -> Tensor:
    """Return the change of each coefficient from the baseline times its mean gradient on the way, (N, C, *places)."""
    pixels = Pixels(space.kind)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    slopes = engine.path_gradients(
        images, images.new_tensor((nodes + 1) / 2), images.new_tensor(weights / 2), targets, space=pixels
    )
    return space.transform(images - pixels.baseline(images)) * space.transform(slopes)


def normalised(credit: Tensor, space: Wavelets) -> Tensor:
    """Divide each sub-band of each image by its largest magnitude; one that is 0 everywhere stays so."""
    found = credit.clone()
    for band in space.bands(tuple(credit.shape[2:])):
        region = (slice(None), slice(None), *band.region)
        part = found[region]
        if part.numel():
            largest = part.abs().amax(dim=tuple(range(1, part.ndim)), keepdim=True)
            found[region] = part / largest.where(largest > 0, 1)
    return found
