"""Spaces: the coordinates one explains in; a file `pixels.py` holds the class `Pixels`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pixels import Pixels
    from .space import Space

__all__ = ["Pixels", "Space"]


def __getattr__(name: str) -> Any:
    if name == "Pixels":
        from .pixels import Pixels

        return Pixels
    if name == "Space":
        from .space import Space

        return Space
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
