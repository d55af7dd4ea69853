"""BatchTopK autoencoder: so many latents a row on average over a batch, and one threshold for all new rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import chosen_answers, largest
from ..registry import dictionary
from ..spaces.dictionary import Dictionary
from ._sparse import Codes, Encoder, Progress, Standardise, Trained, Training, count_active, fit_autoencoder

_MEMORY = 0.99
"""Weight of the past in the running mean of the smallest kept answer."""


@dictionary(
    version=1,
    citation="arXiv:2412.06410",
    cost="steps x (2 batch d k + 8 batch d active)",
    presets={
        "overcomplete": {"active": 0.1, "standardise": "none", "revive": 0.0},
        "saelens": {"active": 100, "learning_rate": 3e-4, "revive": 1.0, "batch_size": 4096},
    },
)
def batch_topk(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    active: int | float | None = None,
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
    """Train an autoencoder that keeps `active` latents a row on average over each batch.

    While it trains, the `active * n` largest positive answers of a batch of `n` rows are kept, so that a row may use
    more latents than another. A running mean of the smallest kept answer is the threshold of the fitted encoder, so
    that the code of a new row depends on that row alone.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    active : latents a row on average, or a share of `k` below 1; None is a tenth of `k`, at most 32
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
        Unit atoms, encoder 'threshold' with the one threshold for every latent.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2412.06410
    """
    kept = count_active(active, k, "batch_topk")
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
        "batch_topk",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: BatchTopK(kept, filters),
        training=training,
        options={"active": kept},
        checkpoint=checkpoint,
        progress=progress,
    )


class BatchTopK:
    """Keep the `active * n` largest positive answers of a batch; remember where the cut was.

    Parameters
    ----------
    active : latents a row, on average
    like : tensor whose type and place the threshold takes
    """

    def __init__(self, active: int, like: Tensor) -> None:
        self.active = active
        self.threshold = like.new_zeros(())
        self.seen = like.new_zeros(())

    def parameters(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return the running threshold and the weight of the batches in it."""
        return {"threshold": self.threshold, "seen": self.seen}

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, float]:
        """Return the codes; no penalty."""
        # Each process offers as many as the whole batch keeps, so that the cut is that of one process.
        most = min(self.active * step.rows, len(rows) * len(encoder.bias))
        values, places = chosen_answers(
            rows, encoder.offset, encoder.filters, encoder.bias, lambda answers: largest(answers, most)
        )
        if step.world.size > 1:
            cut = step.world.kth_largest(values.detach(), self.active * step.rows)
            values = torch.where(values >= cut, values, 0.0)
        values = values.relu()
        self._remember(values.detach(), step)
        return Codes(values, places), 0.0

    def _remember(self, values: Tensor, step: Step) -> None:
        smallest = torch.where(values > 0, values, torch.inf).min()
        smallest = step.world.least(smallest)
        kept = torch.isfinite(smallest).float()
        self.threshold.mul_(1 - (1 - _MEMORY) * kept)
        self.threshold.add_((1 - _MEMORY) * torch.where(kept > 0, smallest, 0.0))
        self.seen.mul_(1 - (1 - _MEMORY) * kept).add_((1 - _MEMORY) * kept)

    def project(self) -> None:
        """Do nothing."""

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the encoder 'threshold' with the running mean, corrected for its start at zero."""
        threshold = torch.where(self.seen > 0, self.threshold / self.seen.clamp_min(1e-12), 0.0)
        return "threshold", {
            "filters": trained.filters,
            "bias": trained.bias,
            "gain": trained.gain,
            "threshold": threshold.detach().expand_as(trained.bias),
        }
