"""How much of a map's largest credit lies in a region, averaged over every order of its ties."""

from __future__ import annotations

import torch
from torch import Tensor


def share_of_top(maps: Tensor, inside: Tensor, count: Tensor) -> Tensor:
    """Return the expected share of the `count` largest places that lie inside, ties in random order.

    A rectified map is zero over wide areas. Instead of one random order of its ties, this is the mean over all of them:
    places above the threshold count whole, those at it by the share of them that is still needed.

    Parameters
    ----------
    maps : (N, 1, H, W)
    inside : (N, 1, H, W), 1 inside, else 0
    count : (N,) int64, places taken of each map; at least 1

    Returns
    -------
    (N,) float64 in [0, 1]
    """
    credit, region = maps.flatten(1), inside.flatten(1).double()
    ordered = credit.sort(dim=1, descending=True).values
    threshold = ordered.gather(1, count[:, None] - 1)
    above, tied = (credit > threshold).double(), (credit == threshold).double()
    needed = count - above.sum(dim=1)
    hits = (above * region).sum(dim=1) + needed * (tied * region).sum(dim=1) / tied.sum(dim=1)
    return torch.clamp(hits / count, 0, 1)
