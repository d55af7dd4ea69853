"""Weights from files into modules: read without running anything, refused in one sentence when they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..registry import LimenError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a `.safetensors` file, or a `.pt`, `.pth` or `.bin` file that holds tensors only.

    Raises
    ------
    LimenError
        If the file is missing, torn, of another kind, or holds anything but tensors.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise LimenError(f"checkpoint {path}: given a '{path.suffix}' file, allowed are {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise LimenError(f"checkpoint {path}: no such file.")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except SafetensorError as error:
        raise LimenError(f"checkpoint {path}: not a whole safetensors file ({error}).") from None
    return _state(content, path)


def _load_pickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise LimenError(
            f"checkpoint {path}: cannot be read as plain tensors ({reason}); allowed is a state dict saved by torch.save."
        ) from None


def _state(content: object, path: Path) -> dict[str, Tensor]:
    """Unwrap a state dict, dropping the prefix that data-parallel training leaves."""
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
                break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise LimenError(f"checkpoint {path}: holds no state dict; allowed is a mapping of names to tensors.")
    state = {str(name): value for name, value in content.items()}
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a module, all of them or none.

    Raises
    ------
    LimenError
        If a tensor is missing, unexpected or of the wrong shape; names the first one and counts the rest.
    """
    wanted = module.state_dict()
    faults = [f"'{name}' is missing" for name in wanted if name not in state]
    faults += [f"'{name}' is not in the network" for name in state if name not in wanted]
    faults += [
        f"'{name}' is {tuple(value.shape)} where the network has {tuple(wanted[name].shape)}"
        for name, value in state.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if faults:
        rest = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise LimenError(f"{where}: the weights do not fit the network: {faults[0]}{rest}.")
    module.load_state_dict(dict(state))
