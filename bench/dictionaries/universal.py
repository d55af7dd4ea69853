"""Universal autoencoder: several networks, one code, so that a concept has the same index in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.activations import Activations
from ..engine.precision import Precision
from ..engine.sparse_fit import fit_sparse
from ..engine.sparse_fit_model import Step
from ..registry import LimenError, dictionary
from ..spaces.dictionary import Dictionary, check_k, fitted_on
from ._sparse import Encoder, Free, Progress, Standardise, Training, count_active, standardisation, stream, unit
from ._sparse_dead import Revival
from .topk import TopK


@dictionary(
    version=1,
    citation="arXiv:2502.03714",
    cost="steps x (2 batch d_i k + 8 batch d active), d all networks' features, d_i those of one",
)
def universal(
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    widths: tuple[int, ...] | None = None,
    active: int | float | None = None,
    steps: int | None = None,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    standardise: Standardise = "features",
    revive: float = 1 / 32,
    dead_after: int | None = None,
    precision: Precision = "auto",
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train one TopK code that each of several networks can write and from which all of them are reconstructed.

    Each step one network, drawn uniformly, encodes the batch, and every network is decoded from its code; the loss is
    the mean over networks of the squared error a standardised feature. That step moves the one encoder and all
    decoders, each by the whole of its gradient, and leaves the other encoders as they are. An atom is of unit length
    over all networks together, so that a concept may be large in one and absent in another.

    Parameters
    ----------
    activations : float (n, d) or (N, T, d), or a stream of rows
        The networks' features side by side, row by row of the same image and position, as
        `bench.spaces.views.side_by_side` puts them.
    k : int
    widths : how many of the d features are each network's, in order; None is one network
    active : latents a row, or a share of `k` below 1; None is a tenth of `k`, at most 32
    steps : optimiser steps; None is 20 passes over the rows, and no fewer than 1000
    batch_size : rows a step, over all processes
    learning_rate : peak rate of Adam; None is 2e-4 * sqrt(2^14 / k), and no more than 3e-3
    standardise : 'features' (centre, a scale for each feature), 'scale' (centre, one scale for each network) or 'none'
    revive : weight of the auxiliary loss on dead latents, computed only when some are dead
    dead_after : rows without a firing after which a latent is dead; None is one pass over the rows
    precision : of the matrix products; 'auto' is bfloat16 where it repays and agrees
    checkpoint : file from which the fit goes on after a kill
    progress : `progress(step, steps)`

    Returns
    -------
    Dictionary
        Of the features side by side: its code is the TopK of the networks' mean answer. `bench.spaces.views.views` takes it
        apart into one dictionary a network, each with its own encoder into the shared code.

    Raises
    ------
    LimenError
        If `widths` do not sum to d, or an option or the activations are out of range.

    Notes
    -----
    The published loss is an absolute error, and its decoders but the drawn one are never moved by the gradients they
    gather; here they are.

    References
    ----------
    Thasarathan et al. 2025, arXiv:2502.03714.
    """
    check_k(k, None, "universal")
    kept = count_active(active, k, "universal")
    rows = stream(activations, "universal")
    parts = _checked_widths(widths, rows.shape[1])
    training = Training(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        standardise=standardise,
        revive=revive,
        dead_after=dead_after,
        precision=precision,
    )
    schedule = training.schedule(len(rows), k, "universal")
    mean, scale = _standardisation(rows, standardise, parts)
    start = unit(draws.spawn("start").normal(k, rows.shape[1]).type_as(mean))
    revival = Revival(start, training.patience(schedule, len(rows)), revive) if revive else None
    model = Shared(start, kept, mean, scale, parts, revival)
    if standardise == "none":
        model.offset.data.copy_(rows.moments()[0] / scale)
    facts = fitted_on(rows, draws, k=k, **{**vars(training), "active": kept, "widths": list(parts)})
    fitted = fit_sparse(
        model,
        rows,
        schedule,
        draws=draws,
        where="dictionary 'universal'",
        identity=f"universal|{facts}",
        checkpoint=checkpoint,
        progress=progress,
    )
    return model.folded(facts | {"steps": schedule.steps, "batch": schedule.batch, **fitted.facts()})


