"""Gradients of the score in batches: of coordinates, over altered copies, along a path, at a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ..registry import LimenError
from .batching import Batches
from .coordinates import Asked, Coordinates
from .copies import Alter, Altered
from .hooks import find_layer, leaf
from .moments import Moments
from .precision import exact
from .relu import ReluRule, apply_relu_rule
from .sweeps import Sweeps, finite

Result = TypeVar("Result")


class Slopes:
    """Gradients in float32, metered and checked; the batch size is their own, since they take more memory.

    Parameters
    ----------
    sweeps : Sweeps, whose network, meters and checks are used
    batch_size : most images in one pass
    """

    def __init__(self, sweeps: Sweeps, batch_size: int) -> None:
        self._sweeps = sweeps
        self._batches = Batches(sweeps.batches.where, batch_size)

    def plain(self, asked: Asked, rule: ReluRule) -> Tensor:
        """Return d logit / d coordinates, (N, *coordinates)."""

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            return self._gradient(asked.coordinates[start:stop], asked.chosen[start:stop], asked.space, rule)

        slopes, good = self._sweep(len(asked.coordinates), work, asked.images)
        self._sweeps.check(good)
        return slopes

    def moments(self, asked: Asked, count: int, alter: Alter) -> tuple[Tensor, Tensor]:
        """Return mean and sum of squared deviations over altered copies of each image, (N, *coordinates) each."""
        copies = Altered(asked.coordinates, count, alter)
        moments = Moments(asked.coordinates)

        def work(start: int, stop: int) -> tuple[Tensor, Tensor]:
            points, image = copies.build(start, stop)
            return self._gradient(points, asked.chosen[image], asked.space)

        good = []
        for start, (slopes, fine) in self._passes(len(copies), work, asked.images):
            good.append(fine)
            moments.add(slopes, start, count)
        self._sweeps.check(torch.cat(good).unflatten(0, (len(asked.images), count)).all(dim=1))
        return moments.mean.float(), moments.deviations.float()

    def path(self, asked: Asked, nodes: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of gradients at nodes (T,) of the line from the baseline, (N, *coordinates)."""
        coordinates, baseline = asked.coordinates, asked.space.baseline(asked.coordinates)
        count, ones = len(nodes), [1] * (coordinates.ndim - 1)

        def work(start: int, stop: int) -> tuple[list[tuple[int, Tensor]], Tensor]:
            flat = torch.arange(start, stop, device=self._sweeps.device)
            image, step = flat // count, flat % count
            points = torch.lerp(baseline[image], coordinates[image], nodes[step].float().reshape(-1, *ones))
            slopes, good = self._gradient(points, asked.chosen[image], asked.space)
            weighted = slopes.double() * weights[step].reshape(-1, *ones)
            return [
                (index, weighted[max(index * count - start, 0) : (index + 1) * count - start].sum(dim=0))
                for index in range(start // count, (stop - 1) // count + 1)
            ], good

        total = torch.zeros(coordinates.shape, dtype=torch.float64, device=self._sweeps.device)
        good = []
        for _, (sums, fine) in self._passes(len(asked.images) * count, work, asked.images):
            good.append(fine)
            for index, part in sums:
                total[index] += part
        self._sweeps.check(torch.cat(good).unflatten(0, (len(asked.images), count)).all(dim=1))
        return total.float()

    def at_layer(self, images: Tensor, layer: str, chosen: Tensor, network: str) -> tuple[Tensor, Tensor]:
        """Return the activations of a layer and d logit / d activations, (N, ...) each."""
        forward = self._sweeps.forward
        part = find_layer(forward.module, layer, network)

        def work(start: int, stop: int) -> tuple[Tensor, ...]:
            with torch.enable_grad(), leaf(part, layer) as last:
                logits = forward(forward.plain, images[start:stop])
                slopes, good = self._derive(logits, chosen[start:stop], last())
            return last().detach(), slopes, good

        activations, slopes, good = self._sweep(len(images), work, images)
        self._sweeps.check(good)
        return activations, slopes

    def _gradient(
        self, points: Tensor, targets: Tensor, space: Coordinates, rule: ReluRule = "plain"
    ) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaves = points.detach().requires_grad_()
            logits = self._sweeps.forward(self._sweeps.runner(space.layer), space.inputs(leaves))
            apply_relu_rule(logits, rule, self._sweeps.where)
            return self._derive(logits, targets, leaves)

    def _derive(self, logits: Tensor, targets: Tensor, leaves: Tensor) -> tuple[Tensor, Tensor]:
        """Return d logit / d leaves, and whether it and the logits are finite, an image each."""
        if not logits.requires_grad:
            raise LimenError(f"{self._sweeps.where}: its output has no gradient; allowed is a differentiable module.")
        # Images do not meet in evaluation mode, so the gradient of the sum holds each image's own.
        total = logits.gather(1, targets[:, None]).sum()
        with exact(self._sweeps.device):
            (slopes,) = torch.autograd.grad(total, leaves, materialize_grads=True)
        return slopes.contiguous(), finite(logits) & finite(slopes)

    def _sweep(self, count: int, work: Callable[[int, int], tuple[Tensor, ...]], images: Tensor) -> tuple[Tensor, ...]:
        found = [result for _, result in self._passes(count, work, images)]
        return tuple(torch.cat(parts).contiguous() for parts in zip(*found, strict=True))

    def _passes(self, count: int, work: Callable[[int, int], Result], images: Tensor) -> Iterator[tuple[int, Result]]:
        for start, stop, result in self._batches.sweep(count, work, self._sweeps.forward.most(images)):
            self._sweeps.meters.count(forwards=stop - start, backwards=stop - start)
            yield start, result
