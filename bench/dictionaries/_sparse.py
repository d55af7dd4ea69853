"""The sparse autoencoder that all its variants share: encoder, code, atoms, loss, and how it becomes a `Dictionary`.

The seam, for variants in other files:

- **Atoms** give the decoder. `Autoencoder.loss` evaluates `atoms()` once a step, (k, d) in standardised units, and
  every use of the decoder in that step reads this one tensor, so that its backward runs once too. `Free` are trained
  as they are and kept at unit length; a constrained decoder (`W C + Lambda`) is another class with the same four
  methods.
- **Sparsity** turns rows into `Codes` and says which encoder of `bench.spaces.encoders` repeats it on new rows.
- **Autoencoder** holds one encoder, one sparsity and one `Atoms`, and is what `bench.engine.sparse_fit.fit_sparse`
  trains. A model with several encoders and decoders is another class with `parameters`, `buffers`, `loss` and
  `project`; it can call the same `Sparsity.codes`, `Codes.decoded` and `Revival`.
- **fit_autoencoder** does the rest: standardises, trains, folds all of it into a `Dictionary`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.sparse_fit import Fitted, Schedule, fit_sparse
from ..engine.sparse_fit_model import Step
from ..engine.sparse_fit_products import Places, decoded
from ..spaces.dictionary import Dictionary, check_k, fitted_on
from ._sparse_dead import Revival
from ._sparse_training import Standardise as Standardise
from ._sparse_training import Training as Training
from ._sparse_training import count_active as count_active
from ._sparse_training import standardisation as standardisation
from ._sparse_training import stream as stream

Progress = Callable[[int, int], None] | None


class Atoms(Protocol):
    """A decoder: what a step's dictionary is a function of."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the trained leaves."""

    def buffers(self) -> Mapping[str, Tensor]:
        """Return fixed or remembered tensors (fixed points, for example), written to in place only."""

    def __call__(self) -> Tensor:
        """Return the atoms (k, d) in standardised units; differentiable; called once a step."""

    def project(self) -> None:
        """Put the parameters back where they are allowed; called after each step, without gradients."""


class Free:
    """Unconstrained atoms of unit length.

    Parameters
    ----------
    start : float (k, d), rows of unit length
    """

    def __init__(self, start: Tensor) -> None:
        self.directions = start.clone().requires_grad_()

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the directions."""
        return {"directions": self.directions}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return nothing."""
        return {}

    def __call__(self) -> Tensor:
        """Return the directions themselves."""
        return self.directions

    def project(self) -> None:
        """Scale every direction to unit length."""
        self.directions.div_(torch.linalg.vector_norm(self.directions, dim=1, keepdim=True).clamp_min(1e-12))


@dataclass(frozen=True)
class Codes:
    """Codes of a batch: one value an entry at `places`, or all of them (n, k) where `places` is None."""

    values: Tensor
    places: Places | None = None

    def decoded(self, atoms: Tensor) -> Tensor:
        """Return codes @ atoms, float32 (n, d)."""
        if self.places is None:
            return (self.values @ atoms).float()
        return decoded(self.values, self.places, atoms)

    def fired(self, k: int) -> Tensor:
        """Return which latents are active in some row, float32 (k,) of 0 and 1."""
        active = (self.values.detach() > 0).float()
        if self.places is None:
            return active.amax(dim=0)
        return active.new_zeros(k).scatter_reduce(0, self.places.columns, active, "amax")


@dataclass(frozen=True)
class Encoder:
    """What a latent reads: `(rows - offset) @ filters.T + bias`; trained leaves (k, d), (k,), (d,)."""

    filters: Tensor
    bias: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Trained:
    """What an encoder in the units of the activations is made of.

    Attributes
    ----------
    filters : float32 (k, d), for rows in the units of the activations, centred
    bias : float32 (k,)
    gain : float32 (k,), from codes in standardised units to codes of unit atoms
    atoms : float32 (k, d), in standardised units
    scale : float32 (d,), standardised = centred / scale
    """

    filters: Tensor
    bias: Tensor
    gain: Tensor
    atoms: Tensor
    scale: Tensor


class Sparsity(Protocol):
    """How answers of the filters become codes."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return trained leaves of its own (thresholds)."""

    def buffers(self) -> Mapping[str, Tensor]:
        """Return what it remembers from step to step, written to in place only."""

    def codes(self, rows: Tensor, encoder: Encoder, atoms: Tensor, step: Step) -> tuple[Codes, Tensor | float]:
        """Return the codes of standardised rows (n, d), and this process's share of a penalty on them.

        `atoms` are the step's, for codes that are found by the decoder itself (matching pursuit).
        """

    def project(self) -> None:
        """Put its parameters back where they are allowed."""

    def encoder(self, trained: Trained) -> tuple[str, dict[str, Tensor]]:
        """Return the name and the parameters of the encoder that repeats it in the units of the activations."""


