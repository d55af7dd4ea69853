"""Options and data that all sparse autoencoders share: how long they train, on what, and in which units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit import Schedule
from ..registry import LimenError
from ..spaces.dictionary import check_rows

Standardise = Literal["scale", "features", "none"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Options that all variants share; a fitter names them in its signature and hands them on.

    Attributes
    ----------
    steps : optimiser steps; None is `EPOCHS` passes over the rows, and no fewer than `FEWEST`
    batch_size : rows a step; all rows where there are fewer
    learning_rate : peak rate of Adam; None is 2e-4 * sqrt(2^14 / k), the published scaling, and no more than 3e-3
    standardise : 'scale' centres and divides by one number, 'features' divides each feature by its own deviation,
        'none' does neither
    revive : weight of the auxiliary loss that wakes dead latents; 0 leaves them dead
    dead_after : rows without a firing after which a latent counts as dead; None is one pass over the rows, and no
        more than a twentieth of the training
    precision : of the matrix products
    """

    steps: int | None = None
    batch_size: int = 1024
    learning_rate: float | None = None
    standardise: Standardise = "scale"
    revive: float = 1 / 32
    dead_after: int | None = None
    precision: Precision = "auto"

    def schedule(self, rows: int, k: int, name: str) -> Schedule:
        """Return the schedule for a number of rows and latents.

        Raises
        ------
        LimenError
            If an option is out of range.
        """
        lowest = {"steps": 1, "batch_size": 1, "dead_after": 1, "learning_rate": 1e-12, "revive": 0}
        for option, low in lowest.items():
            given = getattr(self, option)
            if given is not None and not low <= given < float("inf"):
                allowed = "a positive number" if option == "learning_rate" else f"{low} or more"
                raise LimenError(f"dictionary '{name}', option '{option}': given {given}, allowed is {allowed}.")
        batch = min(self.batch_size, rows)
        steps = self.steps or max(FEWEST, EPOCHS * -(-rows // batch))
        rate = self.learning_rate or min(3e-3, 2e-4 * (2**14 / k) ** 0.5)
        return Schedule(steps, batch, rate, precision=self.precision)

    def patience(self, schedule: Schedule, rows: int) -> int:
        """Return after how many rows without a firing a latent is dead."""
        return self.dead_after or max(schedule.batch, min(rows, schedule.steps * schedule.batch // 20))


EPOCHS = 20
"""Passes over the rows where no number of steps is given."""
FEWEST = 1000
"""Steps taken at least, however few the rows."""


def count_active(active: int | float | None, k: int, name: str) -> int:
    """Return how many latents a row may use, from a count, a share of `k`, or nothing.

    Raises
    ------
    LimenError
        If it is below one latent or above `k`.
    """
    if active is None:
        return max(1, min(32, k // 10))
    count = int(active * k) if 0 < active < 1 else int(active)
    if k >= 1 and not (1 <= count <= k and count == (active if active >= 1 else count)):
        raise LimenError(
            f"dictionary '{name}', option 'active': given {active}, allowed is a count from 1 to k = {k}, or a share of "
            "k below 1 that is at least one latent."
        )
    return count


def stream(activations: Tensor | Activations, name: str) -> Activations:
    """Return activations as a stream of rows, checked: two or more, all finite.

    Raises
    ------
    LimenError
        If there are fewer rows or a number is not finite.
    """
    rows = Activations.of(activations)
    check_rows(len(rows), len(rows) > 1 and bool(torch.isfinite(rows.moments()[1]).all()), activations, name)
    return rows


def standardisation(rows: Activations, how: Standardise) -> tuple[Tensor, Tensor]:
    """Return the mean and the scale, float32 (d,), by which rows are standardised."""
    mean, spread = rows.moments()
    if how == "none":
        return torch.zeros_like(mean).float(), torch.ones_like(mean).float()
    overall = spread.square().mean().sqrt()
    overall = torch.where(overall > 0, overall, torch.ones_like(overall))
    if how == "scale":
        return mean.float(), overall.expand_as(mean).float()
    # A feature that hardly moves would be blown up to pure rounding noise.
    return mean.float(), torch.where(spread > 1e-3 * overall, spread, overall).float()
