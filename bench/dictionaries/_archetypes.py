"""Atoms held in the convex hull of fixed points of the data, or within a distance of it: `W C + Lambda`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..engine import Activations, Draws
from ..registry import LimenError
from ..spaces.dictionary import Dictionary, check_k
from ._lloyd import kmeans_centroids
from ._sparse import Autoencoder, Free, Progress, Sparsity, Training, fit_autoencoder, stream, unit

Start = Literal["points", "eye", "random"]
FreeStart = Literal["random", "centroids", "mixtures"]
_A_CONCEPT = 4
"""Points for every atom where nothing is said; so many rows a point, at least."""


class Archetypes:
    """Atoms that are mixtures of fixed points, and may leave their hull by `delta`.

    Parameters
    ----------
    points : float (n', d)
        `C`, in standardised units.
    weights : float (k, n')
        `W`, not negative, each row with a positive sum.
    delta : float
        Most length of a row of `Lambda`; 0 makes no `Lambda`.
    scaled : bool
        One more number, learned: its exponential multiplies all atoms, which may then leave the hull for its cone.
    """

    def __init__(
        self,
        points: Tensor,
        weights: Tensor,
        *,
        delta: float = 0.0,
        scaled: bool = False,
    ) -> None:
        self.points, self.delta = points.clone(), delta
        self.weights = (weights / weights.sum(dim=1, keepdim=True)).requires_grad_()
        self.shift = points.new_zeros(len(weights), points.shape[1]).requires_grad_() if delta > 0 else None
        self.log_scale = points.new_zeros(1).requires_grad_() if scaled else None

    def parameters(self) -> Mapping[str, Tensor]:
        """Return the weights, and the shifts and the scale where there are any."""
        more = {"shift": self.shift, "log_scale": self.log_scale}
        return {"weights": self.weights} | {name: leaf for name, leaf in more.items() if leaf is not None}

    def buffers(self) -> Mapping[str, Tensor]:
        """Return the fixed points."""
        return {"points": self.points}

    def __call__(self) -> Tensor:
        """Return `W C + Lambda`, times the learned scale; (k, d)."""
        # In float32 also where products run in bfloat16: what reads the atoms gathers them.
        atoms = (self.weights @ self.points).float()
        if self.shift is not None:
            atoms = atoms + self.shift
        return atoms if self.log_scale is None else atoms * self.log_scale.exp()

    def project(self) -> None:
        """Make each row of the weights a mixture again, and shorten shifts to `delta`."""
        self.weights.relu_()
        total = self.weights.sum(dim=1, keepdim=True)
        # A row that lost all of its weight has no direction left: it becomes the even mixture.
        self.weights.add_((total <= 0).type_as(total)).div_(torch.where(total > 0, total, float(self.weights.shape[1])))
        if self.shift is not None:
            length = torch.linalg.vector_norm(self.shift, dim=1, keepdim=True)
            self.shift.mul_((self.delta / length.clamp_min(1e-30)).clamp_max(1.0))


@dataclass(frozen=True, kw_only=True)
class Hull:
    """Where atoms may lie, and where they start.

    Attributes
    ----------
    points : number n' of centroids; None is 4 k, as far as there are 4 rows for each, and at least k
    delta : most distance from the hull, in standardised units
    init : 'points' starts each atom on a point of its own, drawn by the seed; 'eye' on the first k points, as published;
        'random' on a random mixture of all
    centroids_seed : seeds the centroids instead of the fit's own draws, so that fits on the same data share them
    scaled : the atoms share a learned factor
    """

    points: int | None = None
    delta: float = 0.0
    init: Start = "points"
    centroids_seed: int | None = None
    scaled: bool = False

    def count(self, rows: int, k: int, name: str) -> int:
        """Return n'.

        Raises
        ------
        LimenError
            If it is below the number of atoms or above the number of rows, or another option is out of range.
        """
        check_k(k, rows, name, f", as there are {rows} rows to take points from")
        count = max(k, min(_A_CONCEPT * k, rows // _A_CONCEPT)) if self.points is None else self.points
        if not k <= count <= rows:
            raise LimenError(
                f"dictionary '{name}', option 'points': given {count} for {k} atoms, allowed is {k}, the number of "
                f"atoms, to {rows}, the number of rows."
            )
        if not 0 <= self.delta < float("inf"):
            raise LimenError(f"dictionary '{name}', option 'delta': given {self.delta}, allowed is 0 or more.")
        return count

    def atoms(self, points: Tensor, k: int, draws: Draws) -> Archetypes:
        """Start `k` atoms on mixtures of standardised points (n', d)."""
        count = len(points)
        if self.init == "random":
            # Exponential weights make every mixture equally likely.
            weights = -torch.log1p(-draws.uniform(k, count))
        else:
            chosen = torch.arange(k) if self.init == "eye" else draws.permutation(count)[:k]
            weights = torch.zeros_like(points[:1, :1]).repeat(k, count)
            weights[torch.arange(k), chosen] = 1.0
        return Archetypes(points, weights, delta=self.delta, scaled=self.scaled)


def centroids(activations: Tensor | Activations, count: int, draws: Draws, seed: int | None) -> Tensor:
    """Return the points (n', d) of a fit in the units of the activations.

    Parameters
    ----------
    draws : of the fit
    seed : None takes the centroids from `draws`, a number from itself alone
    """
    stream_of = draws.spawn("centroids") if seed is None else Draws.beside(draws.uniform(0), seed, "centroids")
    return kmeans_centroids(activations, count, draws=stream_of)


def free_start(
    name: str, k: int, draws: Draws, *, init: FreeStart, points: int | None, centroids_seed: int | None
) -> Callable[[Activations, Tensor, Tensor, Tensor], Free] | None:
    """Return what makes unconstrained unit atoms that start where those of an archetypal fit do; None is at random.

    Raises
    ------
    LimenError
        If there is something to say of centroids that are not used.
    """
    if init == "random":
        if points is not None or centroids_seed is not None:
            raise LimenError(
                f"dictionary '{name}', options 'points' and 'centroids_seed': given {points} and {centroids_seed} with "
                "init = 'random', allowed is nothing; init = 'centroids' or 'mixtures' reads them."
            )
        return None
    hull = Hull(points=points, init="eye" if init == "centroids" else "random", centroids_seed=centroids_seed)

    def atoms(rows: Activations, mean: Tensor, scale: Tensor, start: Tensor) -> Free:
        return Free(unit(_start(hull, name, rows, mean, scale, k, draws)().detach()))

    return atoms


def _start(hull: Hull, name: str, rows: Activations, mean: Tensor, scale: Tensor, k: int, draws: Draws) -> Archetypes:
    points = centroids(rows, hull.count(len(rows), k, name), draws, hull.centroids_seed).type_as(mean)
    return hull.atoms((points - mean) / scale, k, draws.spawn("weights"))


class Conic(Autoencoder):
    """An autoencoder without an offset: what it decodes stays in the cone of the atoms."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self.encoder.offset.requires_grad_(False)

    def parameters(self) -> dict[str, Tensor]:
        """Return all leaves but the offset."""
        return {name: leaf for name, leaf in super().parameters().items() if name != "offset"}

    def buffers(self) -> dict[str, Tensor]:
        """Return the offset, which stays 0, with the rest."""
        return super().buffers() | {"offset": self.encoder.offset}


def fit_archetypal(
    name: str,
    activations: Tensor | Activations,
    k: int,
    *,
    draws: Draws,
    hull: Hull,
    sparsity: Sparsity,
    training: Training,
    options: Mapping[str, Any],
    checkpoint: Path | None = None,
    progress: Progress = None,
) -> Dictionary:
    """Train an autoencoder whose atoms lie in, or near, the hull of centroids of the rows.

    The atoms' lengths in the hull are the encoder's `gain`: `gain[:, None] * atoms` is `W C + Lambda`, from the mean of
    the rows, in the units of the activations. Rows that are not standardised are not centred either: then there is no
    offset, and what is decoded lies in the cone of the rows.
    """
    rows = stream(activations, name)
    count = hull.count(len(rows), k, name)
    return fit_autoencoder(
        name,
        rows,
        k,
        draws=draws,
        sparsity=lambda filters, schedule: sparsity,
        training=training,
        options={**options, **vars(hull), "points": count},
        atoms=lambda rows, mean, scale, start: _start(hull, name, rows, mean, scale, k, draws),
        kind=Conic if training.standardise == "none" else Autoencoder,
        checkpoint=checkpoint,
        progress=progress,
    )
