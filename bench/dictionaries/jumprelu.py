"""JumpReLU autoencoder: each latent learns the threshold below which its answer does not count."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from torch.autograd import Function

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import answers
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary
from ._sparse import Codes, Encoder, Progress, Standardise, Trained, Training, fit_autoencoder

Kernel = Literal[
    "rectangle", "triangle", "epanechnikov", "biweight", "cosine", "gaussian", "logistic", "cauchy", "silverman"
]


@dictionary(
    version=1,
    citation="arXiv:2407.14435",
    cost="steps x 10 batch d k",
    presets={
        "saelens": {"kernel": "rectangle", "bandwidth": 0.05, "threshold": 0.01, "learning_rate": 3e-4},
        "ra-sae": {"kernel": "silverman", "bandwidth": 0.01, "standardise": "features"},
        "overcomplete": {"kernel": "silverman", "bandwidth": 0.001, "threshold": 0.0498, "standardise": "none"},
    },
)
def jumprelu(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    penalty: float = 1.0,
    kernel: Kernel = "rectangle",
    bandwidth: float = 0.05,
    threshold: float = 0.5,
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
    """Train an autoencoder whose codes are the answers above a threshold learnt for each latent.

    The loss of a row is `(|error|^2 + penalty * number of active latents) / d` in standardised units. The step at the
    threshold has no gradient; a kernel density of unit mass around it stands in (straight-through estimate of the
    gradient of the expected loss). Thresholds are trained as they are and kept at 0 or more.

    Parameters
    ----------
    activations : float (n, d), (N, T, d) or (N, C, H, W), or a stream of rows
    k : int
    penalty : cost of an active latent; a latent pays where its code is above about the square root of it, in units in
        which a feature has deviation 1
    kernel : density around the threshold
    bandwidth : its width, in the same units
    threshold : where every latent starts
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
        Unit atoms, encoder 'threshold'.

    Raises
    ------
    LimenError
        If an option or the activations are out of range.

    References
    ----------
    arXiv:2407.14435
    """
    if not (0 <= penalty < float("inf") and 0 < bandwidth < float("inf") and 0 <= threshold < float("inf")):
        raise LimenError(
            f"dictionary 'jumprelu': given penalty = {penalty}, bandwidth = {bandwidth} and threshold = {threshold}, "
            "allowed are 0 or more, above 0 and 0 or more."
        )
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
        "jumprelu",
        activations,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: Jump(penalty, kernel, bandwidth, filters.new_full((k,), threshold)),
        training=training,
        options={"penalty": penalty, "kernel": kernel, "bandwidth": bandwidth, "threshold": threshold},
        checkpoint=checkpoint,
        progress=progress,
    )


class Jump:
    """Keep answers above each latent's threshold; each active latent costs `weight`."""

    def __init__(self, weight: float, kernel: Kernel, bandwidth: float, start: Tensor) -> None:
        self.weight, self.kernel, self.bandwidth = weight, kernel, bandwidth
        self.threshold = start.clone().requires_grad_()

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the thresholds."""
        return {"threshold": self.threshold}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, Tensor]:
        """Return the codes and the penalty on their number."""
        given = answers(rows, encoder.offset, encoder.filters, encoder.bias)
        codes, active = jump(given, self.threshold, self.kernel, self.bandwidth)
        weight = self.weight * step.rise(0.05) / (step.rows * rows.shape[1])
        return Codes(codes), weight * active.sum()

    def project(self) -> None:
        """Keep the thresholds at 0 or more."""
        self.threshold.clamp_min_(0)

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the encoder 'threshold'."""
        return "threshold", {
            "filters": trained.filters,
            "bias": trained.bias,
            "gain": trained.gain,
            "threshold": self.threshold.detach().clamp_min(0),
        }


def jump(given: Tensor, threshold: Tensor, kernel: Kernel, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Return the codes `given * [given > threshold]` (n, k) and how often each latent is active (k,).

    With `u = (given - threshold) / bandwidth` and `K` the kernel, the gradient with respect to the threshold is
    `-(threshold / bandwidth) K(u)` for a code and `-K(u) / bandwidth` for a count.
    """
    codes, active = _Jump.apply(given, threshold, kernel, bandwidth)
    return codes, active


class _Jump(Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, threshold: Tensor, kernel: Kernel, bandwidth: float) -> tuple[Tensor, Tensor]:
        above = given > threshold
        ctx.save_for_backward(given, threshold, above)
        ctx.kernel, ctx.bandwidth = kernel, bandwidth
        return given * above, above.sum(dim=0).type_as(given)

    @staticmethod
    def backward(ctx: Any, of_codes: Tensor, of_active: Tensor) -> tuple[Tensor | None, ...]:
        given, threshold, above = ctx.saved_tensors
        density = KERNELS[ctx.kernel]((given - threshold) / ctx.bandwidth) / ctx.bandwidth
        of_threshold = -threshold * (density * of_codes).sum(dim=0) - of_active * density.sum(dim=0)
        return of_codes * above, of_threshold, None, None


def _silverman(u: Tensor) -> Tensor:
    size = u.abs() / 2**0.5
    return 0.5 * (-size).exp() * (size + pi / 4).sin()


KERNELS = {
    "rectangle": lambda u: (u.abs() < 0.5).type_as(u),
    "triangle": lambda u: (1 - u.abs()).clamp_min(0),
    "epanechnikov": lambda u: 0.75 * (1 - u.square()).clamp_min(0),
    "biweight": lambda u: 0.9375 * (1 - u.square()).clamp_min(0).square(),
    "cosine": lambda u: (pi / 4) * (pi / 2 * u.clamp(-1, 1)).cos(),
    "gaussian": lambda u: (-0.5 * u.square()).exp() / (2 * pi) ** 0.5,
    "logistic": lambda u: u.sigmoid() * (-u).sigmoid(),
    "cauchy": lambda u: 1 / (pi * (1 + u.square())),
    "silverman": _silverman,
}
"""Densities of unit mass by name, for `u` in units of the bandwidth."""