class Shared:
    """One encoder a network, one code, one decoder for all networks side by side.

    Parameters
    ----------
    start : float (k, d), unit rows: where the atoms start; encoders start at the atoms' parts, scaled to read their codes
    active : latents a row
    mean, scale : float (d,), standardised = (row - mean) / scale
    widths : features of each network
    revival : what wakes dead latents, or None
    """

    def __init__(
        self, start: Tensor, active: int, mean: Tensor, scale: Tensor, widths: tuple[int, ...], revival: Revival | None
    ) -> None:
        self.widths, self.sparsity, self.revival = widths, TopK(active), revival
        self.atoms = Free(start)
        self.filters = [
            (part * (start.shape[1] / width)).clone().requires_grad_()
            for part, width in zip(start.split(widths, dim=1), widths, strict=True)
        ]
        self.biases = [start.new_zeros(len(start)).requires_grad_() for _ in widths]
        self.offset = start.new_zeros(start.shape[1]).requires_grad_()
        self.mean, self.scale = mean.clone(), scale.clone()

    def parameters(self) -> dict[str, Tensor]:
        """Return encoders, atoms and the offset of the rows."""
        found = {"offset": self.offset, "atoms": self.atoms.directions}
        for index, (filters, bias) in enumerate(zip(self.filters, self.biases, strict=True)):
            found |= {f"filters.{index}": filters, f"bias.{index}": bias}
        return found

    def buffers(self) -> dict[str, Tensor]:
        """Return what a resumed fit must know beside the parameters."""
        watched = self.revival.buffers() if self.revival else {}
        return {"mean": self.mean, "scale": self.scale} | {f"revival.{name}": one for name, one in watched.items()}

    def encoder(self, index: int) -> Encoder:
        """Return one network's encoder; its offset is a part of the common one."""
        return Encoder(self.filters[index], self.biases[index], self.offset.split(self.widths)[index])

    def loss(self, batch: Tensor, step: Step) -> Tensor:
        """Encode by the network drawn for this step; return the squared error of all, and the auxiliary loss."""
        # By numpy, on the host: a number drawn where the rows are would have to be waited for.
        drawn = int(step.draws.spawn("network").numpy().integers(len(self.widths)))
        rows = (batch - self.mean) / self.scale
        atoms, encoder, own = self.atoms(), self.encoder(drawn), rows.split(self.widths, dim=1)[drawn]
        codes, _ = self.sparsity.codes(own.contiguous(), encoder, atoms, step)
        error = rows - self.offset - codes.decoded(atoms)
        loss = error.square().sum() / (step.rows * rows.shape[1])
        if self.revival is not None:
            # The auxiliary loss is a mean over its rows' features, which are one network's; the error is of all.
            share = own.shape[1] / rows.shape[1]
            loss = loss + share * self.revival.loss(
                own, error, encoder.filters, encoder.bias, encoder.offset, atoms, step
            )
            self.revival.watch(codes.fired(len(atoms)), step)
        return loss

    def project(self) -> None:
        """Scale every atom to unit length over all networks."""
        self.atoms.project()

    def folded(self, provenance: Mapping[str, object]) -> Dictionary:
        """Return the dictionary of the networks side by side, with the standardisation inside filters and gain."""
        directions = self.atoms().detach() * self.scale
        filters = torch.cat([one.detach() for one in self.filters], dim=1) / self.scale
        return Dictionary(
            name="universal",
            atoms=unit(directions),
            mean=self.mean + self.scale * self.offset.detach(),
            encoder="shared_topk",
            signed=False,
            parameters={
                "filters": filters,
                "biases": torch.stack([one.detach() for one in self.biases]),
                "gain": directions.norm(dim=1),
                "active": filters.new_tensor(float(self.sparsity.active)),
                "widths": filters.new_tensor([float(width) for width in self.widths]),
            },
            provenance=provenance,
        )


def _checked_widths(widths: tuple[int, ...] | None, d: int) -> tuple[int, ...]:
    parts = (d,) if widths is None else tuple(widths)
    if not parts or min(parts) < 1 or sum(parts) != d:
        raise LimenError(
            f"dictionary 'universal', option 'widths': given {parts}, allowed are positive numbers that sum to {d}, the "
            "features of all networks side by side."
        )
    return parts


def _standardisation(rows: Activations, how: Standardise, widths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and scale (d,) such that each network's features weigh the same in a sum over all of them."""
    mean, spread = standardisation(rows, "none" if how == "none" else "features")
    if how == "scale":
        deviations = rows.moments()[1].split(widths)
        spread = torch.cat([one.square().mean().sqrt().clamp_min(1e-30).expand_as(one) for one in deviations]).type_as(
            mean
        )
    weights = [(sum(widths) / (len(widths) * width)) ** 0.5 for width in widths]
    parts = [one / weight for one, weight in zip(spread.split(widths), weights, strict=True)]
    return mean, torch.cat(parts)
