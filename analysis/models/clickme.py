"""How far people agree on what they uncover: the split-half ceiling of importance maps, and agreement with one left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.registry import registered

from ..measures.importance_maps import Chosen, Filters, Smoothing, choose_rounds
from ..measures.map_agreement import Reliability, hold_one_out, mean_interval, split_half_ceiling, step_up
from ..results import NAN, Estimate, Result

TITLE = "Agreement of importance maps"
EVERYONE = "all conditions"


@registered("analysis", version=1, citation="arXiv:1805.08819")
def clickme(
    trials: pd.DataFrame,
    *,
    side: int = 64,
    kernel: int = 7,
    sigma: float = 1.2,
    min_people: int = 5,
    min_boxes: int = 2,
    max_boxes: int | None = None,
    halves: int = 20,
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Measure how far the importance maps of two halves of the players agree, by condition and together.

    Parameters
    ----------
    trials : DataFrame
        One row a round: the columns of an export's strokes, as `analysis.importance.read_rounds` gives them.
    side : int
        Longer side of the maps, in pixels.
    kernel, sigma : int, float
        Blur of the maps, in pixels of the maps: what 21 and 3.5 are at 224.
    min_people, min_boxes, max_boxes
        Which rounds and images count.
    halves, seed
        Random splits of the people of each image, and their seed.
    level : float
        Level of the intervals.

    Returns
    -------
    Result
        Quantities 'split-half ceiling', 'split-half correlation above null', 'hold-one-out agreement' and 'hold-one-out
        agreement above null'; one label a condition and, where there are several, all together.
    """
    if "strokes" not in trials.columns:
        return Result(
            name="clickme", title=TITLE, role="secondary", flags=("undefined",),
            method="No strokes were given, so there are no importance maps: this analysis reads an export's rounds.",
        )  # fmt: skip
    filters = Filters(min_people=min_people, min_boxes=min_boxes, max_boxes=max_boxes)
    how = Smoothing(kernel=kernel, sigma=sigma)
    names = list(pd.unique(trials["condition"]))
    groups = {name: trials[trials["condition"] == name] for name in names}
    if len(names) > 1:
        groups[EVERYONE] = trials
    estimates: list[Estimate] = []
    points, counts = [], {}
    for label, rounds in groups.items():
        chosen = choose_rounds(rounds, filters, side=side)
        counts[label] = dict(chosen.counts)
        for quantity, found in _measured(chosen, how, halves, seed):
            estimates += _estimates(quantity, label, found, level)
            if found is not None:
                points.append(_points(quantity, label, found))
    return Result(
        name="clickme", title=TITLE, role="primary", method=_method(filters, how, side, halves, seed, level),
        estimates=tuple(estimates), facts={"rounds": counts},
        points=pd.concat(points, ignore_index=True) if points else None,
    )  # fmt: skip


def _measured(chosen: Chosen, how: Smoothing, halves: int, seed: int) -> Iterator[tuple[str, Reliability | None]]:
    images = [one for one in chosen.images if len(one.participants) > 1]
    yield "split-half ceiling", split_half_ceiling(images, how, halves=halves, seed=seed) if images else None
    yield "hold-one-out agreement", hold_one_out(images, how) if images else None


def _estimates(quantity: str, label: str, found: Reliability | None, level: float) -> list[Estimate]:
    if found is None:
        kinds = (quantity, f"{_raw(quantity)} above null")
        return [Estimate(quantity=kind, label=label, value=NAN, unit="images", flags=("undefined",)) for kind in kinds]
    carry = step_up if found.stepped_up else float
    null = mean_interval(found.null, level=level)
    own = mean_interval(found.values, level=level)
    above = mean_interval(found.values - found.null, level=level)
    extra = {"null": carry(null[0]), "people_per_image": float(found.people.mean())}
    facts: dict[str, Any] = {"level": level, "interval": "t over images", "unit": "images", "label": label}
    return [
        Estimate(
            quantity=quantity, value=carry(own[0]), low=carry(own[1]), high=carry(own[2]), n=own[3],
            flags=() if own[3] else ("undefined",), extra=extra, **facts,
        ),
        Estimate(
            quantity=f"{_raw(quantity)} above null", value=above[0], low=above[1], high=above[2], n=above[3],
            flags=() if above[3] else ("undefined",), **facts,
        ),
    ]  # fmt: skip


def _raw(quantity: str) -> str:
    """Name what the test against the null is made on: the ceiling's correlation of half maps, before stepping up."""
    return "split-half correlation" if quantity == "split-half ceiling" else quantity


def _points(quantity: str, label: str, found: Reliability) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "quantity": quantity, "condition": label, "image_id": found.images, "value": found.values,
            "null": found.null, "people": found.people,
        }
    )  # fmt: skip


def _method(filters: Filters, how: Smoothing, side: int, halves: int, seed: int, level: float) -> str:
    most = "" if filters.max_boxes is None else f" and {filters.max_boxes} at most"
    return (
        f"A round counts if it was not skipped, is the person's first on its image and has {filters.min_boxes} boxes or more"
        f"{most}; an image needs {filters.min_people} people. A map is the mean of their uncovered masks, averaged over areas "
        f"to a longer side of {side} pixels and blurred by a Gaussian (sigma {how.sigma:g}, kernel {how.kernel} pixels). "
        f"The split-half correlation is Spearman's over pixels between the maps of two random halves of the people ({halves} "
        f"splits, seed {seed}), averaged over splits and images; the ceiling is this mean stepped up to all people by "
        f"Spearman-Brown, its interval likewise. Hold-one-out is each person against all others, not stepped up. The null is "
        f"the same with the maps of all other images in place of the image's own; what is above it is given before stepping "
        f"up. Intervals of {level:.0%} are t intervals over images: they speak of new images and these people."
    )
