"""Layers of a network by name: their activations, gradients there, and the part of the network after them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..registry import LimenError
from .given import Given
from .hooks import find_layer, last_spatial, layer_names, tapped
from .slopes import Slopes
from .sweeps import Sweeps, finite


class Taps:
    """Taps one network; it finds the default layer once.

    Parameters
    ----------
    given : Given, whose network is tapped
    sweeps, slopes : what runs it
    """

    def __init__(self, given: Given, sweeps: Sweeps, slopes: Slopes) -> None:
        self._given, self._sweeps, self._slopes = given, sweeps, slopes
        self._layer = given.network.layer

    def names(self) -> list[str]:
        """List the names of layers that can be tapped."""
        return layer_names(self._sweeps.forward.module)

    def default(self, images: Tensor | np.ndarray | None) -> str:
        """Return the default layer; raises as `Engine.default_layer` says."""
        forward = self._sweeps.forward
        if self._layer is None:
            if images is None:
                raise LimenError(f"{self._given.where}: it names no default layer; give a layer's name, or images.")
            with last_spatial(forward.module) as found, torch.no_grad():
                forward(forward.plain, self._given.prepare(images)[:1], number="fp32")
            self._layer = found()
        if self._layer is None:
            raise LimenError(
                f"{self._given.where}: no layer has a spatial output (N, C, H, W) to take by default; "
                f"allowed by name are {', '.join(self.names())}."
            )
        return self._layer

    def activations(self, images: Tensor | np.ndarray, layer: str | None) -> Tensor:
        """Return the activations float32 (N, ...) of a layer; raises as `Engine.tap` says."""
        images = self._given.prepare(images)
        layer = layer or self.default(images)
        forward = self._sweeps.forward
        part = find_layer(forward.module, layer, self._given.network.name)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            with tapped(part, layer) as last:
                logits = forward(forward.plain, images[start:stop], number="fp32")
            return last().float(), finite(logits)

        found = []
        with torch.no_grad():
            for start, stop, result in self._sweeps.batches.sweep(len(images), work, forward.most(images)):
                self._sweeps.meters.count(forwards=stop - start)
                found.append(result)
        activations, good = (torch.cat(parts) for parts in zip(*found, strict=True))
        self._sweeps.check(good)
        return activations.contiguous()

    def gradients(self, images: Tensor, layer: str | None, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations of a layer and d logit / d activations, (N, ...) each."""
        return self._slopes.at_layer(images, layer or self.default(images), chosen, self._given.network.name)

    def head(self, layer: str) -> Callable[[Tensor], Tensor]:
        """Return the part of the network after a layer; raises as `Engine.head` says."""
        run = self._sweeps.runner(layer)

        def head(activations: Tensor) -> Tensor:
            if torch.is_grad_enabled() and activations.requires_grad:
                self._sweeps.meters.count(forwards=len(activations))
                return self._sweeps.forward(run, activations)
            return self.logits(activations, layer)

        return head

    def logits(self, activations: Tensor | np.ndarray, layer: str) -> Tensor:
        """Return the logits float32 (n, K) of activations of a layer, in batches."""
        return self._sweeps.logits(self._sweeps.runner(layer), self._given.prepare(activations))
