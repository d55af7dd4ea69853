"""Which figures a result gets: its quantities and the columns of its points decide, whatever analysis it came from."""

from __future__ import annotations

import pandas as pd

from ..results import Result
from .against_null import against_null
from .calibration import calibration
from .forest import contrast_forest
from .means import level_means
from .picture import Picture
from .plane import plane, shows_plane
from .psychometric import psychometric_function
from .ratings import counted, rating_shares
from .rows import drawable, is_difference, is_ratio
from .strengths import strengths
from .times import reaction_times

OWN = ("preference", "share", "term", "accuracy at level", "threshold", "accuracy at confidence", "share of answers")
"""Quantities that have a figure of their own kind, or none."""


def pictures_of(result: Result, *, chance: float | None = None, points: pd.DataFrame | None = None) -> list[Picture]:
    """Draw every figure that a result's quantities and points allow, the estimates' own order first.

    Parameters
    ----------
    result : Result
    chance : float, optional
        Accuracy of guessing; drawn where accuracies are.
    points : DataFrame, optional
        Raw points in place of the result's own, with columns `label` and `value` (see `level_means`).

    Returns
    -------
    list of Picture
        Empty for a result without a finite estimate.
    """
    found: list[Picture] = []
    paired = _paired(result)
    if result.of("preference") and drawable(result.of("preference")):
        found.append(strengths(result))
    if drawable(result.of("accuracy at level")):
        found.append(psychometric_function(result, chance=chance))
    if drawable(result.of("accuracy at confidence")):
        found.append(calibration(result, chance=chance))
    if shows_plane(result):
        found.append(plane(result))
    found += [against_null(result, quantity) for quantity in paired]
    for quantity in _generic(result, paired):
        if is_difference(quantity) or is_ratio(quantity):
            found.append(contrast_forest(result, quantity))
        else:
            line = chance if quantity.startswith("accuracy") else None
            found.append(level_means(result, quantity, chance=line, points=points))
    if result.points is not None and {"label", "seconds"} <= set(result.points.columns):
        found.append(reaction_times(result))
    shares = counted(result)
    if len(shares):
        found.append(rating_shares(result, points=shares))
    elif result.points is not None and {"label", "rating"} <= set(result.points.columns):
        found.append(rating_shares(result))
    return found


def _paired(result: Result) -> list[str]:
    """List the quantities whose points come with a null a point."""
    points = result.points
    if points is None or not {"quantity", "value", "null"} <= set(points.columns):
        return []
    return [str(name) for name in dict.fromkeys(points["quantity"])]


def _generic(result: Result, paired: list[str]) -> list[str]:
    """List the quantities that become means or contrasts; one number alone is a sentence, not a figure."""
    names = dict.fromkeys(item.quantity for item in result.estimates)
    return [
        name
        for name in names
        if name not in (*OWN, *paired)
        and not name.endswith("above null")
        and not name.startswith("above chance")
        and len(drawable(result.of(name))) > 1
    ]
