"""What a network says of inputs and of copies of them; what was asked before is answered from memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..registry import LimenError
from .content import combined, digests
from .coordinates import Coordinates
from .copies import Altered, Copies
from .given import Given
from .memory import Memory
from .sweeps import ScoreType, Sweeps, as_score, check_score

_CACHED_SCORES = 65_536
_CLASSES = 1000
"""Classes of a network that does not say how many it has; it only decides what is worth remembering."""


class Answers:
    """Scores of inputs and of copies, remembered by content, and the classes they are asked about.

    Parameters
    ----------
    given : Given, whose network is asked
    sweeps : Sweeps, which run it
    """

    def __init__(self, given: Given, sweeps: Sweeps) -> None:
        self._given, self._sweeps = given, sweeps
        self._rows: dict[str, Tensor] = {}
        self._memory = Memory()

    def scores(self, images: Tensor | np.ndarray, score: ScoreType = "logit") -> Tensor:
        """Return the scores float32 (N, K) of images; raises as `Engine.scores` says."""
        images = self._given.prepare(images)
        check_score(score)
        self._sweeps.settle_precision(images)
        plain = self._sweeps.forward.plain
        if images.device.type == "meta":
            return as_score(self._sweeps.logits(plain, images), score)
        keys = digests(images)
        # The first place of each image not seen before: equal images run once.
        missing = {key: keys.index(key) for key in dict.fromkeys(keys) if key not in self._rows}
        rows = {key: self._rows[key] for key in keys if key in self._rows}
        if missing:
            index = list(missing.values())
            fresh = self._sweeps.logits(plain, images if len(index) == len(images) else images[index], names=index)
            rows.update(zip(missing, fresh, strict=True))
            self._remember({key: rows[key] for key in missing})
        return as_score(torch.stack([rows[key] for key in keys]), score)

    def targets(self, images: Tensor | np.ndarray, targets: Any = None) -> Tensor:
        """Return target classes int64 (N,); raises as `Engine.targets` says."""
        images = self._given.prepare(images)
        if targets is None:
            return self.scores(images).argmax(dim=1)
        chosen = self._given.classes(targets, len(images))
        if chosen.device.type != "meta":
            classes = len(self._given.network.classes) or self.scores(images[:1]).shape[1]
            low, high = (int(value) for value in chosen.aminmax())
            if low < 0 or high >= classes:
                raise LimenError(
                    f"targets for {self._given.where}: given classes from {low} to {high}, allowed is 0 to "
                    f"{classes - 1}."
                )
        return chosen

    def copies(
        self,
        images: Tensor,
        copies: Copies | Altered,
        targets: Tensor | None,
        space: Coordinates,
        score: ScoreType,
    ) -> Tensor:
        """Return the scores of copies, (N, M) or without targets (N, M, K), remembered where the copies say what they are.

        Parameters
        ----------
        images : float32 (N, ...), on the device
        copies : M of each image
        targets : int64 (N,) or None
        """
        check_score(score)
        self._sweeps.settle_precision(images)
        count = len(copies) // len(images)
        chosen = None if targets is None else self.targets(images, targets)
        key = self._key(images, count, space, copies.told)
        values = self._memory.get(key)
        if values is None:
            gathered = None if key else chosen
            values = self._sweeps.copies(copies, len(images), gathered, space, "logit" if key else score)
        if key is None:
            return values
        self._memory.put(key, values)
        values = as_score(values, score)
        if chosen is None:
            return values.clone()
        return values.gather(2, chosen[:, None, None].expand(-1, count, 1))[:, :, 0]

    def _key(self, images: Tensor, count: int, space: Coordinates, told: tuple[object, ...] | None) -> str | None:
        """Return what a question is remembered by; None where it is too large, or the space has no identity."""
        identity = getattr(space, "identity", None)
        if told is None or identity is None or images.device.type == "meta":
            return None
        if not count or not self._memory.takes(len(images) * count * (len(self._given.network.classes) or _CLASSES)):
            return None
        return combined(identity, count, *digests(images), *told)

    def _remember(self, rows: dict[str, Tensor]) -> None:
        self._rows.update(rows)
        while len(self._rows) > _CACHED_SCORES:
            del self._rows[next(iter(self._rows))]
