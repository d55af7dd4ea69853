"""TopK autoencoder: exactly so many latents a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import Places, chosen_answers, largest_in_rows
from ..registry import dictionary
from ..spaces.dictionary import Dictionary
from ._archetypes import FreeStart, free_start
from ._sparse import Codes, Encoder, Progress, Standardise, Trained, Training, count_active, fit_autoencoder


@dictionary(
    version=1,
    citation="arXiv:2406.04093",
    cost="steps x (2 batch d k + 8 batch d active)",
    presets={
        "overcomplete": {"active": 0.1, "standardise": "none", "revive": 0.0},
        "ra-sae": {"active": 0.1, "standardise": "features"},
        "saelens": {"active": 100, "learning_rate": 3e-4, "revive": 1.0, "batch_size": 4096},
    },
)
def topk(
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
    init: FreeStart = "random",
    points: int | None = None,
    centroids_seed: int | None = None,
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train an autoencoder whose code keeps the `active` largest positive answers of each row.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    active : latents a row, or a share of `k` below 1; None is a tenth of `k`, at most 32
    steps : optimiser steps; None is 20 passes over the rows, and no fewer than 1000
    batch_size : rows a step, over all processes
    learning_rate : peak rate of Adam; None is 2e-4 * sqrt(2^14 / k), no more than 3e-3
    standardise : 'scale' (centre, one scale), 'features' (centre, a scale for each feature) or 'none'
    revive : weight of the auxiliary loss on dead latents, computed only when some are dead
    dead_after : rows without a firing after which a latent is dead; None is one pass over the rows
    precision : of the matrix products; 'auto' is bfloat16 where it repays and agrees
    init : atoms start at random, or where those of `archetypal` do with the same `points` and `centroids_seed`: on the
        first `k` of its centroids (its 'eye') or on random mixtures of them (its 'random'); the control for what its
        constraint is worth
    points, centroids_seed : as for `archetypal`, where `init` is not 'random'
    checkpoint : file from which the fit goes on after a kill
    progress : `progress(step, steps)`

    Returns
    -------
    Dictionary
        Unit atoms, encoder 'topk'; the standardisation is inside its filters and gain.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2406.04093
    """
    kept = count_active(active, k, "topk")
    training = Training(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        standardise=standardise,
        revive=revive,
        dead_after=dead_after,
        precision=precision,
    )
    started = {} if init == "random" else {"init": init, "points": points, "centroids_seed": centroids_seed}
    return fit_autoencoder(
        "topk",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: TopK(kept),
        training=training,
        options={"active": kept, **started},
        atoms=free_start("topk", k, draws, init=init, points=points, centroids_seed=centroids_seed),
        checkpoint=checkpoint,
        progress=progress,
    )


class TopK:
    """Keep the `active` largest answers of each row, negative ones as zero."""

    def __init__(self, active: int) -> None:
        self.active = active

    def parameters(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def choose(self, answers: Tensor) -> Places:
        """Pick the places of the largest answers (n, k)."""
        return largest_in_rows(answers, self.active)

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, float]:
        """Return the codes; no penalty."""
        values, places = chosen_answers(rows, encoder.offset, encoder.filters, encoder.bias, self.choose)
        return Codes(values.relu(), places), 0.0

    def project(self) -> None:
        """Do nothing."""

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the encoder 'topk'."""
        return "topk", {
            "filters": trained.filters,
            "bias": trained.bias,
            "gain": trained.gain,
            "active": torch.tensor(float(self.active)),
        }
