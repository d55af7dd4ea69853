"""Several layers read in one pass over pictures, which layers are blocks, and what the last linear layer is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..registry import LimenError
from .engine import Engine
from .hooks import find_layer, tapped
from .sweeps import finite

Reduce = Callable[[Tensor], Tensor]
Change = Callable[[Tensor], Tensor]
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def read_layers(
    engine: Engine, pictures: np.ndarray, reduce: Mapping[str, Reduce], *, change: Change | None = None
) -> dict[str, Tensor]:
    """Run the network once over pictures and keep what `reduce` makes of each layer's activations.

    Parameters
    ----------
    engine : Engine
    pictures : uint8 (N, H, W, 3)
    reduce : layer name -> function of its activations (n, ...) of a batch, such as a mean over places
    change : what is done to the network's inputs (n, C, H, W) first

    Returns
    -------
    dict of layer name to float32 (N, ...)

    Raises
    ------
    LimenError
        If there is no such layer, it does not run, or an output of the network is not finite.
    """
    parts = {name: find_layer(engine._sweeps.forward.module, name, engine.network.name) for name in reduce}

    def work(start: int, stop: int) -> tuple[dict[str, Tensor], Tensor]:
        inputs = engine.inputs(pictures[start:stop])
        with ExitStack() as stack:
            last = {name: stack.enter_context(tapped(part, name)) for name, part in parts.items()}
            logits = engine._sweeps.forward(
                engine._sweeps.forward.plain, inputs if change is None else change(inputs), number="fp32"
            )
        return {name: shrink(last[name]().float()).contiguous() for name, shrink in reduce.items()}, finite(logits)

    return _swept(engine, pictures, work)


def blocks(engine: Engine, pictures: np.ndarray, layer: str) -> tuple[str, ...]:
    """List the blocks of a network in the order they finish, up to and with `layer`, whose place among them it fixes.

    A block is a child of the network with parameters; a sequence of parts that have parts (the stages of a ResNet, the
    encoder of a transformer) and whatever contains `layer` counts as its children. Normalisation alone is none.

    Raises
    ------
    LimenError
        If there is no such layer, or it does not run.
    """
    module = engine._sweeps.forward.module
    find_layer(module, layer, engine.network.name)
    named = _expanded(module, "", layer)
    finished: list[str] = []
    with ExitStack() as stack:
        for name in named:

            def note(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if name not in finished and isinstance(output, Tensor) and output.ndim > 1:
                    finished.append(name)

            handle = find_layer(module, name, engine.network.name).register_forward_hook(note)
            stack.callback(handle.remove)
        engine.tap(engine.inputs(pictures[:1]), layer)
    if layer not in finished:
        raise LimenError(
            f"network '{engine.network.name}', layer '{layer}': its output is no tensor (N, features, ...), "
            "allowed is a layer with one."
        )
    return tuple(finished[: finished.index(layer) + 1])


def penultimate(engine: Engine, pictures: np.ndarray) -> Tensor:
    """Return what the network's last linear layer is fed for each picture, (N, e).

    A network without a linear layer that gives the logits answers with its default layer, averaged over places.
    """
    linear = _classifier(engine, pictures)
    if linear is None:
        layer = engine.default_layer(engine.inputs(pictures[:1]))
        return read_layers(engine, pictures, {layer: lambda values: values.flatten(2).mean(dim=2)})[layer]

    def work(start: int, stop: int) -> tuple[dict[str, Tensor], Tensor]:
        fed: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _, given: fed.append(given[0].detach().clone()))
        try:
            logits = engine._sweeps.forward(
                engine._sweeps.forward.plain, engine.inputs(pictures[start:stop]), number="fp32"
            )
        finally:
            handle.remove()
        return {"fed": fed[-1].float().flatten(1)}, finite(logits)

    return _swept(engine, pictures, work)["fed"]


def _swept(
    engine: Engine, pictures: np.ndarray, work: Callable[[int, int], tuple[dict[str, Tensor], Tensor]]
) -> dict[str, Tensor]:
    found, good = [], []
    most = engine._sweeps.forward.most(engine.inputs(pictures[:1]))
    with torch.no_grad():
        for start, stop, (values, fine) in engine._sweeps.batches.sweep(len(pictures), work, most):
            engine._sweeps.meters.count(forwards=stop - start)
            found.append(values)
            good.append(fine)
    engine._sweeps.check(torch.cat(good))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def _expanded(module: nn.Module, prefix: str, layer: str) -> list[str]:
    names: list[str] = []
    for child, part in module.named_children():
        name = f"{prefix}{child}"
        composite = any(any(True for _ in inner.children()) for inner in part.children())
        if name == layer:
            names.append(name)
        elif layer.startswith(f"{name}.") or (isinstance(part, (nn.Sequential, nn.ModuleList)) and composite):
            names += _expanded(part, f"{name}.", layer)
        elif _learns(part) and not isinstance(part, _NORMS):
            names.append(name)
    return names


def _learns(part: nn.Module) -> bool:
    return any(True for _ in part.parameters())


def _classifier(engine: Engine, pictures: np.ndarray) -> nn.Linear | None:
    """Return the linear layer whose answers are the logits."""
    seen: list[tuple[nn.Linear, Tensor]] = []
    with ExitStack() as stack, torch.no_grad():
        for part in engine._sweeps.forward.module.modules():
            if isinstance(part, nn.Linear):
                handle = part.register_forward_hook(lambda one, _, output: seen.append((one, output.detach())))
                stack.callback(handle.remove)
        logits = engine._sweeps.forward(engine._sweeps.forward.plain, engine.inputs(pictures[:1]), number="fp32")
    for part, output in reversed(seen):
        if output.shape == logits.shape and torch.allclose(output.float(), logits):
            return part
    return None
