"""The checkpoint of a sparse fit: one file that replaces the last one whole, so that a kill never leaves half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..registry import LimenError
from .content import combined
from .sparse_fit_model import Model
from .sparse_fit_world import World

_ADAM = ("step", "exp_avg", "exp_avg_sq")


class Kept:
    """What a fit keeps on disk: parameters, buffers, the optimiser's state, the losses so far and the audit.

    Parameters
    ----------
    path : file, or None to keep nothing
    model, optimizer, losses : what is kept
    where : opens error sentences
    identity : text that must be the same when the fit goes on
    """

    def __init__(
        self,
        path: Path | None,
        model: Model,
        optimizer: torch.optim.Optimizer,
        losses: Tensor,
        where: str,
        identity: str,
    ) -> None:
        self.path, self.model, self.optimizer, self.losses, self.where = path, model, optimizer, losses, where
        shapes = {name: tuple(value.shape) for name, value in {**model.parameters(), **model.buffers()}.items()}
        self.identity = combined(identity, sorted(shapes.items()))

    def resume(self) -> tuple[int, dict[str, Any]]:
        """Fill everything from the file; return the steps done and the audit, 0 and {} where there is no file.

        Raises
        ------
        LimenError
            If the file is of another fit or cannot be read.
        """
        if self.path is None or not self.path.exists():
            return 0, {}
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["fit"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise LimenError(f"{self.where}, checkpoint {self.path}: not a checkpoint of a fit ({error}).") from None
        if facts["identity"] != self.identity:
            raise LimenError(
                f"{self.where}, checkpoint {self.path}: given that of a fit with other data, options or draws; allowed "
                "is one of the same fit or a new file."
            )
        with torch.no_grad():
            for name, value in self._tensors().items():
                value.copy_(tensors[name])
            for name, parameter in self.model.parameters().items():
                kept = {key: tensors[f"adam.{name}.{key}"] for key in _ADAM if f"adam.{name}.{key}" in tensors}
                if kept:
                    self.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in kept.items()}
        return int(facts["step"]), facts["audit"]

    def save(self, step: int, audit: Mapping[str, Any], world: World) -> None:
        """Write the state after `step` steps; one process does."""
        if self.path is None:
            return
        if world.rank == 0:
            tensors = dict(self._tensors())
            for name, parameter in self.model.parameters().items():
                state = self.optimizer.state.get(parameter, {})
                tensors |= {f"adam.{name}.{key}": state[key] for key in _ADAM if key in state}
            facts = {"identity": self.identity, "step": step, "audit": dict(audit)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f"{self.path.name}.part")
            plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(plain, part, metadata={"fit": json.dumps(facts)})
            os.replace(part, self.path)
        world.wait()

    def _tensors(self) -> dict[str, Tensor]:
        own = {f"parameter.{name}": value for name, value in self.model.parameters().items()}
        return own | {f"buffer.{name}": value for name, value in self.model.buffers().items()} | {"losses": self.losses}
