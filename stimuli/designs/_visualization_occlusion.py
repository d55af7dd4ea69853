"""The causal occlusion task: favourite pictures of a unit, two covered copies of each, and the rules they must keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.images import occluded
from bench.store import Artifact

from ..balance import seeded
from ._references import Codes, Gallery


@dataclass(frozen=True)
class Pair:
    """One favourite picture and the two places where a square is put.

    Attributes
    ----------
    row : row of `Codes.peak`
    index : row of the pool
    whole : activation on the picture as it is
    weak, strong : (box, activation) of the square that changes the unit least, and most
    grey : level of the square
    """

    row: int
    index: int
    whole: float
    weak: tuple[tuple[int, ...], float]
    strong: tuple[tuple[int, ...], float]
    grey: int

    def told(self, gallery: Gallery, pixels: np.ndarray) -> dict[str, Any]:
        """Draw the picture and its copies; return what is known of them, in the shape of a batch's queries."""
        base = {"picture": gallery.natural(self.index), "activation": self.whole, "percentile": None, "blurred": None}
        copies = {
            part: [
                {
                    **base,
                    "picture": gallery.made(occluded(pixels, box, self.grey)),
                    "activation": value,
                    "box": list(box),
                }
            ]
            for part, (box, value) in (("high", self.weak), ("low", self.strong))
        }
        return {"base": base, **copies}


@dataclass(frozen=True)
class Occlusions:
    """What a run holds of one basis at one layer, and the rule that pairs are drawn by."""

    codes: Codes
    held: Mapping[str, np.ndarray]
    grey: int
    effect: float
    count: int
    seed: int

    @classmethod
    def read(cls, codes: Codes, artifact: Artifact, effect: float, count: int, seed: int) -> Occlusions:
        """Read a run's artifact."""
        held = artifact.tensors("occlusions.safetensors")
        return cls(codes, held, int(artifact.config["occlusions"]["grey"]), effect, count, seed)

    def pairs(self, atom: int) -> list[Pair]:
        """Return the strongest favourites of a unit on which two squares differ by `effect` of it; [] if there are too few.

        The square after which the activation is lowest stands against the one after which it is highest; ties are
        broken by the seed.
        """
        row_of = {int(index): row for row, index in enumerate(self.codes.index)}
        whole = self.held["whole"][:, atom].astype(float)
        found: list[Pair] = []
        for place in np.argsort(-whole, kind="stable"):
            index = int(self.held["index"][place])
            if len(found) == self.count or whole[place] <= 0:
                break
            if index not in row_of:
                continue
            peak = self.held["peak"][place, :, atom].astype(float)
            if peak.max() - peak.min() < self.effect * whole[place]:
                continue
            draws = seeded(self.seed, "occlusion", self.codes.role, atom, index)
            weak, strong = (int(draws.choice(np.flatnonzero(peak == edge))) for edge in (peak.max(), peak.min()))
            boxes = self.held["boxes"][place]
            told = [(tuple(int(edge) for edge in boxes[box]), float(peak[box])) for box in (weak, strong)]
            found.append(Pair(row_of[index], index, float(whole[place]), told[0], told[1], self.grey))
        if len(found) < self.count:
            return []
        order = seeded(self.seed, "bases", self.codes.role, atom).permutation(self.count)
        return [found[place] for place in order]


def item_faults(batches: list[dict[str, Any]], effect: float) -> Iterator[str]:
    """Check the favourites of a unit and their covered copies."""
    bases = [batch["base"]["picture"] for batch in batches]
    references = {one["picture"] for batch in batches for one in batch["max"]}
    if len(set(bases)) != len(bases):
        yield "has a favourite picture twice in its batches"
    if references & set(bases):
        yield "has a favourite picture among its references"
    for number, batch in enumerate(batches):
        (high,), (low,), whole = batch["high"], batch["low"], batch["base"]["activation"]
        sides = {(box[2] - box[0], box[3] - box[1]) for box in (high["box"], low["box"])}
        if len(sides) != 1:
            yield f"batch {number}: its two squares differ in size"
        if high["box"] == low["box"] or high["picture"] == low["picture"]:
            yield f"batch {number}: its two squares are at one place"
        if whole <= 0 or high["activation"] - low["activation"] < effect * whole * (1 - 1e-6):
            yield f"batch {number}: its two squares differ by less than {effect:g} of the activation, or not in the stated order"
