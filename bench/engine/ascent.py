"""Gradient ascent on pictures: parameters are rendered, seen through random views, and moved up a logit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..registry import LimenError
from . import pictures as conversion
from .batching import Batches
from .hooks import find_layer, replaced
from .precision import exact
from .sweeps import Sweeps, finite

Parameters = dict[str, Tensor]
Render = Callable[[Parameters], Tensor]
"""Parameters (b, ...) to pictures (b, 3, S, S) in 0 .. 1; differentiable, each picture from its own rows."""
OPTIMISERS = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}
HELD_OUT = -1
"""The step whose views are drawn for measuring alone."""


class Views(Protocol):
    """Random views of pictures: what the network sees of each at one step."""

    @property
    def count(self) -> int:
        """Views of one picture at a step."""
        ...

    def __call__(self, pictures: Tensor, index: range, step: int) -> Tensor:
        """Return the views (b * count, 3, s, s) in 0 .. 1 of pictures number `index`, drawn for this step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Climb:
    """How far and how fast.

    Attributes
    ----------
    steps : int
    learning_rate : float
    optimiser : {'adam', 'nadam'}
    stop_at : float or None
        A picture whose mean logit has reached this stays as it is.
    """

    steps: int
    learning_rate: float
    optimiser: Literal["adam", "nadam"] = "nadam"
    stop_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Holds the pictures near where they began, by a layer's activations of the same views.

    Attributes
    ----------
    layer : str
    alpha : float
        The penalty's gradient in units of the logit's, compared after the first step.
    """

    layer: str
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Ascended:
    """Where an ascent ended.

    Attributes
    ----------
    pictures : float32 (n, 3, S, S) in 0 .. 1
    parameters : name -> (n, ...)
    credit : float32 (n, S, S), the absolute gradients by channel, summed over the steps
    scores : float32 (n, steps), mean logit over the views of each step
    reached, began : float32 (n,), mean logit over views that no step has used, at the end and at the start
    """

    pictures: Tensor
    parameters: Parameters
    credit: Tensor
    scores: Tensor
    reached: Tensor
    began: Tensor


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is rendered, seen and climbed."""

    render: Render
    views: Views
    climb: Climb
    sign: Literal[1, -1] = 1
    """-1 moves the logit down; what is reported stays the logit."""
    anchor: Anchor | None = None
    retract: Callable[[Parameters], Mapping[str, Tensor]] | None = None
    """Puts parameters back on their constraint set after each step."""
    fixed: Mapping[str, Tensor] = field(default_factory=dict)
    """Further rows (n, ...) that are handed to `render` beside the parameters and never moved."""


