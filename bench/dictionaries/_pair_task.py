"""One fit of direction pairs: the losses of each stage on activations in that stage's scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engine import Draws
from ..engine.minimise import Minimum, Schedule, minimise
from . import _pair_losses as losses

Stages = tuple[float, float, float]
Head = Callable[[Tensor], Tensor]
STAGES = ("orthogonal", "free", "joint")
PARAMETERS = ("filters", "thresholds", "log_margins")
_KAPPA = (0.5, 0.9)
"""How far towards the boundary activations are moved, as a share of the way."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """The data and the rules of one fit; detectors are held as `filters` (R, k, d), `thresholds`, `log_margins` (R, k).

    Attributes
    ----------
    maps : (n, T, d), T = 1 where no head listens
    head : positions (n, T, d) to logits, or None
    least, most : bounds of a detector's activity in each stage
    """

    maps: Tensor
    head: Head | None
    k: int
    batch: int
    weights: Mapping[str, Stages]
    least: tuple[float, ...]
    most: tuple[float, ...]
    draws: Draws

    @property
    def middle(self) -> Tensor:
        return self.maps.mean(dim=(0, 1))

    def scale(self, stage: int) -> Tensor:
        """Return what activations are divided by: each feature's spread in the first stage, then one number."""
        spread = (self.maps - self.middle).square().mean(dim=(0, 1))
        one = spread.mean().sqrt()
        scale = spread.sqrt() if stage == 0 else one.expand_as(spread)
        # A feature that never moves is left alone.
        return scale.where(scale > 1e-6 * one.clamp_min(1e-30), torch.ones_like(scale))

    def start(self, count: int) -> dict[str, Tensor]:
        """Draw `count` sets of filters; thresholds at the mean, margins of one spread."""
        filters = _semi_orthogonal(self.draws.spawn("start").normal(count, self.k, self.maps.shape[2]))
        zeros = filters.new_zeros(count, self.k)
        return {"filters": filters, "thresholds": zeros, "log_margins": zeros.clone()}

    def carried(self, trained: Mapping[str, Tensor], stage: int) -> dict[str, Tensor]:
        """Express the detectors of the stage before in the scale of this one."""
        ratio = self.scale(stage) / self.scale(stage - 1)
        filters = trained["filters"] * ratio
        length = filters.norm(dim=-1)
        return {
            "filters": filters / length[..., None],
            "thresholds": trained["thresholds"] / length,
            "log_margins": trained["log_margins"] - length.log(),
        }

    def minimise(
        self,
        stage: int,
        begin: Mapping[str, Tensor],
        schedule: Schedule,
        checkpoint: Path | None,
        progress: Callable[[int, int], None] | None,
    ) -> Minimum:
        """Run one stage on all sets of detectors at once; they do not see each other."""
        middle, scale = self.middle, self.scale(stage)
        scaled = (self.maps - middle) / scale

        def loss(parameters: dict[str, Tensor], items: Tensor, draws: Draws) -> Tensor:
            return self.loss(stage, parameters, scaled[items], (middle, scale), draws).sum()

        return minimise(
            loss,
            begin,
            len(scaled),
            schedule,
            draws=self.draws.spawn(STAGES[stage]),
            retract=_semi_orthogonal_filters if stage == 0 else _unit_filters,
            checkpoint=checkpoint,
            progress=progress,
        )

    def loss(
        self, stage: int, parameters: Mapping[str, Tensor], scaled: Tensor, frame: tuple[Tensor, Tensor], draws: Draws
    ) -> Tensor:
        """Return the weighted loss of each set of detectors on scaled activations (n, T, d), (R,)."""
        answers = losses.detect(scaled, *(parameters[name] for name in PARAMETERS))
        wanted = {name: stages[stage] for name, stages in self.weights.items() if stages[stage] > 0}
        signals = losses.signals_of(scaled, answers) if stage == 2 else None
        terms: dict[str, Callable[[], Tensor]] = {
            "sparsity": lambda: losses.sparsity(answers),
            "sparsity_bound": lambda: losses.sparsity_bound(answers),
            "binary": lambda: losses.binary(answers),
            "margin": lambda: losses.margin(answers),
            "inactive": lambda: losses.inactive(answers, self.least[stage]),
            "too_active": lambda: losses.too_active(answers, self.most[stage]),
        }
        if signals is not None:
            terms["orthogonality"] = lambda: losses.orthogonality(answers, signals)
        if self.head is not None:
            terms["uncertainty"] = lambda: self.uncertainty(scaled, answers, signals, frame, draws)
        total = answers.excess.new_zeros(len(answers.excess))
        for name, weight in wanted.items():
            if name in terms:
                total = total + weight * terms[name]()
        return total

    def uncertainty(
        self,
        scaled: Tensor,
        answers: losses.Answers,
        signals: Tensor | None,
        frame: tuple[Tensor, Tensor],
        draws: Draws,
    ) -> Tensor:
        """Move activations most of the way to where no detector is decided, and ask the head."""
        assert self.head is not None
        low, high = _KAPPA
        share = low + (high - low) * draws.uniform(*scaled.shape[:2], 1)
        move = losses.to_boundary(answers) if signals is None else losses.to_boundary_along(answers, signals)
        middle, scale = frame
        return losses.uncertainty(self.head, (scaled - share * move) * scale + middle)

    def best(self, stage: int, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep the set of detectors with the smallest loss on all data."""
        middle, scale = self.middle, self.scale(stage)
        draws = self.draws.spawn("best of", stage)
        total = None
        for index, maps in enumerate(self.maps.split(max(1, self.batch // self.maps.shape[1]))):
            scaled = (maps - middle) / scale
            part = self.loss(stage, parameters, scaled, (middle, scale), draws.spawn(index)).detach() * len(maps)
            total = part if total is None else total + part
        assert total is not None
        chosen = int(total.argmin())
        return {name: value[chosen : chosen + 1] for name, value in parameters.items()}


def _semi_orthogonal(filters: Tensor) -> Tensor:
    """Return the nearest filters (..., k, d) that are orthonormal; with k > d their transpose is, scaled to unit filters."""
    left, _, right = torch.linalg.svd(filters, full_matrices=False)
    nearest = left @ right
    return nearest / nearest.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _semi_orthogonal_filters(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"filters": _semi_orthogonal(parameters["filters"])}


def _unit_filters(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    filters = parameters["filters"]
    return {"filters": filters / filters.norm(dim=-1, keepdim=True).clamp_min(1e-12)}
