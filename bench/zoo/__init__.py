"""Networks and image sets that exist without a download, and loaders for everyone else's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .folds import Folds, load_folds
    from .networks import load_network, network_names
    from .pictures import image_set_names, load_images

_HOMES = {
    "Folds": "folds",
    "image_set_names": "pictures",
    "load_folds": "folds",
    "load_images": "pictures",
    "load_network": "networks",
    "network_names": "networks",
}
__all__ = ["Folds", "image_set_names", "load_folds", "load_images", "load_network", "network_names"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'bench.zoo' has no attribute '{name}'")
