"""Matryoshka autoencoder: the first latents must do on their own, so that general features come first."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_products import decoded
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary
from ._sparse import Autoencoder, Codes, Progress, Standardise, Training, count_active, fit_autoencoder
from .batch_topk import BatchTopK


@dictionary(
    version=1,
    citation="arXiv:2503.17547",
    cost="steps x (2 batch d k + (2 + 6 levels) batch d active)",
    presets={"saelens": {"active": 100, "learning_rate": 3e-4, "revive": 1.0, "batch_size": 4096}},
)
def matryoshka(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    active: int | float | None = None,
    levels: int = 5,
    steps: int | None = None,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    standardise: Standardise = "scale",
    revive: float = 1 / 32,
    dead_after: int | None = None,
    precision: Precision = "auto",
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train a BatchTopK autoencoder whose first k/2, k/4 ... latents must each reconstruct the rows by themselves.

    The loss is the mean, over the nested dictionaries of the first `k`, `k // 2`, `k // 4` ... latents, of their squared
    errors with the same codes.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    active : latents a row on average, or a share of `k` below 1; None is a tenth of `k`, at most 32
    levels : nested dictionaries, each half as large as the one around it; 1 is plain BatchTopK
    steps : optimiser steps; None is 20 passes over the rows, and no fewer than 1000
    batch_size : rows a step, over all processes
    learning_rate : peak rate of Adam; None is 2e-4 * sqrt(2^14 / k), no more than 3e-3
    standardise : 'scale' (centre, one scale), 'features' (centre, a scale for each feature) or 'none'
    revive : weight of the auxiliary loss on dead latents, computed only when some are dead
    dead_after : rows without a firing after which a latent is dead; None is one pass over the rows
    precision : of the matrix products; 'auto' is bfloat16 where it repays and agrees
    checkpoint : file from which the fit goes on after a kill
    progress : `progress(step, steps)`

    Returns
    -------
    Dictionary
        Unit atoms in the order of the nesting, encoder 'threshold'.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2503.17547
    """
    kept = count_active(active, k, "matryoshka")
    if levels < 1:
        raise LimenError(f"dictionary 'matryoshka', option 'levels': given {levels}, allowed is 1 or more.")
    prefixes = sorted({max(1, k >> level) for level in range(levels)}) if k >= 1 else [1]
    training = Training(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        standardise=standardise,
        revive=revive,
        dead_after=dead_after,
        precision=precision,
    )
    return fit_autoencoder(
        "matryoshka",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: BatchTopK(kept, filters),
        training=training,
        options={"active": kept, "levels": levels},
        kind=lambda *parts: Nested(*parts, prefixes=prefixes),
        checkpoint=checkpoint,
        progress=progress,
    )


class Nested(Autoencoder):
    """An autoencoder whose prefixes of latents reconstruct too; `prefixes` ascend and end with all latents."""

    def __init__(self, *parts: object, prefixes: list[int]) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.prefixes = prefixes

    def errors(self, centred: Tensor, codes: Codes, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return what all latents leave of the centred rows, and the mean over prefixes of the sums of squares."""
        left, total, start = centred, centred.new_zeros(()), 0
        for stop in self.prefixes:
            left = left - self._part(codes, atoms, start, stop)
            total, start = total + left.square().sum(), stop
        return left, total / len(self.prefixes)

    def _part(self, codes: Codes, atoms: Tensor, start: int, stop: int) -> Tensor:
        if codes.places is None:
            return (codes.values[:, start:stop] @ atoms[start:stop]).float()
        inside = (codes.places.columns >= start) & (codes.places.columns < stop)
        return decoded(torch.where(inside, codes.values, 0.0), codes.places, atoms)
