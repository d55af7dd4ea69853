"""Taps: what a layer gives out, read or replaced by hooks that live exactly as long as the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..registry import LimenError, unknown


def layer_names(module: nn.Module) -> list[str]:
    """List the modules of a network by their dotted names, in the order they were defined."""
    return [name for name, _ in module.named_modules() if name]


def find_layer(module: nn.Module, layer: str, network: str) -> nn.Module:
    """Return a sub-module by its dotted name.

    Raises
    ------
    UnknownName
        If there is none; the message holds the nearest name.
    """
    found = dict(module.named_modules())
    if not layer or layer not in found:
        raise unknown(f"network '{network}', layer", layer, layer_names(module))
    return found[layer]


@contextmanager
def replaced(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Pass the output of a layer through `change` while the context lives; the rest of a tuple stays as it is."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            return (change(output[0]), *output[1:])
        if isinstance(output, Tensor):
            return change(output)
        raise LimenError(
            f"layer of type {type(module).__name__}: its output is a {type(output).__name__}, "
            "allowed is a tensor or a tuple that starts with one."
        )

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def tapped(module: nn.Module, layer: str) -> Iterator[Callable[[], Tensor]]:
    """Record a layer's output; the value yielded gives the one of the last forward.

    The output is copied, since a module that follows may work in place.
    """
    seen: list[Tensor] = []

    def record(output: Tensor) -> Tensor:
        seen[:] = [output.detach().clone()]
        return output

    def last() -> Tensor:
        if not seen:
            raise LimenError(f"layer '{layer}': it did not run in the network's forward pass, so it has no output.")
        return seen[0]

    with replaced(module, record):
        yield last


@contextmanager
def leaf(module: nn.Module, layer: str) -> Iterator[Callable[[], Tensor]]:
    """Make a layer's output the leaf that gradients are taken with respect to."""
    seen: list[Tensor] = []

    def cut(output: Tensor) -> Tensor:
        seen[:] = [output.detach().clone().requires_grad_()]
        # A leaf may not be changed in place, a copy of it may.
        return seen[0].clone()

    def last() -> Tensor:
        if not seen:
            raise LimenError(f"layer '{layer}': it did not run in the network's forward pass, so it has no output.")
        return seen[0]

    with replaced(module, cut):
        yield last


@contextmanager
def last_spatial(module: nn.Module) -> Iterator[Callable[[], str | None]]:
    """Watch a forward pass; the value yielded names the last module with an output (N, C, H > 1, W > 1)."""
    names: list[str] = []
    handles = []
    for name, part in module.named_modules():
        if not name:
            continue

        def hook(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                names.append(name)

        handles.append(part.register_forward_hook(hook))
    try:
        yield lambda: names[-1] if names else None
    finally:
        for handle in handles:
            handle.remove()
