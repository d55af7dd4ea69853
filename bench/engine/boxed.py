"""Verified bounds in batches: how far another class can rise while inputs stay in boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from .batching import Batches
from .bounds import Bound, Boxes, Make, Margins, Relaxation
from .coordinates import Asked
from .cost import Cost
from .network import logits_of
from .precision import exact
from .sweeps import Sweeps, finite


class Boxed:
    """Bounds the margins of one network, metered and checked.

    Parameters
    ----------
    sweeps : Sweeps, whose network, batches, meters and checks are used
    name : of the network
    """

    def __init__(self, sweeps: Sweeps, name: str) -> None:
        self._sweeps, self._name = sweeps, name

    def margins(
        self, asked: Asked, boxes: Boxes, make: Make, rivals: Tensor | None, relaxation: Relaxation, bound: Bound
    ) -> Tensor:
        """Return the bounds float32 (N, M) that `Engine.margin_bounds` speaks of; `make` is `boxes` at the images."""
        sweeps, space, chosen = self._sweeps, asked.space, asked.chosen
        run = sweeps.runner(boxes.layer or space.layer)

        def network(inputs: Tensor) -> Tensor:
            return logits_of(run(inputs.clone() if boxes.layer else space.inputs(inputs.clone())), self._name)

        with torch.no_grad(), exact(sweeps.device):
            first = make(0, 1)[0].centre
            # The engine's own forward goes first: it settles the memory layout that the traced one runs in.
            expected = sweeps.forward(run, first if boxes.layer else space.inputs(first), number="fp32")
            margins = Margins.of(network, first, expected, relaxation=relaxation, bound=bound, where=sweeps.where)

            def work(start: int, stop: int) -> tuple[Tensor, Cost]:
                box, image = make(start, stop)
                cost = Cost()
                return margins.overlap(box, chosen[image], None if rivals is None else rivals[image], cost), cost

            found = []
            batches = Batches(sweeps.batches.where, min(sweeps.batches.size, margins.most))
            for _, _, (values, cost) in batches.sweep(len(asked.images) * boxes.count, work):
                sweeps.meters.count(forwards=cost.forwards, backwards=cost.backwards)
                found.append(values)
        values = torch.cat(found).unflatten(0, (len(asked.images), boxes.count))
        sweeps.check(finite(values))
        return values
