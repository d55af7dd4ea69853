"""Spaces: the coordinates one explains in; a file `pixels.py` holds the class `Pixels`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .concept_data import ConceptData
    from .concepts import Concepts
    from .dictionary import Dictionary
    from .mel import MelSpectrogram
    from .named import make
    from .pixels import Pixels
    from .space import Space
    from .sparse_codes import SparseCodes
    from .wavelets import Wavelets

__all__ = [
    "ConceptData",
    "Concepts",
    "Dictionary",
    "MelSpectrogram",
    "Pixels",
    "Space",
    "SparseCodes",
    "Wavelets",
    "make",
]
_HOME = {
    "ConceptData": "concept_data",
    "Concepts": "concepts",
    "Dictionary": "dictionary",
    "MelSpectrogram": "mel",
    "Pixels": "pixels",
    "Space": "space",
    "SparseCodes": "sparse_codes",
    "Wavelets": "wavelets",
    "make": "named",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
