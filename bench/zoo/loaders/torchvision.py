"""Networks of torchvision: `torchvision:NAME[?checkpoint]`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from ...engine.network import Network
from ...registry import LimenError, registered, unknown
from ..checkpoints import fill, read_weights
from ..extras import import_extra

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@registered("loader", version=1, citation="doi:10.1145/1873951.1874254")
def torchvision(argument: str) -> Network:
    """Load a torchvision classifier, with its default weights (downloaded) or with a checkpoint of yours.

    Raises
    ------
    LimenError
        If torchvision is not installed, has no such network, or the weights cannot be had or do not fit.
    """
    name, _, checkpoint = argument.partition("?")
    where = f"network 'torchvision:{argument}'"
    import_extra("torchvision", extra="models", where=where)
    models = import_extra("torchvision.models", extra="models", where=where)
    names = models.list_models(module=models)
    if name not in names:
        raise unknown(where, name, names)
    weights = models.get_model_weights(name).DEFAULT
    crop = weights.transforms()
    module = _create(models, name, weights, checkpoint, where)
    count = _outputs(module)
    published = tuple(weights.meta.get("categories", ()))
    return Network(
        name=f"torchvision:{argument}",
        module=module,
        classes=published if len(published) == count else tuple(f"class {index}" for index in range(count)),
        size=int(getattr(crop, "crop_size", [224])[0]),
        mean=tuple(getattr(crop, "mean", IMAGENET_MEAN)),
        std=tuple(getattr(crop, "std", IMAGENET_STD)),
    )


def _create(models: ModuleType, name: str, weights: Any, checkpoint: str, where: str) -> nn.Module:
    if checkpoint:
        state = read_weights(checkpoint)
        module: nn.Module = models.get_model(name, weights=None)
        fill(module, state, where)
        return module
    try:
        return models.get_model(name, weights=weights)
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise LimenError(
            f"{where}: its published weights cannot be had ({type(error).__name__}: {reason}); "
            f"'torchvision:{name}?FILE' takes a checkpoint."
        ) from error


def _outputs(module: nn.Module) -> int:
    """Return the width of the last linear layer, which in torchvision's classifiers is the number of classes."""
    widths = [part.out_features for part in module.modules() if isinstance(part, nn.Linear)]
    return widths[-1] if widths else 0
