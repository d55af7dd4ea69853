"""How alike two maps are: rank correlation and structural similarity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ._correlation import average_ranks

WINDOW, SIGMA = 11, 1.5
"""Side of the Gaussian window of the structural similarity, and its standard deviation, in pixels."""
_DECIMALS = 12
"""Equal maps are to score 1, not 1 less the rounding of a sum, and the same for every image."""


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Return the rank correlation of each pair of maps (N, ...), ties sharing their mean rank; (N,) float64.

    NaN where a map is constant: it ranks nothing. Only equal values tie: in a map of many thousand places neighbouring
    values lie closer than any tolerance that would forgive rounding.
    """
    first, second = (centred_ranks(maps) for maps in (left, right))
    shared = (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1))
    return shared.round(decimals=_DECIMALS)


def centred_ranks(maps: Tensor) -> Tensor:
    """Rank the values of each map (N, ...), ties sharing their mean rank, less the mean rank: (N, places) float64."""
    values = maps.flatten(1).double()
    return average_ranks(values, 0) - (values.shape[1] + 1) / 2


def ssim(left: Tensor, right: Tensor) -> Tensor:
    """Return the mean structural similarity of each pair of maps (N, 1, H, W), each as a picture with zero at mid-grey.

    Values are divided by the map's largest |value| and moved to [0, 1], zero at .5: the measure is one of intensities,
    and on signed values an inverted map would count as similar, since its means and its covariance both turn negative.
    A Gaussian window of 11 x 11 and sigma 1.5 (the largest odd one that fits a smaller map) at every place where it
    lies within the map; population moments; constants (.01 L)^2 and (.03 L)^2 with L = 1.

    Returns
    -------
    (N,) float64 in [-1, 1]

    References
    ----------
    Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    first, second = (_picture(maps) for maps in (left, right))
    side = min(WINDOW, *(size - 1 + size % 2 for size in first.shape[-2:]))
    place = torch.ones_like(first[0, 0, 0, :1]).expand(side).cumsum(0) - (side + 1) / 2
    line = torch.exp(-0.5 * (place / SIGMA).square())
    line = line / line.sum()

    def blurred(maps: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(maps, line.reshape(1, 1, -1, 1)), line.reshape(1, 1, 1, -1))

    means = blurred(first), blurred(second)
    product = means[0] * means[1]
    spread = blurred(first.square()) + blurred(second.square()) - means[0].square() - means[1].square()
    covariance = blurred(first * second) - product
    small = 0.01**2, 0.03**2
    level = (2 * product + small[0]) / (means[0].square() + means[1].square() + small[0])
    return (level * (2 * covariance + small[1]) / (spread + small[1])).mean(dim=(1, 2, 3)).round(decimals=_DECIMALS)


def _picture(maps: Tensor) -> Tensor:
    sizes = maps.abs().amax(dim=(1, 2, 3), keepdim=True)
    return (maps.double() / torch.where(sizes > 0, sizes, 1).double() + 1) / 2
