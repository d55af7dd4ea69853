"""A network from your own code: `module:function[:checkpoint]`."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..engine.network import Network
from ..registry import LimenError, unknown
from .checkpoints import fill, read_weights


def load_from_module(name: str, *, prefixes: Iterable[str] = ()) -> Network:
    """Import a module, call a function of it without arguments, and load a checkpoint into what it returns.

    Parameters
    ----------
    name : str
        `module:function[:checkpoint]`; `module` is a dotted name, found from the working directory too, or a path
        that ends in `.py`. The function returns an `nn.Module` (its attributes `classes`, `size`, `mean`, `std` and
        `layer` are taken over where it has them) or a `Network`.
    prefixes : names
        Loaders the user may have meant, for the error.

    Raises
    ------
    LimenError
        If the module, the function or the checkpoint cannot be used.
    """
    home, _, rest = name.partition(":")
    call, _, checkpoint = rest.partition(":")
    if not home or not call:
        raise LimenError(f"network '{name}': given no {'function' if home else 'module'}, allowed is module:function.")
    function = _function(_module(home, name, prefixes), call, name)
    made = function()
    if isinstance(made, Network):
        module = made.module
    elif isinstance(made, nn.Module):
        module = made
    else:
        raise LimenError(
            f"network '{name}': {call}() returned a {type(made).__name__}, allowed is an nn.Module or a Network."
        )
    if checkpoint:
        fill(module, read_weights(checkpoint), f"network '{name}'")
    return _network(name, made, module)


def _network(name: str, made: Network | nn.Module, module: nn.Module) -> Network:
    defaults = Network(name=name, module=module)
    facts = {
        field: getattr(made, field, None) or getattr(defaults, field)
        for field in ("classes", "size", "mean", "std", "layer")
    }
    for field in ("classes", "mean", "std"):
        facts[field] = tuple(facts[field])
    return Network(name=name, module=module, **facts)


def _module(home: str, name: str, prefixes: Iterable[str]) -> ModuleType:
    if home.endswith(".py"):
        return _from_file(Path(home).expanduser(), name)
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name is not None and home != error.name and not home.startswith(f"{error.name}."):
            raise LimenError(f"network '{name}': importing '{home}' failed ({error}).") from error
        near = difflib.get_close_matches(home, list(prefixes), n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}:{name.partition(':')[2]}'?" if near else "."
        raise LimenError(
            f"network '{name}': no module '{home}' in the working directory or on the path; "
            f"allowed are module:function and {', '.join(f'{prefix}:NAME' for prefix in prefixes)}{hint}"
        ) from None
    except Exception as error:
        raise LimenError(f"network '{name}': importing '{home}' failed ({type(error).__name__}: {error}).") from error
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _from_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise LimenError(f"network '{name}': {path}: no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise LimenError(f"network '{name}': {path}: cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LimenError(f"network '{name}': importing {path} failed ({type(error).__name__}: {error}).") from error
    return module


def _function(module: ModuleType, call: str, name: str) -> Callable[[], Any]:
    function = getattr(module, call, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"network '{name}', function", call, there)
    return function