class Ascent:
    """Climbs in float32; pictures never meet, so that batch mates change nothing."""

    def __init__(self, sweeps: Sweeps, batch_size: int) -> None:
        self._sweeps = sweeps
        self._batches = Batches(sweeps.batches.where, batch_size)

    def run(
        self,
        start: Mapping[str, Tensor],
        targets: Tensor,
        aim: Aim,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Ascended:
        """Climb from `start`; `progress(pictures done, pictures)`."""
        parts = []
        most = max(1, self._batches.size // aim.views.count)

        def work(first: int, last: int) -> Ascended:
            rows = {name: value[first:last].detach().clone() for name, value in start.items()}
            fixed = {name: value[first:last] for name, value in aim.fixed.items()}
            mine = replace(aim, render=lambda parameters: aim.render({**parameters, **fixed}))
            return self._climb(rows, targets[first:last], range(first, last), mine)

        for _, stop, part in self._batches.sweep(len(targets), work, most):
            parts.append(part)
            if progress is not None:
                progress(stop, len(targets))
        names = ("pictures", "credit", "scores", "reached", "began")
        whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        parameters = {name: torch.cat([part.parameters[name] for part in parts]) for name in start}
        good = finite(whole["pictures"]) & finite(torch.stack([whole["reached"], whole["began"]], dim=1))
        self._sweeps.check(good & finite(whole["scores"]) if aim.climb.steps else good)
        return Ascended(parameters=parameters, **whole)

    def _climb(self, parameters: Parameters, targets: Tensor, index: range, aim: Aim) -> Ascended:
        climb = aim.climb
        origin = self._rendered(parameters, aim)
        began = self._measure(origin, targets, index, aim)
        for value in parameters.values():
            value.requires_grad_(True)
        optimiser = OPTIMISERS[climb.optimiser](parameters.values(), lr=climb.learning_rate)
        credit, scores = torch.zeros_like(origin[:, 0]), []
        held = torch.zeros(len(targets), dtype=torch.bool, device=origin.device)
        weight: Tensor | None = None
        for step in range(climb.steps):
            before = {name: value.detach().clone() for name, value in parameters.items()}
            values, slopes, weight = self._step(parameters, origin, weight, targets, index, aim, step)
            optimiser.step()
            self._settle(parameters, before, held, aim)
            credit += slopes * ~held[:, None, None]
            scores.append(values)
            if climb.stop_at is not None:
                held = held | (aim.sign * (values - climb.stop_at) >= 0)
                if bool(held.all()):
                    scores += [values] * (climb.steps - step - 1)
                    break
        ended = {name: value.detach() for name, value in parameters.items()}
        pictures = self._rendered(ended, aim)
        history = torch.stack(scores, dim=1) if scores else origin.new_zeros(len(targets), 0)
        reached = self._measure(pictures, targets, index, aim)
        return Ascended(
            pictures=pictures, parameters=ended, credit=credit, scores=history, reached=reached, began=began
        )

    def _step(
        self,
        parameters: Parameters,
        origin: Tensor,
        weight: Tensor | None,
        targets: Tensor,
        index: range,
        aim: Aim,
        step: int,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put gradients on the parameters; return mean logits (b,), |d logit / d picture| (b, S, S) and the weight."""
        with torch.enable_grad(), exact(self._sweeps.device):
            pictures = aim.render(parameters)
            views = aim.views(pictures, index, step)
            values, penalty = self._seen(views, origin, targets, index, aim, step)
            (slopes,) = torch.autograd.grad(values.sum(), pictures, retain_graph=True)
            loss = -aim.sign * values.sum()
            if penalty is not None and step:
                # At the start the penalty and its slope are zero: there is nothing to compare until the first step.
                (pull,) = torch.autograd.grad(penalty.sum(), pictures, retain_graph=True)
                if weight is None:
                    assert aim.anchor is not None
                    sizes = [part.abs().flatten(1).sum(dim=1) for part in (slopes, pull)]
                    weight = aim.anchor.alpha * sizes[0] / sizes[1].clamp(min=torch.finfo(torch.float32).tiny)
                loss = loss + (weight * penalty).sum()
            found = torch.autograd.grad(loss, list(parameters.values()))
        for value, slope in zip(parameters.values(), found, strict=True):
            value.grad = slope
        self._sweeps.meters.count(forwards=len(views), backwards=len(views))
        return values.detach(), slopes.abs().sum(dim=1), weight

    def _seen(
        self, views: Tensor, origin: Tensor, targets: Tensor, index: range, aim: Aim, step: int
    ) -> tuple[Tensor, Tensor | None]:
        if aim.anchor is None:
            return self._logits(views, targets), None
        kept: list[Tensor] = []

        def keep(output: Tensor) -> Tensor:
            kept[:] = [output.clone()]
            return output

        part = find_layer(self._sweeps.forward.module, aim.anchor.layer, self._sweeps.where)
        with replaced(part, keep):
            with torch.no_grad():
                self._logits(aim.views(origin, index, step), targets)
                if not kept:
                    raise LimenError(f"layer '{aim.anchor.layer}': it did not run in the forward pass.")
                anchored = kept[0]
            values = self._logits(views, targets)
        self._sweeps.meters.count(forwards=len(views))
        apart = (kept[0] - anchored).flatten(1)
        tiny = torch.finfo(torch.float32).tiny
        distance = (apart.square().sum(dim=1) + tiny).sqrt()
        return values, distance.unflatten(0, (len(targets), -1)).mean(dim=1)

    def _logits(self, views: Tensor, targets: Tensor) -> Tensor:
        """Return the mean logit (b,) over each picture's views."""
        network, forward = self._sweeps.forward, self._sweeps
        inputs = conversion.normalise(views * 255, *forward.normalisation)
        logits = network(network.plain, inputs, number="fp32")
        count = len(views) // len(targets)
        return (
            logits.gather(1, targets.repeat_interleave(count)[:, None])
            .unflatten(0, (len(targets), count))
            .mean(dim=(1, 2))
        )

    def _rendered(self, parameters: Parameters, aim: Aim) -> Tensor:
        with torch.no_grad():
            return aim.render(parameters).detach()

    def _measure(self, pictures: Tensor, targets: Tensor, index: range, aim: Aim) -> Tensor:
        with torch.no_grad():
            views = aim.views(pictures, index, HELD_OUT)
            self._sweeps.meters.count(forwards=len(views))
            return self._logits(views, targets)

    @staticmethod
    def _settle(parameters: Parameters, before: Parameters, held: Tensor, aim: Aim) -> None:
        with torch.no_grad():
            if aim.retract is not None:
                for name, value in aim.retract({name: value.detach() for name, value in parameters.items()}).items():
                    parameters[name].copy_(value)
            for name, value in parameters.items():
                value[held] = before[name][held]
