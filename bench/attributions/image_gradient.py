"""The non-informative control of human studies: where the image itself has contrast, whatever the network does."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from ..engine import Engine
from ..registry import attribution


@attribution(version=1, citation="arXiv:2112.04417; doi:10.1109/34.730558", cost="none")
def image_gradient(engine: Engine, images: Tensor, targets: Tensor, *, scales: PositiveInt = 3) -> Tensor:
    """Average the edge energy of the image over scales: a bottom-up map that is blind to the network.

    Parameters
    ----------
    engine : Engine, unused: the map is blind to the network
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, unused: the map is blind to the class
    scales : octaves; each halves the image once more before its Sobel gradient is taken

    Returns
    -------
    (N, 1, H, W), non-negative

    References
    ----------
    Itti, Koch, Niebur 1998, doi:10.1109/34.730558; Colin et al. 2022, arXiv:2112.04417, use such a map as the control
    condition, since it looks like an explanation and says nothing about the network.
    """
    height, width = images.shape[-2:]
    energy = []
    for octave in range(scales):
        factor = min(2**octave, height, width)
        coarse = avg_pool2d(images, factor) if factor > 1 else images
        energy.append(interpolate(edges(coarse), size=(height, width), mode="bilinear", align_corners=False))
    return torch.stack(energy).mean(dim=0)


def edges(images: Tensor) -> Tensor:
    """Return (N, 1, H, W): the Sobel gradient's length at each pixel, over all channels."""
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T]).unsqueeze(1)
    flat = pad(images.flatten(0, 1).unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    slopes = conv2d(flat, kernels).unflatten(0, images.shape[:2])
    return slopes.square().sum(dim=(1, 2)).sqrt().unsqueeze(1)
