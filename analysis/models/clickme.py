"""How far people agree on what they uncover: the split-half ceiling of importance maps, and agreement with one left out."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.registry import registered

from ..measures.importance_maps import Chosen, Filters, Smoothing, choose_rounds
from ..measures.map_agreement import Reliability, hold_one_out, mean_interval, split_half_ceiling
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
        Quantities 'split-half ceiling', 'hold-one-out agreement' and each '... above null'; one label a condition and,
        where there are several, all together.
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
            estimates += _estimates(quantity, label, found, seed, level)
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


def _estimates(quantity: str, label: str, found: Reliability | None, seed: int, level: float) -> list[Estimate]:
    kinds = (quantity, f"{quantity} above null")
    if found is None:
        return [Estimate(quantity=kind, label=label, value=NAN, unit="images", flags=("undefined",)) for kind in kinds]
    made = []
    null = mean_interval(found.null, seed=seed, level=level)
    for kind, values in zip(kinds, (found.values, found.values - found.null), strict=True):
        known = pd.Series(values).dropna()
        low, high, n = mean_interval(values, seed=seed, level=level)
        made.append(
            Estimate(
                quantity=kind, label=label, value=float(known.mean()) if n else NAN, low=low, high=high, level=level,
                interval="bootstrap over images", n=n, unit="images", flags=() if n else ("undefined",),
                extra={
                    "null": float(pd.Series(found.null).mean()), "null_low": null[0], "null_high": null[1],
                    "people_per_image": float(found.people.mean()),
                },
            )
        )  # fmt: skip
    return made


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
        f"The split-half ceiling is the mean Spearman correlation over pixels of the maps of two random halves of the people "
        f"({halves} splits, seed {seed}), stepped up by Spearman-Brown; hold-one-out is each person against all others, not "
        f"stepped up. The null is the same with the maps of all other images in place of the image's own. Intervals of "
        f"{level:.0%} are percentile bootstraps over images (2,000 resamples): they speak of new images and these people."
    )
