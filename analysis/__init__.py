"""Statistical reports on explanations and the people who used them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mixed_models import MixedModel, MixedResults, bootstrap_intervals, bootstrap_test, mixedlm

__all__ = ["MixedModel", "MixedResults", "bootstrap_intervals", "bootstrap_test", "mixedlm"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".mixed_models", __name__), name)
