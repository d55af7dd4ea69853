"""Spaces: the coordinates one explains in; a file `pixels.py` holds the class `Pixels`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dictionary import ConceptData, Dictionary
    from .pixels import Pixels
    from .space import Space
    from .wavelets import Wavelets

__all__ = ["ConceptData", "Dictionary", "Pixels", "Space", "Wavelets"]
_HOME = {
    "ConceptData": "dictionary",
    "Dictionary": "dictionary",
    "Pixels": "pixels",
    "Space": "space",
    "Wavelets": "wavelets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
