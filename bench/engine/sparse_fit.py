"""The loop that fits sparse codes: batches of a stream, one Adam step each, kept on disk and resumed to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..registry import LimenError
from .activations import Activations
from .device import resolve_device
from .precision import Precision, has_bfloat16_units, reduced
from .random import Draws
from .sparse_fit_model import Model, Step
from .sparse_fit_state import Kept
from .sparse_fit_world import World, own_device

_AGREE = 0.01
"""Most relative difference between the first losses in bfloat16 and in float32."""
SAVE_EVERY = 500
"""Steps between two checkpoints."""
_ENOUGH_WORK = 2**26
"""Products rows x latents x features of one batch from which bfloat16 repays its casts."""


@dataclass(frozen=True)
class Schedule:
    """How a dictionary is trained.

    Attributes
    ----------
    steps : int
    batch : rows a step, over all processes
    rate : peak learning rate of Adam; it rises for a share `warm_up` of the steps and falls as a cosine to `last_rate`
    clip : most norm of the gradient of all parameters together; None leaves it alone
    precision : of matrix products; 'auto' is bfloat16 where the hardware has units for it, the batch is large enough
        and the first loss agrees with that in float32
    """

    steps: int
    batch: int
    rate: float
    warm_up: float = 0.05
    last_rate: float = 1e-6
    clip: float | None = 1.0
    precision: Precision = "auto"

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step 0 .. steps - 1."""
        rise = max(1, round(self.warm_up * self.steps))
        if step < rise:
            return self.rate * (step + 1) / rise
        last = min(self.last_rate, self.rate)
        return last + (self.rate - last) * 0.5 * (1 + cos(pi * (step - rise) / max(1, self.steps - rise)))


@dataclass(frozen=True)
class Fitted:
    """What became of a fit.

    Attributes
    ----------
    losses : float32 (steps,), on the CPU
    audit : precision asked for and used, and the first losses behind the choice
    """

    losses: Tensor
    audit: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what a dictionary's provenance keeps: the audit, and the mean loss of the last tenth of the steps."""
        return {
            "precision": dict(self.audit),
            "last_loss": float(self.losses[-max(1, len(self.losses) // 10) :].mean()),
        }


def fit_sparse(
    model: Model,
    activations: Activations,
    schedule: Schedule,
    *,
    draws: Draws,
    where: str,
    identity: str = "",
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: str = "auto",
) -> Fitted:
    """Train a model in place on shuffled batches of activations.

    Batch `i` depends on the draws and on `i` alone, so that a fit that was killed and goes on from its checkpoint ends
    where an unbroken one ends: to the bit on a CPU in one thread. Under `torchrun` each process takes its part of every
    batch and the gradients are added up; the answer is that of one process up to the order of sums.

    Parameters
    ----------
    model : Model
        Its tensors are moved to the device for the fit and put back afterwards.
    activations : Activations
    schedule : Schedule
    draws : Draws
    where : opens error sentences
    identity : what decides the fit beside the model and the schedule (data, options); a checkpoint of another is refused
    checkpoint : a file to go on from and to write to, or None
    progress : `progress(step, steps)`
    device : 'auto', 'cpu', 'cuda' ...

    Raises
    ------
    LimenError
        If the checkpoint is of another fit, or the parameters stop being finite.
    """
    home = next(iter(model.parameters().values())).device
    there = own_device(resolve_device(device)) if home.type == "cpu" else home
    world = World(there)
    _place(model, there)
    optimizer = torch.optim.Adam(list(model.parameters().values()), lr=schedule.rate, fused=there.type != "meta")
    losses = torch.zeros(schedule.steps, device=there)
    kept = Kept(checkpoint, model, optimizer, losses, where, f"{schedule!r}|{draws!r}|{identity}")
    start, audit = kept.resume()
    rows = min(schedule.batch, len(activations))
    batches = activations.batches(
        schedule.batch, draws=draws.spawn("batches"), start=start, rank=world.rank, world=world.size
    )
    batches = (batch.to(there, non_blocking=True) for batch in batches)
    steps = (Step(i, schedule.steps, rows, world, draws.spawn("step", i)) for i in range(start, schedule.steps))
    for step, batch in zip(steps, batches, strict=False):
        if not audit:
            audit = _audit(model, batch, step, schedule.precision)
        losses[step.index] = _advance(model, batch, step, optimizer, schedule, _low(audit, there))
        done = step.index + 1
        if done % SAVE_EVERY == 0 or done == schedule.steps:
            _check(model, where, schedule)
            kept.save(done, audit, world)
        if progress is not None:
            progress(done, schedule.steps)
    _place(model, home)
    return Fitted(losses.cpu(), audit)


def _advance(
    model: Model,
    batch: Tensor,
    step: Step,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    low: AbstractContextManager[None],
) -> Tensor:
    """Take one step; nothing here waits for the device."""
    optimizer.zero_grad(set_to_none=True)
    with low:
        loss = model.loss(batch, step)
    loss.backward()
    parameters = [value for value in model.parameters().values() if value.grad is not None]
    gradients = [value.grad for value in parameters if value.grad is not None]
    step.world.add(*gradients)
    if schedule.clip is not None and gradients:
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        # The fused kernel divides by this number as it reads: clipping costs no pass of its own.
        optimizer.grad_scale = (norm / schedule.clip).clamp_min(1.0)  # type: ignore[attr-defined]
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate_at(step.index)
    optimizer.step()
    with torch.no_grad():
        model.project()
    total = loss.detach().clone()
    step.world.add(total)
    return total


def _low(audit: Mapping[str, Any], device: torch.device) -> AbstractContextManager[None]:
    return reduced(device, "bf16") if audit["used"] == "bf16" else nullcontext()


def _audit(model: Model, batch: Tensor, step: Step, asked: Precision) -> dict[str, Any]:
    """Decide the precision on the first batch, from losses that leave the model as it was."""
    if asked != "auto":
        return {"asked": asked, "used": asked}
    widest = max((value.numel() for value in model.parameters().values()), default=0)
    if not has_bfloat16_units(batch.device) or step.rows * widest < _ENOUGH_WORK:
        return {"asked": asked, "used": "fp32"}
    found = []
    for low in (nullcontext(), reduced(batch.device, "bf16")):
        before = {name: value.clone() for name, value in model.buffers().items()}
        with torch.no_grad(), low:
            loss = model.loss(batch, step)
        step.world.add(loss)
        found.append(float(loss))
        for name, value in model.buffers().items():
            value.copy_(before[name])
    exact, short = found
    used = "bf16" if abs(short - exact) <= _AGREE * abs(exact) else "fp32"
    return {"asked": asked, "used": used, "first_loss_fp32": exact, "first_loss_bf16": short}


def _place(model: Model, device: torch.device) -> None:
    for value in (*model.parameters().values(), *model.buffers().values()):
        value.data = value.data.to(device)
        value.grad = None


def _check(model: Model, where: str, schedule: Schedule) -> None:
    if not all(bool(torch.isfinite(value).all()) for value in model.parameters().values()):
        raise LimenError(
            f"{where}: the parameters are no longer finite at a learning rate of {schedule.rate}; allowed is a "
            "smaller one."
        )
