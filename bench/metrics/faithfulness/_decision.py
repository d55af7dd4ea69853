"""What the head of the network says of activations: its scores, and their slopes at every position."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...registry import LimenError
from ...spaces.concept_data import ConceptData

_ROWS = 2**16
"""Positions whose slopes are found at a time."""


class Decision(NamedTuple):
    """The parts of `ConceptData` that decisions are read from: maps (m, T, d), their head, targets (m,)."""

    maps: Tensor
    head: Callable[[Tensor], Tensor]
    targets: Tensor

    def slopes(self) -> Tensor:
        """Return d logit of the target / d activation, (m, T, d)."""
        found = []
        size = max(1, _ROWS // self.maps.shape[1])
        for maps, targets in zip(self.maps.split(size), self.targets.split(size), strict=True):
            leaves = maps.clone().requires_grad_()
            total = self.head(leaves).gather(1, targets[:, None]).sum()
            found.append(torch.autograd.grad(total, leaves)[0])
        return torch.cat(found)


def decision(data: ConceptData, metric: str) -> Decision:
    """Return what a metric of decisions needs.

    Raises
    ------
    LimenError
        If a part is missing.
    """
    parts = {"test_maps": data.test_maps, "head": data.head, "targets": data.targets}
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        raise LimenError(
            f"metric '{metric}': given concept data without {', '.join(missing)}, allowed are all of test_maps, head and "
            "targets; `bench.spaces.gather.concept_data` reads them from a network, if everything passes through the layer."
        )
    assert data.test_maps is not None
    assert data.head is not None
    assert data.targets is not None
    return Decision(data.test_maps, data.head, data.targets)
