"""Generate explanations of vision networks and score them; names load when asked for, so importing costs nothing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import explain, fit_dictionary, score
    from .engine import Engine
    from .synthesis import visualize

_HOMES = {"Engine": "engine", "explain": "api", "score": "api", "fit_dictionary": "api", "visualize": "synthesis"}
__all__ = ["Engine", "explain", "fit_dictionary", "score", "visualize"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
