"""Answers of the network kept for the next who asks the same: methods and metrics share masks, so they share forwards."""

from __future__ import annotations

from torch import Tensor

_BUDGET = 2**28
"""Most bytes kept."""


class Memory:
    """Tensors by key; the oldest are forgotten when the budget is spent.

    Parameters
    ----------
    budget : most bytes kept
    """

    def __init__(self, budget: int = _BUDGET) -> None:
        self._budget = budget
        self._held: dict[str, Tensor] = {}

    def takes(self, numbers: int) -> bool:
        """Tell whether so many float32 numbers are worth keeping: at most a quarter of the budget."""
        return numbers * 16 <= self._budget

    def get(self, key: str | None) -> Tensor | None:
        """Return what is kept under a key, which is then the newest."""
        if key is None or key not in self._held:
            return None
        self._held[key] = self._held.pop(key)
        return self._held[key]

    def put(self, key: str, values: Tensor) -> None:
        """Keep a tensor, which nobody may write to from now on."""
        self._held[key] = values
        while sum(held.nbytes for held in self._held.values()) > self._budget:
            del self._held[next(iter(self._held))]
