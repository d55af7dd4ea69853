"""A network with some of its layers as they were before training: what sanity checks compare a map with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..registry import unknown
from .engine import Engine
from .network import Network, copied
from .random import Draws

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
_WHOLE = "(network)"
"""The layer of what the outermost module owns itself, such as a class token."""


def layers_from_the_top(engine: Engine, images: Tensor) -> list[str]:
    """List the layers that hold learned numbers, the one that runs last first.

    A layer is a module with its own parameters or running statistics. The order is that in which they start to run on
    an image; one that is never called as a module stands after the one it is defined after.

    Parameters
    ----------
    engine : Engine
    images : float (N, C, H, W)
        The first one is run.
    """
    network = replace(engine.network, module=copied(engine.network.module))
    started: list[str] = []
    handles = []
    for name, part in network.module.named_modules():

        def note(_: nn.Module, __: object, name: str = name) -> None:
            if name not in started:
                started.append(name)

        handles.append(part.register_forward_pre_hook(note))
    engine.beside(network).scores(images[:1])
    for handle in handles:
        handle.remove()
    owners = list(dict.fromkeys(owner for owner, _, _ in _learned(network.module)))
    defined = [name for name, _ in network.module.named_modules()]
    order = {name: place for place, name in enumerate(started)}
    places: list[float] = []
    last = -1.0
    for name in defined:
        last = order.get(name, last)
        places.append(last)
    place = dict(zip(defined, places, strict=True))
    bottom_up = sorted(owners, key=lambda name: (place[name], defined.index(name)))
    return [name or _WHOLE for name in reversed(bottom_up)]


def reinitialised(network: Network, layers: Sequence[str] | None, draws: Draws) -> Network:
    """Return a copy of a network whose layers are drawn anew; the network itself is left as it is.

    Every learned number of the layers changes: weights and biases of linear maps and convolutions are uniform within
    one over the square root of the fan-in, normalisation goes back to the identity with running mean 0 and variance 1,
    and anything else (class tokens, position embeddings, LayerScale, parameters of modules that are not known here) is
    Gaussian with the mean and the deviation it had. Each tensor has its own stream, so a layer gets the same numbers
    whichever layers go with it.

    Parameters
    ----------
    network : Network
    layers : names as `layers_from_the_top` gives them; None = all
    draws : Draws

    Returns
    -------
    Network
        With its own fingerprint.

    Raises
    ------
    UnknownName
        If the network has no such layer with learned numbers.
    """
    module = copied(network.module)
    owners = {owner or _WHOLE for owner, _, _ in _learned(module)}
    chosen = owners if layers is None else set(layers)
    for name in chosen - owners:
        raise unknown(f"network '{network.name}', layer to randomise", name, sorted(owners))
    parts = dict(module.named_modules())
    for owner, name, value in list(_learned(module)):
        if (owner or _WHOLE) in chosen:
            stream = Draws(draws._seeded, *draws._key, "parameter", f"{owner}.{name}", device=value.device)
            with torch.no_grad():
                value.copy_(_initial(parts[owner], name, value, stream))
    return replace(network, name=f"{network.name} (randomised)", module=module, fingerprint="")


def _learned(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (owner, name, tensor) of each parameter and running statistic; a tied one once, at its first owner."""
    seen: set[int] = set()
    for owner, part in module.named_modules():
        statistics = ((name, value) for name, value in part.named_buffers(recurse=False) if name in _STATISTICS)
        for name, value in (*part.named_parameters(recurse=False), *statistics):
            if id(value) not in seen:
                seen.add(id(value))
                yield owner, name, value


def _initial(part: nn.Module, name: str, value: Tensor, draws: Draws) -> Tensor:
    """Draw one tensor as an untrained network might hold it."""
    if name in _STATISTICS:
        return torch.full_like(value, _STATISTICS[name])
    if isinstance(part, _NORMS):
        return torch.full_like(value, 0.0 if name == "bias" else 1.0)
    weight = getattr(part, name.replace("bias", "weight"), None)
    if name.endswith(("weight", "bias")) and isinstance(weight, Tensor) and weight.ndim > 1:
        bound = (len(weight) / weight.numel()) ** 0.5
        return bound * (2 * draws.uniform(*value.shape) - 1)
    mean = value.mean()
    spread = value.std(correction=0)
    # A tensor of one number, or of equal ones, has no deviation: its own size stands in.
    spread = torch.where(spread > 0, spread, torch.where(mean == 0, 1.0, mean.abs()))
    return mean + spread * draws.normal(*value.shape)
