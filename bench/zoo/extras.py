"""Optional libraries: imported when asked for, with the line that installs them when they are not there."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from ..registry import LimenError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []
"""Registrations live as long as these objects."""


def import_extra(library: str, *, extra: str, where: str) -> ModuleType:
    """Import an optional library.

    Raises
    ------
    LimenError
        If it is not installed (names the install line) or cannot be imported.
    """
    try:
        return _import(library)
    except ModuleNotFoundError as error:
        missing = error.name or library
        raise LimenError(f"{where}: '{missing}' is not installed; pip install 'limen[{extra}]' brings it.") from None
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise LimenError(f"{where}: importing '{library}' failed ({type(error).__name__}: {reason}).") from error


def _import(library: str) -> ModuleType:
    try:
        return importlib.import_module(library)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    # A torchvision built for CUDA lacks its operators beside a CPU-only torch; it imports once their schemas exist.
    for name in [name for name in sys.modules if name.split(".", 1)[0] in {library, "torchvision"}]:
        del sys.modules[name]
    registered = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(", 1)[0]):
            registered.define(schema)
    _libraries.append(registered)
    return importlib.import_module(library)
