"""Curves of the score while units of an image are removed or inserted in the order of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...engine import Draws, Engine, Masks
from ...records import Measurement
from ...spaces import Space

Rule = Literal["trapezoid", "steps", "counted", "peak"]
"""How a curve becomes one number; `RULES` says it in words."""
RULES: dict[Rule, str] = {
    "trapezoid": "trapezoid over the fraction touched, both ends included",
    "steps": "trapezoid with all steps of one width, both ends included",
    "counted": "trapezoid with steps of width 1, without the untouched end, not normalised",
    "peak": "mean of the points over the largest point",
}
Score = Literal["probability", "logit"]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The convention of a curve.

    Attributes
    ----------
    space : gives coordinates and baseline
    steps : equal steps in units, each rounded down; fewer where there are fewer units
    width : units a step, where not None; the last step takes what is left
    score : 'probability' or 'logit'
    rule : how the curve becomes a number
    """

    space: Space
    steps: int
    width: int | None
    score: Score
    rule: Rule

    def counts(self, units: int) -> list[int]:
        """List how many units are touched at each point of the curve, 0 and all of them included."""
        if self.width is not None:
            return [*range(0, units, self.width), units]
        return sorted({step * units // self.steps for step in range(self.steps + 1)})

    def told(self, units: str, count: int) -> str:
        """Say the steps, the baseline and the area in words."""
        paces = f"{count} steps equal in {units}" if self.width is None else f"{count} steps of {self.width} {units}"
        return f"baseline '{self.space.name}' in {paces}, most relevant first, ties at random; {RULES[self.rule]}"


def rebased(space: Space, baseline: str | None) -> Space:
    """Return the space with another baseline, or as it is where none is named."""
    return space if baseline is None else space.rebased(baseline)


def ranks(maps: Tensor, draws: list[Draws]) -> Tensor:
    """Rank the places of each map, largest credit = 0; ties fall in an order drawn for the image.

    A rectified map is zero over wide areas: broken by position, its ties would delete the top of the image first.

    Parameters
    ----------
    maps : (N, 1, *places)
    draws : N sources of random numbers, one an image

    Returns
    -------
    (N, 1, *places) int64
    """
    flat = maps.flatten(1)
    shuffled = torch.stack([own.permutation(flat.shape[1]) for own in draws])
    order = flat.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    first_to_last = shuffled.gather(1, order)
    places = torch.ones_like(first_to_last).cumsum(dim=1) - 1
    return torch.empty_like(first_to_last).scatter_(1, first_to_last, places).reshape(maps.shape)


def masks(rank: Tensor, counts: Sequence[int], inserted: Sequence[bool]) -> Masks:
    """Return the masks of copies in which all ranks below a count are removed, or all others are.

    Parameters
    ----------
    rank : (N, 1 or C, *places) int64, 0 goes first
    counts, inserted : M numbers, one a copy: touched ranks, and whether they are put on the baseline or taken off the image
    """
    # Half the width, and one comparison where all copies go one way: these masks are as large as the pictures.
    rank = rank.int()
    touched, direction = rank.new_tensor(counts), rank.new_tensor(inserted, dtype=torch.bool)
    ones, ways = [1] * (rank.ndim - 1), set(inserted)

    def build(image_index: Tensor, mask_index: Tensor) -> Tensor:
        own, limit = rank[image_index], touched[mask_index].reshape(-1, *ones)
        if ways == {False}:
            return (own >= limit).float()
        if ways == {True}:
            return (own < limit).float()
        return ((own < limit) == direction[mask_index].reshape(-1, *ones)).float()

    return Masks.lazy(len(counts), build)


def area(heights: Tensor, positions: Tensor, rule: Rule) -> Tensor:
    """Turn curves into one number each, float64 (N,).

    Parameters
    ----------
    heights : (N, T) scores, the untouched end first
    positions : (T,) or (N, T), how much is touched at each point; in units for 'counted', else of one
    rule : 'peak' is NaN where no point is above 0
    """
    points = heights.double()
    if rule == "trapezoid":
        return torch.trapezoid(points, positions.double(), dim=1)
    if rule == "steps":
        return torch.trapezoid(points, dim=1) / (points.shape[1] - 1)
    if rule == "counted":
        return torch.trapezoid(points[:, 1:], dim=1)
    peak = points.amax(dim=1)
    return (points.mean(dim=1) / peak).masked_fill(peak <= 0, float("nan"))


def curve(
    engine: Engine, images: Tensor, targets: Tensor, rank: Tensor, sweep: Sweep, *, units: str, insert: bool
) -> Measurement:
    """Measure the area under the score against the fraction of units touched, best credit first.

    Parameters
    ----------
    rank : (N, 1 or C, *places) int64, every unit with its own rank
    sweep : the convention
    units : what a unit is, in words
    insert : put units on the baseline, rather than take them off the image
    """
    total = rank[0].numel()
    counts = sweep.counts(total)
    copies = masks(rank, counts, [insert] * len(counts))
    heights = engine.perturbed_scores(images, copies, targets, space=sweep.space, score=sweep.score)
    fractions = heights.new_tensor(counts, dtype=torch.float64) / total
    values = area(heights, fractions, sweep.rule)
    return Measurement(
        values=values,
        curve_x=fractions,
        curve_y=heights,
        convention=(
            f"{sweep.score}; {'inserted into' if insert else 'replaced by'} the {sweep.told(units, len(counts) - 1)}"
        ),
        extra={"undefined": values.isnan().double()} if sweep.rule == "peak" else {},
    )
