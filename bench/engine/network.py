"""A classifier ready to be explained: evaluation mode, frozen parameters, known by the hash of its weights."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import LimenError


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier and what one must know to feed it.

    The network takes its module over: it is set to evaluation mode, its parameters stop requiring gradients, and an
    `Engine` moves it to its device. Copy the module first if you go on training it.

    Attributes
    ----------
    name : str
        Name used in tables and errors.
    module : nn.Module
        Maps float32 (N, 3, H, W) to logits (N, K), or to an object with `.logits`.
    classes : tuple of str
        K class names; () where they are unknown.
    size : int or None
        Side of the input in pixels; None where the module takes any.
    mean, std : three floats
        Normalisation per channel, for pictures in [0, 1].
    layer : str or None
        Default layer of CAM and concepts; None = the last module with a spatial output, found when first needed.
    fingerprint : str
        SHA-256 of the weights; computed when not given.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...] = ()
    size: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layer: str | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise LimenError(
                f"network '{self.name}': given a {type(self.module).__name__}, allowed is a torch.nn.Module."
            )
        if len(self.mean) != len(self.std) or any(value <= 0 for value in self.std):
            raise LimenError(
                f"network '{self.name}': given mean {self.mean} and std {self.std}, "
                "allowed are one mean and one positive std a channel."
            )
        # An exported program has no modes: `eval` is not implemented there, and it was exported in one.
        with suppress(NotImplementedError):
            self.module.eval()
        self.module.requires_grad_(False)
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.module))


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module's state: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name}|{value!r}\n".encode())
            continue
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}\n".encode())
        if value.device.type != "meta":
            plain = value.detach().cpu().contiguous()
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def copied(module: nn.Module) -> nn.Module:
    """Return a module with weights of its own."""
    with without_notices():
        return copy.deepcopy(module)


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep to itself what torch says of its own ways with exported programs, when it reads or copies them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def logits_of(output: Any, name: str) -> Tensor:
    """Return the logits (N, K) in what a module gave back: a tensor, or an object with `.logits`.

    Raises
    ------
    LimenError
        If there are none, or they are not of shape (N, K).
    """
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise LimenError(
            f"network '{name}': given an output of {type(output).__name__}, "
            "allowed is a tensor (N, K) or an object with `.logits`."
        )
    if logits.ndim != 2:
        raise LimenError(f"network '{name}': given an output of shape {tuple(logits.shape)}, allowed is (N, K).")
    return logits
