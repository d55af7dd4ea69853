"""Matching-pursuit autoencoder: the decoder itself finds the codes, one atom after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import Places, summed_by_column
from ..registry import dictionary
from ..spaces.dictionary import Dictionary
from ..spaces.pursuit import pursuit
from ._sparse import (
    Autoencoder,
    Codes,
    Encoder,
    Progress,
    Standardise,
    Trained,
    Training,
    count_active,
    fit_autoencoder,
)


@dictionary(
    version=1,
    citation="arXiv:2506.03093",
    cost="steps x (2 d k^2 + 2 batch d k + active x batch k)",
    presets={"overcomplete": {"active": 0.1, "standardise": "none"}},
)
def matching_pursuit(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    active: int | float | None = None,
    steps: int | None = None,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    standardise: Standardise = "scale",
    precision: Precision = "auto",
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train atoms on the error that matching pursuit with them leaves.

    Each of `active` steps takes the atom with the largest product with what is left of the row and subtracts its part;
    the gradient goes through all the steps, the choices held fixed. There is no encoder apart from the atoms and the
    mean, so that no latent can be unread; atoms that are never chosen stay where they started.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    active : greedy steps a row, or a share of `k` below 1; None is a tenth of `k`, at most 32
    steps : optimiser steps; None is 20 passes over the rows, and no fewer than 1000
    batch_size : rows a step, over all processes
    learning_rate : peak rate of Adam; None is 2e-4 * sqrt(2^14 / k), no more than 3e-3
    standardise : 'scale' (centre, one scale), 'features' (centre, a scale for each feature) or 'none'
    precision : of the matrix products behind the choices; 'auto' is bfloat16 where it repays and agrees
    checkpoint : file from which the fit goes on after a kill
    progress : `progress(step, steps)`

    Returns
    -------
    Dictionary
        Unit atoms, encoder 'pursuit', codes not negative.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2506.03093; Mallat and Zhang (1993), doi:10.1109/78.258082
    """
    taken = count_active(active, k, "matching_pursuit")
    training = Training(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        standardise=standardise,
        revive=0.0,
        precision=precision,
    )
    return fit_autoencoder(
        "matching_pursuit",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: Pursuit(taken),
        training=training,
        options={"active": taken},
        kind=DecoderOnly,
        checkpoint=checkpoint,
        progress=progress,
    )


class Pursuit:
    """Greedy codes in the atoms of the step."""

    def __init__(self, active: int) -> None:
        self.active = active

    def parameters(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, float]:
        """Return the codes; no penalty."""
        centred = rows - encoder.offset
        indices = pursuit(centred.detach(), atoms.detach(), self.active)[1]
        values = greedy_values(centred, atoms, indices)
        return Codes(values.reshape(-1), Places.of_rows(indices, len(atoms))), 0.0

    def project(self) -> None:
        """Do nothing."""

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the encoder 'pursuit', which follows the atoms in standardised units."""
        return "pursuit", {
            "filters": trained.atoms,
            "gain": trained.gain,
            "scale": trained.scale,
            "active": torch.tensor(float(self.active)),
        }


class DecoderOnly(Autoencoder):
    """An autoencoder whose codes are read by its atoms alone: filters and bias are not trained and not kept."""

    def parameters(self) -> dict[str, Tensor]:
        """Return the leaves of the atoms and the offset."""
        return {name: value for name, value in super().parameters().items() if name not in ("filters", "bias")}


def greedy_values(rows: Tensor, atoms: Tensor, indices: Tensor) -> Tensor:
    """Return the values of greedy codes whose choices are given, float32 (n, active); differentiable.

    Step `t` gives `max(<r_t, D_t>, 0)` for the chosen atom `D_t`, and `r_{t+1} = r_t - value D_t`.

    Parameters
    ----------
    rows : float (n, d)
    atoms : float (k, d), of unit length
    indices : int64 (n, active)
    """
    return _Greedy.apply(rows, atoms, indices)


class _Greedy(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, atoms: Tensor, indices: Tensor) -> Tensor:
        left, values = rows, []
        for chosen in indices.T:
            picked = atoms[chosen]
            values.append((left * picked).sum(dim=1).clamp_min(0))
            left = torch.addcmul(left, values[-1][:, None], picked, value=-1)
        found = torch.stack(values, dim=1)
        ctx.save_for_backward(left, atoms, indices, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, atoms, indices, values = ctx.saved_tensors
        # From the last step back: `left` grows to the residual each step had, `pull` is the gradient that reaches it.
        pull = torch.zeros_like(left)
        pushes = left.new_empty(len(left), indices.shape[1], left.shape[1])
        for step in range(indices.shape[1] - 1, -1, -1):
            picked, value = atoms[indices[:, step]], values[:, step, None]
            before = torch.addcmul(left, value, picked)
            slope = (gradient[:, step, None] - (pull * picked).sum(dim=1, keepdim=True)) * (value > 0)
            pushes[:, step] = slope * before - value * pull
            left, pull = before, torch.addcmul(pull, slope, picked)
        # Each entry pushes its own atom: a batch of one entry a row, summed by atom.
        places = Places.of_rows(indices.reshape(-1, 1), len(atoms))
        flat = pushes.reshape(-1, left.shape[1])
        return pull, summed_by_column(flat.new_ones(len(flat)), places, flat), None
