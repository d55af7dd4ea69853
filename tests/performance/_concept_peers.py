"""What a user would otherwise run to find concepts: overcomplete's training, scikit-learn's NMF, plain torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

AUXILIARY = 0.1
"""Weight of overcomplete's auxiliary loss, its default."""


def overcomplete(module: str) -> Any:
    """Import one part of overcomplete from `$LIMEN_PEERS`; None where it is not there.

    Its top-level package imports torchvision, timm and a plotting library that the parts used here do not need, so an
    empty package of the same name and folder stands in for it.
    """
    folders = [Path(one) for one in os.environ.get("LIMEN_PEERS", "").split(os.pathsep) if one]
    for folder in folders:
        if (folder / "overcomplete").is_dir() and "overcomplete" not in sys.modules:
            sys.path.append(str(folder))
            package = types.ModuleType("overcomplete")
            package.__path__ = [str(folder / "overcomplete")]
            sys.modules["overcomplete"] = package
    try:
        return importlib.import_module(f"overcomplete.{module}")
    except ImportError:
        return None


def version() -> str:
    """Return overcomplete's version as its first file tells it, or 'not installed'."""
    if overcomplete("sae.losses") is None:
        return "not installed"
    first = Path(next(iter(sys.modules["overcomplete"].__path__))) / "__init__.py"
    lines = [line for line in first.read_text(encoding="utf-8").splitlines() if line.startswith("__version__")]
    return lines[0].split("=")[1].strip(" '\"") if lines else "unknown"


class Peer:
    """overcomplete's TopK autoencoder with Adam at one rate.

    Parameters
    ----------
    d, k, active : sizes
    rate : learning rate
    """

    def __init__(self, d: int, k: int, active: int, rate: float) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = overcomplete("sae.topk_sae").TopKSAE(d, nb_concepts=k, top_k=active)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)

    def bare(self, batch: Tensor) -> Tensor:
        """Take one step with the squared error alone and nothing around it."""
        self.optimizer.zero_grad()
        _, _, made = self.model(batch)
        loss = (batch - made).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def loop(self, batches: list[Tensor]) -> None:
        """Train on batches by its own loop, at its defaults, with its auxiliary loss."""
        criterion = overcomplete("sae.losses").top_k_auxiliary_loss
        with contextlib.redirect_stdout(io.StringIO()):
            overcomplete("sae.train").train_sae(self.model, batches, criterion, self.optimizer, nb_epochs=1)

    def r2(self, rows: Tensor) -> float:
        """Return the share of variance that its codes carry on rows."""
        self.model.eval()
        with torch.no_grad():
            made = self.model(rows)[2]
        self.model.train()
        return r2(rows, made)


class Plain:
    """The same autoencoder as it is written down: dense codes, float32, torch's Adam; `rate_at(step)` is its schedule."""

    def __init__(self, start: Tensor, active: int, rate_at: Callable[[int], float]) -> None:
        self.active, self.rate_at, self.steps = active, rate_at, 0
        self.filters, self.atoms = start.clone().requires_grad_(), start.clone().requires_grad_()
        self.bias, self.offset = start.new_zeros(len(start)), start.new_zeros(start.shape[1])
        self.leaves = [self.filters, self.atoms, self.bias.requires_grad_(), self.offset.requires_grad_()]
        self.optimizer = torch.optim.Adam(self.leaves, lr=rate_at(0))

    def made(self, rows: Tensor) -> Tensor:
        answers = functional.linear(rows - self.offset, self.filters, self.bias)
        best = answers.topk(self.active, dim=1)
        codes = torch.zeros_like(answers).scatter(1, best.indices, best.values.relu())
        return codes @ self.atoms + self.offset

    def bare(self, batch: Tensor) -> Tensor:
        """Take one step with the squared error, clipped at norm 1, atoms kept at unit length."""
        self.optimizer.zero_grad()
        loss = (batch - self.made(batch)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.leaves, 1.0)
        self.optimizer.param_groups[0]["lr"] = self.rate_at(self.steps)
        self.optimizer.step()
        self.steps += 1
        with torch.no_grad():
            self.atoms.div_(self.atoms.norm(dim=1, keepdim=True).clamp_min(1e-12))
        return loss.detach()

    def r2(self, rows: Tensor) -> float:
        with torch.no_grad():
            return r2(rows, self.made(rows))


def r2(rows: Tensor, made: Tensor) -> float:
    """Return 1 - squared error / variance around the mean of each feature."""
    return float(1 - (rows - made).square().sum() / (rows - rows.mean(dim=0)).square().sum())


def unrolled(activations: Tensor, atoms: Tensor, iterations: int) -> Tensor:
    """Solve non-negative least squares by FISTA, every iteration on autograd's tape."""
    gram, products = atoms @ atoms.T, activations @ atoms.T
    step = 1 / torch.linalg.matrix_norm(gram.detach(), 2)
    codes, ahead, pace = torch.zeros_like(products), torch.zeros_like(products), 1.0
    for _ in range(iterations):
        fresh = (ahead - step * (ahead @ gram - products)).relu()
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead, codes, pace = fresh + (pace - 1) / faster * (fresh - codes), fresh, faster
    return codes


def pair_loop(weights: Tensor, seen: Tensor) -> Tensor:
    """Return the monosemanticity of atoms (k,) as it is defined, by a loop over all pairs of images."""
    above, below = weights.new_zeros(weights.shape[1]), weights.new_zeros(weights.shape[1])
    for first in range(len(seen)):
        for second in range(first + 1, len(seen)):
            both = weights[first] * weights[second]
            above += both * (seen[first] @ seen[second])
            below += both
    return above / below
