"""Networks by name: the public call, which finds a recipe of the zoo or a loader for somebody else's network."""

from __future__ import annotations

from pathlib import Path

from ..engine.network import Network
from ..registry import Registry, unknown
from .python_module import load_from_module
from .recipes import RECIPES
from .training import train_or_recall

LOADERS = Registry("loader", "bench.zoo.loaders")
_OWN = "module:function[:checkpoint]"


def network_names() -> list[str]:
    """List the names `load_network` accepts; what stands for something of yours is in capitals or brackets."""
    return [*RECIPES, *(f"{prefix}:NAME" for prefix in LOADERS.names()), _OWN]


def load_network(name: str, *, cache: str | Path | None = None, device: str = "auto", progress: bool = True) -> Network:
    """Return a network by name; the zoo's own are trained when first asked for, and cached.

    Parameters
    ----------
    name : str
        `resnet@digits`, `resnet@scenes`, `resnet@scenes_biased`, `tiny@digits`, `untrained@...` (the control),
        `resnet@scenes_deletion` and `tiny@digits_deletion` (which have seen pictures with a cell deleted),
        `timm:NAME[?checkpoint]`, `torchvision:NAME[?checkpoint]`, `pt2:FILE` (a `torch.export` program) or
        `module:function[:checkpoint]`, a function of yours that returns an `nn.Module`.
    cache : path, optional
        Where trained weights are kept; else $LIMEN_CACHE, $XDG_CACHE_HOME/limen, ~/.cache/limen.
    device : str
        Where training runs.
    progress : bool
        Show a bar while training; only ever shown on a terminal.

    Raises
    ------
    UnknownName
        If nothing goes by that name; the message holds the nearest match.
    LimenError
        If an extra is not installed, a checkpoint does not fit, or a file cannot be read.
    """
    if name in RECIPES:
        return train_or_recall(name, cache=cache, device=device, progress=progress)
    prefix, colon, rest = name.partition(":")
    if colon and prefix in LOADERS.names():
        return LOADERS.load(prefix)(rest)
    if colon:
        return load_from_module(name, prefixes=LOADERS.names())
    raise unknown("network", name, network_names())