class Autoencoder:
    """One encoder, one sparsity, one set of atoms; trained on rows in units of the activations.

    Parameters
    ----------
    filters : float (k, d), where the encoder starts
    atoms : Atoms
    sparsity : Sparsity
    mean, scale : float (d,), standardised = (row - mean) / scale
    revival : what wakes dead latents, or None
    """

    def __init__(
        self,
        filters: Tensor,
        atoms: Atoms,
        sparsity: Sparsity,
        mean: Tensor,
        scale: Tensor,
        revival: Revival | None = None,
    ) -> None:
        self.atoms, self.sparsity, self.revival = atoms, sparsity, revival
        self.encoder = Encoder(
            filters.clone().requires_grad_(),
            filters.new_zeros(len(filters)).requires_grad_(),
            filters.new_zeros(filters.shape[1]).requires_grad_(),
        )
        self.mean, self.scale = mean.clone(), scale.clone()

    def parameters(self) -> dict[str, Tensor]:
        """Return the encoder's, the atoms' and the sparsity's leaves."""
        own = {"filters": self.encoder.filters, "bias": self.encoder.bias, "offset": self.encoder.offset}
        return own | _named("atoms", self.atoms.parameters()) | _named("sparsity", self.sparsity.parameters())

    def buffers(self) -> dict[str, Tensor]:
        """Return what a resumed fit must know beside the parameters."""
        own = {"mean": self.mean, "scale": self.scale}
        revival = self.revival.buffers() if self.revival else {}
        parts = (("atoms", self.atoms.buffers()), ("sparsity", self.sparsity.buffers()), ("revival", revival))
        for prefix, tensors in parts:
            own |= _named(prefix, tensors)
        return own

    def loss(self, batch: Tensor, step: Step) -> Tensor:
        """Return the mean squared error in standardised units, plus the sparsity's penalty and the auxiliary loss."""
        rows = (batch - self.mean) / self.scale
        atoms = self.atoms()
        codes, penalty = self.sparsity.codes(rows, self.encoder, atoms, step)
        error, squares = self.errors(rows - self.encoder.offset, codes, atoms)
        loss = squares / (step.rows * rows.shape[1]) + penalty
        if self.revival is not None:
            own = self.encoder
            loss = loss + self.revival.loss(rows, error, own.filters, own.bias, own.offset, atoms, step)
            self.revival.watch(codes.fired(len(atoms)), step)
        return loss

    def errors(self, centred: Tensor, codes: Codes, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the codes leave of the centred rows (n, d), and the sum of squares that is trained on."""
        error = centred - codes.decoded(atoms)
        return error, error.square().sum()

    def project(self) -> None:
        """Project the atoms and the sparsity's parameters."""
        self.atoms.project()
        self.sparsity.project()


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unit(directions: Tensor) -> Tensor:
    """Scale rows to unit length; zero rows stay zero."""
    return torch.nn.functional.normalize(directions, dim=1, eps=1e-12)


def fit_autoencoder(
    name: str,
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    sparsity: Callable[[Tensor, Schedule], Sparsity],
    training: Training,
    options: Mapping[str, Any],
    atoms: Callable[[Activations, Tensor, Tensor, Tensor], Atoms] | None = None,
    kind: Callable[..., Autoencoder] = Autoencoder,
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train an autoencoder and return it as a dictionary in the units of the activations.

    Parameters
    ----------
    sparsity : makes one, from the filters' start (k, d) and the schedule
    options : what the provenance tells of the variant
    atoms : makes them from the rows, their mean and scale, and random unit directions (k, d); None is `Free`. The
        encoder starts at what these atoms are.
    kind : makes the model, with the parameters of `Autoencoder`
    """
    check_k(k, None, name)
    rows = stream(activations, name)
    schedule = training.schedule(len(rows), k, name)
    mean, scale = standardisation(rows, training.standardise)
    start = unit(draws.spawn("start").normal(k, rows.shape[1]).type_as(mean))
    decoder: Atoms = Free(start) if atoms is None else atoms(rows, mean, scale, start)
    filters = unit(decoder().detach())
    revival = Revival(filters, training.patience(schedule, len(rows)), training.revive) if training.revive else None
    model = kind(filters, decoder, sparsity(filters, schedule), mean, scale, revival)
    if training.standardise == "none" and model.encoder.offset.requires_grad:
        model.encoder.offset.data.copy_(rows.moments()[0])
    facts = fitted_on(rows, draws, k=k, **options, **vars(training))
    fitted = fit_sparse(
        model,
        rows,
        schedule,
        draws=draws,
        where=f"dictionary '{name}'",
        identity=f"{name}|{facts}",
        checkpoint=checkpoint,
        progress=progress,
    )
    return folded(name, model, facts | _trained(fitted, schedule))


def _trained(fitted: Fitted, schedule: Schedule) -> dict[str, Any]:
    return {"steps": schedule.steps, "batch": schedule.batch, **fitted.facts()}


def folded(name: str, model: Autoencoder, provenance: Mapping[str, Any]) -> Dictionary:
    """Return a trained autoencoder as a dictionary: unit atoms, with the standardisation inside filters and gain."""
    own, scale, atoms = model.encoder, model.scale, model.atoms().detach()
    directions = atoms * scale
    trained = Trained(
        filters=own.filters.detach() / scale,
        bias=own.bias.detach(),
        gain=torch.linalg.vector_norm(directions, dim=1),
        atoms=atoms,
        scale=scale,
    )
    encoder, parameters = model.sparsity.encoder(trained)
    return Dictionary(
        name=name,
        atoms=unit(directions),
        mean=model.mean + scale * own.offset.detach(),
        encoder=encoder,
        signed=False,
        parameters=parameters,
        provenance=provenance,
    )
