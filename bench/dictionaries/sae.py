"""The plain sparse autoencoder: rectified answers, few and small because their sum is penalised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import answers
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary
from ._sparse import Codes, Encoder, Progress, Standardise, Trained, Training, fit_autoencoder


@dictionary(
    version=1,
    citation="arXiv:2309.08600",
    cost="steps x 10 batch d k",
    presets={
        "saelens": {"penalty": 1.0, "learning_rate": 3e-4, "revive": 0.0, "batch_size": 4096},
        "ra-sae": {"standardise": "features"},
    },
)
def sae(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    penalty: float = 2.0,
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
    """Train an autoencoder with rectified codes and a penalty on their sum.

    The loss of a row is `(|error|^2 + penalty * sum of codes) / d` in standardised units. Atoms have unit length, so
    that the penalty cannot be dodged by small codes for long atoms; it rises over the first twentieth of the steps.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    penalty : weight of the sum of a row's codes; each code is shrunk by about half of it, in units in which a feature
        has deviation 1
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
        Unit atoms, encoder 'relu'; the standardisation is inside its filters and bias.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2309.08600
    """
    if not 0 <= penalty < float("inf"):
        raise LimenError(f"dictionary 'sae', option 'penalty': given {penalty}, allowed is 0 or more.")
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
        "sae",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: Rectified(penalty),
        training=training,
        options={"penalty": penalty},
        checkpoint=checkpoint,
        progress=progress,
    )


class Rectified:
    """Keep positive answers; their sum costs `weight`."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def parameters(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, Tensor]:
        """Return the codes and the penalty on their sum."""
        values = answers(rows, encoder.offset, encoder.filters, encoder.bias).relu()
        weight = self.weight * step.rise(0.05) / (step.rows * rows.shape[1])
        return Codes(values), weight * values.sum()

    def project(self) -> None:
        """Do nothing."""

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the encoder 'relu'; the gain goes through a rectifier, so filters and bias can hold it."""
        return "relu", {"filters": trained.filters * trained.gain[:, None], "bias": trained.bias * trained.gain}
