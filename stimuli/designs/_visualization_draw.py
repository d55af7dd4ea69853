"""Units of a feature-visualisation study: batches of extreme pictures, and the pictures made for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.registry import LimenError
from bench.store import Artifact

from ..balance import seeded
from ..records import StudyFile
from ._references import Codes, in_turns, strata
from ._visualization_occlusion import Occlusions, Pair

Kind = Literal["natural", "synthetic", "mixed", "blurred", "none"]
KINDS: tuple[Kind, ...] = ("natural", "synthetic", "mixed", "blurred", "none")
MADE = ("synthetic", "mixed")
Scheme = Literal["max-1", "max-4", "max-9", "min-max-1", "min-max-4", "min-max-9"]
Batch = Mapping[str, Sequence[int]]
"""Rows of `Codes.peak` by part: max, min (references), high, low (one query each)."""


def strong_in(scheme: str) -> int:
    """Return the number of pictures in each grid of a scheme."""
    return int(scheme.rpartition("-")[2])


def references_in(schemes: Sequence[str]) -> int:
    """Return the number of references that a batch must hold at each end."""
    return max(map(strong_in, schemes))


@dataclass(frozen=True)
class Layout:
    """How the extreme pictures of a unit are cut into batches."""

    references: int
    batches: int
    hardness: float
    seed: int

    @property
    def extreme(self) -> int:
        """Pictures taken at each end."""
        return (self.batches + 1) * (self.references + 1)

    def inside(self, count: int) -> int:
        """Return how many pictures at each end are in use among `count` ranked ones, queries included."""
        if self.hardness == 100:
            return self.extreme
        return max(self.extreme, self._first(count)) + self.batches

    def _first(self, count: int) -> int:
        """Return the rank of the first harder query."""
        asked = round((100 - self.hardness) / 100 * (count - 1))
        return max(self.extreme, asked - self.batches // 2)

    def cut(self, order: np.ndarray, key: tuple[object, ...]) -> list[Batch]:
        """Cut pictures ranked from the most to the least activating into batches, batch 0 first."""
        high, low = self._end(order, (*key, "high")), self._end(order[::-1], (*key, "low"))
        return [
            {"max": top[1:], "high": top[:1], "min": bottom[1:], "low": bottom[:1]}
            for top, bottom in zip(high, low, strict=True)
        ]

    def _end(self, order: np.ndarray, key: tuple[object, ...]) -> list[list[int]]:
        """Return each batch of one end: its query, then its references from the most extreme on."""
        whole = self.batches + 1
        buckets = order[: self.extreme].reshape(self.references + 1, whole)
        turned = [bucket[seeded(self.seed, "bucket", *key, i).permutation(whole)] for i, bucket in enumerate(buckets)]
        found = [[int(bucket[number]) for bucket in turned] for number in range(whole)]
        if self.hardness == 100:
            return found
        first = self._first(len(order))
        harder = order[first : first + self.batches]
        drawn = harder[seeded(self.seed, "harder", *key).permutation(self.batches)]
        return [found[0], *([int(query), *batch[1:]] for query, batch in zip(drawn, found[1:], strict=True))]


@dataclass(frozen=True)
class Unit:
    """A unit, its batches, and the pictures made for it."""

    atom: int
    stratum: int | None
    batches: list[Batch]
    made: Mapping[str, np.ndarray]
    """Polarity -> pictures uint8 (m, S, S, 3), where the run made any."""
    pairs: Sequence[Pair] = ()
    """A favourite picture and two covered copies for each batch, in the occlusion task."""


@dataclass(frozen=True)
class Units:
    """The units of one layer, spare ones for practice and catch trials, and the sizes of the pool."""

    codes: Codes
    main: list[Unit]
    spare: list[Unit]
    pool: Mapping[str, Any]


def choose(
    study: StudyFile,
    codes: Codes,
    made: Sequence[Artifact | None],
    layout: Layout,
    wanted: tuple[int, int],
    spare: int,
    occlusions: Occlusions | None = None,
) -> Units:
    """Draw the units of a layer.

    Parameters
    ----------
    made
        Pictures made for the units, for the strong and for the weak end; None where they are not shown.
    wanted
        Number of units, and of strata.
    spare
        Most units to keep for practice and catch trials.
    occlusions
        In the occlusion task: what the run knows of covered pictures; only units with a pair for each batch count.

    Raises
    ------
    LimenError
        If there are fewer units, or fewer made pictures than a grid needs.
    """
    count, groups = wanted
    where = f"study '{study.study}', layer '{codes.layer}'"
    inside = layout.inside(len(codes.peak)) + (occlusions.count if occlusions else 0)
    alive = codes.alive(inside, inside)
    visuals = [None if one is None else one.tensors("visuals.safetensors") for one in made]
    drawn = alive
    for held in visuals:
        if held is None:
            continue
        if held["pictures"].shape[1] < layout.references:
            raise LimenError(
                f"{where}, key 'design.schemes': {layout.references} made pictures are needed in a grid, the run has "
                f"{held['pictures'].shape[1]} for each unit; take smaller grids, or raise the plan's `visualization_seeds`."
            )
        drawn = np.intersect1d(drawn, held["atoms"])
    drawn = np.array([atom for atom in drawn if _distinct(_made(visuals, int(atom)), layout.references)], dtype=int)
    if occlusions is not None:
        drawn = np.array([atom for atom in drawn if occlusions.pairs(int(atom))], dtype=int)
    pool = {"layer": codes.layer, "units": codes.size, "alive": len(alive), "fitting": len(drawn), "chosen": count}
    parts = strata(codes, drawn, groups, layout.seed)
    turns = in_turns(parts, len(drawn), lambda atom: atom)
    if len(turns) < count + 1:
        raise LimenError(
            f"{where}, key 'design.units': given {count}, allowed is less than {len(turns)}: of {codes.size} units "
            f"{len(alive)} are alive with {inside} pictures at each end (of {len(codes.peak)}), {len(turns)} of them can be shown "
            "as asked, and practice and catch trials need one of their own; lower units or batches."
        )

    def unit(stratum: int, atom: int) -> Unit:
        pairs = occlusions.pairs(atom) if occlusions else []
        order = codes.order(layout.seed, atom)
        batches = layout.cut(order[~np.isin(order, [pair.row for pair in pairs])], (codes.role, atom))
        return Unit(atom, stratum if len(parts) > 1 else None, batches, _made(visuals, atom), pairs)

    units = [unit(*turn) for turn in turns[: count + spare]]
    return Units(codes, units[:count], units[count:], pool)


def _made(visuals: Sequence[Mapping[str, np.ndarray] | None], atom: int) -> dict[str, np.ndarray]:
    """Return the pictures made for a unit by polarity, where there are any."""
    return {
        polarity: held["pictures"][int(np.flatnonzero(held["atoms"] == atom)[0])]
        for polarity, held in zip(("max", "min"), visuals, strict=True)
        if held is not None
    }


def _distinct(made: Mapping[str, np.ndarray], count: int) -> bool:
    """Whether a unit's made pictures differ from each other; where a unit has no slope, both ends stay at the start."""
    shown = [picture.tobytes() for pictures in made.values() for picture in pictures[:count]]
    return len(set(shown)) == len(shown)
