"""What an image set is before anything is drawn: labels, names, and a way to draw any of its pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from ..images import ImageSet
from ..registry import LimenError, unknown


@dataclass(frozen=True)
class Pool:
    """One split of an image set, not yet drawn.

    Attributes
    ----------
    labels : int64 (N,)
    groups : N names, or () where the set knows none
    draw : function from indices int64 (n,) to an `ImageSet` in that order
    """

    labels: np.ndarray
    draw: Callable[[np.ndarray], ImageSet]
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def balanced(self, n: int, seed: int) -> np.ndarray:
        """Choose `n` indices, spread as evenly as can be over classes and groups, in ascending order.

        Strata are visited in turn, each in its own seeded order, so a smaller choice is part of a larger one.
        """
        generator = np.random.default_rng([seed, 0x9001])
        groups = np.asarray(self.groups or [""] * len(self))
        strata: list[np.ndarray] = []
        for group in sorted(set(groups.tolist())):
            for label in np.unique(self.labels):
                members = np.flatnonzero((self.labels == label) & (groups == group))
                if len(members):
                    strata.append(generator.permutation(members))
        strata = [strata[i] for i in generator.permutation(len(strata))]
        turns = np.concatenate([np.arange(len(members)) for members in strata])
        order = np.argsort(turns, kind="stable")
        return np.sort(np.concatenate(strata)[order][:n])


def check_split(name: str, split: str, allowed: Collection[str]) -> None:
    """Refuse a split the image set does not have.

    Raises
    ------
    UnknownName
        Names the splits there are.
    """
    if split not in allowed:
        raise unknown(f"image set '{name}', split", split, allowed)


def check_size(name: str, size: int, low: int = 8, high: int = 1024) -> None:
    """Refuse a picture size outside `low`..`high` pixels.

    Raises
    ------
    LimenError
        Says what was given and what is allowed.
    """
    if not low <= size <= high:
        raise LimenError(f"image set '{name}', option 'size': given {size}, allowed is {low} to {high} pixels.")
