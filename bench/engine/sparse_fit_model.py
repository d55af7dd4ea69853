"""What the loop of sparse codes trains, and what it tells a model of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .random import Draws
from .sparse_fit_world import World


@dataclass(frozen=True)
class Step:
    """What a model is told of the step it is in.

    Attributes
    ----------
    index, steps : this step, from 0, and how many there are
    rows : rows of the batch over all processes; losses are sums over the rows at hand divided by this number
    world : the processes; quantities of the whole batch are added up through it
    draws : random numbers of this step alone, the same in every process
    """

    index: int
    steps: int
    rows: int
    world: World
    draws: Draws

    def rise(self, share: float) -> float:
        """Return a factor that climbs evenly to 1 over a share of the steps."""
        return min(1.0, (self.index + 1) / max(1.0, share * self.steps))


class Model(Protocol):
    """What the loop trains."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the leaves that are trained; always the same tensors."""

    def buffers(self) -> Mapping[str, Tensor]:
        """Return what else a fit must remember; tensors that the model only writes to in place."""

    def loss(self, batch: Tensor, step: Step) -> Tensor:
        """Return this process's share of the loss; the shares of all processes add up to the loss of the batch."""

    def project(self) -> None:
        """Put the parameters back where they are allowed, after the optimiser's step; called without gradients."""
