"""Minimising a loss over shuffled batches of items: Adam, the learning rate lowered on plateaus or by a cosine, kept on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..registry import LimenError
from .content import combined
from .random import Draws

Loss = Callable[[dict[str, Tensor], Tensor, Draws], Tensor]
"""`loss(parameters, items int64 (b,), draws) -> ()`: the draws are those of the batch."""
Decay = Literal["plateau", "cosine"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a loss is minimised.

    Attributes
    ----------
    epochs : passes over all items
    batch : items a step
    learning_rate : of Adam at the start
    patience : epochs without a better epoch mean after which 'plateau' halves the learning rate
    decay : 'plateau'; or 'cosine', half a cosine from the learning rate to 0, where the means are too noisy to tell
    """

    epochs: int
    batch: int
    learning_rate: float
    patience: int = 20
    decay: Decay = "plateau"

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch under 'cosine'."""
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where a minimisation ended: parameters, mean loss of each epoch, and the last learning rate."""

    parameters: dict[str, Tensor]
    losses: tuple[float, ...]
    learning_rate: float


def minimise(
    loss: Loss,
    start: Mapping[str, Tensor],
    items: int,
    schedule: Schedule,
    *,
    draws: Draws,
    retract: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Minimum:
    """Minimise a loss over batches of items that are shuffled in each epoch.

    An epoch's order and its batches' draws depend on `draws` and the epoch alone, so that a run that goes on from a
    checkpoint ends where the whole run would have ended, to the bit.

    Parameters
    ----------
    loss : callable
        Differentiable in the parameters.
    start : name -> float tensor
        Copied; the caller's tensors are left alone.
    items : number of items that a batch is taken from
    schedule : Schedule
    draws : Draws
    retract : callable or None
        Returns parameters, by name, on their constraint set; called after each step, without gradients.
    checkpoint : Path or None
        A file written whole after each tenth of the epochs and at the end.
    progress : callable or None
        `progress(epochs done, epochs)`.

    Returns
    -------
    Minimum

    Raises
    ------
    LimenError
        If the loss stops being finite, or the checkpoint is of another run or cannot be read.
    """
    parameters = {name: value.detach().clone().requires_grad_(True) for name, value in start.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=schedule.learning_rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=schedule.patience)
    kept = _Checkpoint(checkpoint, combined(repr(schedule), items, repr(draws), *start.values()))
    losses = kept.resume(parameters, optimizer, plateau)
    every = max(1, schedule.epochs // 10)
    with torch.enable_grad():
        for epoch in range(len(losses), schedule.epochs):
            if schedule.decay == "cosine":
                optimizer.param_groups[0]["lr"] = schedule.rate(epoch)
            losses.append(_epoch(loss, parameters, optimizer, items, schedule, draws.spawn("epoch", epoch), retract))
            if schedule.decay == "plateau":
                plateau.step(losses[-1])
            if (epoch + 1) % every == 0 or epoch + 1 == schedule.epochs:
                kept.save(parameters, optimizer, plateau, losses)
            if progress is not None:
                progress(epoch + 1, schedule.epochs)
    return Minimum(
        parameters={name: value.detach() for name, value in parameters.items()},
        losses=tuple(losses),
        learning_rate=float(optimizer.param_groups[0]["lr"]),
    )


def _epoch(
    loss: Loss,
    parameters: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    items: int,
    schedule: Schedule,
    draws: Draws,
    retract: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None,
) -> float:
    """Go over all items once; return the mean loss, read from the device once."""
    total = torch.zeros((), dtype=torch.float64)
    for index, batch in enumerate(draws.permutation(items).split(schedule.batch)):
        value = loss(parameters, batch, draws.spawn("batch", index))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if retract is not None:
            with torch.no_grad():
                for name, moved in retract(parameters).items():
                    parameters[name].copy_(moved)
        total = total.to(value.device) + value.detach().double() * len(batch)
    mean = float(total) / items
    if mean != mean or mean in (float("inf"), float("-inf")):
        raise LimenError(
            f"minimisation: the loss is no longer finite at a learning rate of {schedule.learning_rate}; allowed is a "
            "smaller one."
        )
    return mean


class _Checkpoint:
    """State of a minimisation in one file that replaces the last one whole."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path, self.identity = path, identity

    def save(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        plateau: torch.optim.lr_scheduler.ReduceLROnPlateau,
        losses: list[float],
    ) -> None:
        if self.path is None:
            return
        tensors = {f"parameters.{name}": value.detach().contiguous() for name, value in parameters.items()}
        for name, value in parameters.items():
            for key, state in optimizer.state[value].items():
                tensors[f"adam.{name}.{key}"] = state.detach().contiguous()
        facts = {
            "identity": self.identity,
            "losses": losses,
            "learning_rate": float(optimizer.param_groups[0]["lr"]),
            "best": float(plateau.best),
            "waited": plateau.num_bad_epochs,
        }
        beside = self.path.with_name(f"{self.path.name}.part")
        beside.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, beside, metadata={"minimise": json.dumps(facts)})
        os.replace(beside, self.path)

    def resume(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        plateau: torch.optim.lr_scheduler.ReduceLROnPlateau,
    ) -> list[float]:
        """Fill everything from the file and return the losses so far; [] where there is no file."""
        if self.path is None or not self.path.exists():
            return []
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["minimise"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise LimenError(f"checkpoint {self.path}: not a checkpoint of a minimisation ({error}).") from None
        if facts["identity"] != self.identity:
            raise LimenError(
                f"checkpoint {self.path}: given that of a run with another start, schedule or draws; allowed is one of "
                "the same run or a new file."
            )
        for name, value in parameters.items():
            value.data.copy_(tensors[f"parameters.{name}"])
            prefix = f"adam.{name}."
            optimizer.state[value] = {
                # Adam counts its steps on the CPU.
                key.removeprefix(prefix): state if key.endswith(".step") else state.to(value.device)
                for key, state in tensors.items()
                if key.startswith(prefix)
            }
        for group in optimizer.param_groups:
            group["lr"] = facts["learning_rate"]
        plateau.best, plateau.num_bad_epochs = facts["best"], facts["waited"]
        return [float(value) for value in facts["losses"]]
