"""Networks of timm: `timm:NAME[?checkpoint]`."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

from torch import nn

from ...engine.network import Network
from ...registry import LimenError, registered
from ..checkpoints import fill, read_weights
from ..extras import import_extra


@registered("loader", version=1, citation="doi:10.5281/zenodo.4414861")
def timm(argument: str) -> Network:
    """Load a timm network, with its published weights (downloaded by timm) or with a checkpoint of yours.

    Raises
    ------
    LimenError
        If timm is not installed, has no such network, or the weights cannot be had or do not fit.
    """
    name, _, checkpoint = argument.partition("?")
    where = f"network 'timm:{argument}'"
    library = import_extra("timm", extra="models", where=where)
    if not library.is_model(name.split(".", 1)[0]):
        near = difflib.get_close_matches(name, library.list_models(), n=1, cutoff=0.5)
        hint = f"; did you mean 'timm:{near[0]}'?" if near else "."
        raise LimenError(f"{where}: timm {library.__version__} has no '{name}'; timm.list_models() lists them{hint}")
    module = _create(library, name, checkpoint, where)
    config = import_extra("timm.data", extra="models", where=where).resolve_model_data_config(module)
    return Network(
        name=f"timm:{argument}",
        module=module,
        classes=_classes(module, where),
        size=int(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _create(library: ModuleType, name: str, checkpoint: str, where: str) -> nn.Module:
    if checkpoint:
        state = read_weights(checkpoint)
        module: nn.Module = library.create_model(name, pretrained=False)
        fill(module, state, where)
        return module
    try:
        return library.create_model(name, pretrained=True)
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise LimenError(
            f"{where}: its published weights cannot be had ({type(error).__name__}: {reason}); "
            f"'timm:{name}?FILE' takes a checkpoint."
        ) from error


def _classes(module: Any, where: str) -> tuple[str, ...]:
    """Name the classes: timm's own names for a 1,000-way ImageNet head, else numbers."""
    count = int(getattr(module, "num_classes", 0))
    if count == 1000:
        names = import_extra("timm.data", extra="models", where=where).ImageNetInfo()
        return tuple(str(names.index_to_description(index)) for index in range(count))
    return tuple(f"class {index}" for index in range(count))
