"""Batches lent to others' code: gradients are on, it may write to what it gets, and nothing is metered."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .batching import Batches
from .precision import exact


class Lent:
    """Runs anyone's function in batches of its own.

    It may need far more memory an image, which must not shrink the engine's batches.

    Parameters
    ----------
    where : opens the error sentence when not even one image fits
    device : torch.device
    batch_size : most images in one pass
    """

    def __init__(self, where: str, device: torch.device, batch_size: int) -> None:
        self._device = device
        self._batches = Batches(where, batch_size)

    def run(self, images: Tensor, targets: Tensor, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return what `run(images (B, ...), targets (B,)) -> (B, ...)` gives of copies, for all images."""

        def work(start: int, stop: int) -> Tensor:
            with torch.enable_grad(), exact(self._device):
                return run(images[start:stop].clone(), targets[start:stop].clone()).detach()

        return torch.cat([result for _, _, result in self._batches.sweep(len(images), work)])
