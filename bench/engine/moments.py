"""Mean and squared deviations of a stream of gradients, an image each, without keeping them."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Chan's pairwise update: free of cancellation, whatever the batches.

    Parameters
    ----------
    like : Tensor (N, *S)
        What one value an image looks like.
    """

    def __init__(self, like: Tensor) -> None:
        self.mean = torch.zeros_like(like, dtype=torch.float64)
        self.deviations = torch.zeros_like(self.mean)

    def add(self, values: Tensor, start: int, count: int) -> None:
        """Take in values (B, *S) of the copies start .. start + B, `count` copies an image, each copy once in order."""
        stop = start + len(values)
        for image in range(start // count, (stop - 1) // count + 1):
            first, last = max(image * count, start), min((image + 1) * count, stop)
            part = values[first - start : last - start].double()
            held, fresh = first - image * count, last - first
            mean = part.mean(dim=0)
            gap = mean - self.mean[image]
            self.deviations[image] += (part - mean).square().sum(dim=0) + gap.square() * (held * fresh / (held + fresh))
            self.mean[image] += gap * (fresh / (held + fresh))
