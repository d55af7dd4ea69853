"""Means of the levels of one factor or two, with raw points, intervals and the chance line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import format as write
from ..results import Estimate, Result
from .cloud import draw_cloud
from .picture import Picture, render
from .rows import (
    aside,
    bounds,
    described,
    digits_of,
    drawable,
    in_percent,
    is_share,
    mark,
    named,
    needed,
    points_behind,
    raw_points,
    span,
    strip,
    told,
    unit_of,
    vertical,
)
from .style import INK, MARKERS, PALETTE, RC, WIDTH, rows_only

MOST_COLOURS = 4
"""Levels of a second factor that are drawn as colours in one panel; more get a panel each."""


@dataclass(frozen=True, kw_only=True)
class _Cells:
    rows: tuple[str, ...]
    hues: tuple[str, ...]
    at: Mapping[tuple[str, str], Estimate]


def level_means(
    result: Result,
    quantities: str | Sequence[str],
    *,
    chance: float | None = None,
    points: pd.DataFrame | None = None,
    title: str = "",
    xlabel: str = "",
) -> Picture:
    """Draw the mean of each level with its interval and n, over the raw points behind it.

    Parameters
    ----------
    result : Result
    quantities : str or several
        One quantity of one factor ('accuracy of condition'), of two ('accuracy of task x condition': the second becomes
        colours, or panels from five levels on), or several of the same labels (a colour each).
    chance : float, optional
        Drawn as a dotted line.
    points : DataFrame, optional
        Raw points, one row a participant and level: `label` (as of the estimates), `value`, perhaps `quantity`; those of the
        result by default.

    Raises
    ------
    LimenError
        If the result has no finite estimate of a quantity.
    """
    asked = [quantities] if isinstance(quantities, str) else list(quantities)
    cells = _split(result, asked[0]) if len(asked) == 1 else _beside(result, asked)
    share, raw = is_share(asked[0]), raw_points(result, points)
    items = list(cells.at.values())
    title = title or asked[0][:1].upper() + asked[0][1:]
    behind = [points_behind(raw, item) for item in items]
    limits = span(items, np.nan if chance is None else chance, raw=np.concatenate(behind) if behind else None)
    with matplotlib.rc_context(RC):
        if len(cells.hues) > MOST_COLOURS:
            figure = _panels(cells, raw, chance, limits, share)
        else:
            figure = _dodged(cells, raw, chance, limits, share)
        bottom = figure.axes[-1]
        bottom.set_xlabel(xlabel or _axis_title(asked[0]))
    alt = f"{title}: " + told(items, lambda item: described(item, percent=share))
    if chance is not None:
        alt += f"; chance {write.percent(chance) if share else write.number(chance)}"
    return render(figure, f"{named(result.name)}_{named(asked[0])}", title, alt)


def _axis_title(quantity: str) -> str:
    mean, unit = re.split(r" of |, ", quantity)[0], unit_of(quantity)
    return f"{mean[:1].upper()}{mean[1:]}{f' ({unit})' if unit else ''}, mean with 95 % interval"


def _split(result: Result, quantity: str) -> _Cells:
    """Take the estimates of one quantity apart by the levels of one factor or two."""
    items = needed(result, quantity)
    found = re.fullmatch(r"(.+) of (.+) x (.+)", quantity)
    pairs: dict[str, tuple[str, str]] = {item.label: (item.label, "") for item in items}
    if found:
        firsts, seconds = (
            [item.label for item in result.of(f"{found[1]} of {factor}")] for factor in (found[2], found[3])
        )
        known = {f"{first} x {second}": (first, second) for first in firsts for second in seconds}
        for label in pairs:
            first, _, second = label.partition(" x ")
            pairs[label] = known.get(label, (first, second))
    return _ordered({pairs[item.label]: item for item in items})


def _beside(result: Result, quantities: Sequence[str]) -> _Cells:
    """Put several quantities of the same labels side by side, named by what tells them apart."""
    words = [re.split(r", ", quantity) for quantity in quantities]
    shared = 0
    while all(len(one) > shared + 1 for one in words) and len({one[shared] for one in words}) == 1:
        shared += 1
    names = [", ".join(one[shared:]) for one in words]
    return _ordered(
        {
            (item.label, name): item
            for quantity, name in zip(quantities, names, strict=True)
            for item in drawable(needed(result, quantity))
        }
    )


def _ordered(at: Mapping[tuple[str, str], Estimate]) -> _Cells:
    rows, hues = (tuple(dict.fromkeys(key[place] for key in at)) for place in (0, 1))
    return _Cells(rows=rows, hues=hues, at=at)


def _styles(hues: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {hue: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, hue in enumerate(hues)}


def _dodged(cells: _Cells, raw: pd.DataFrame, chance: float | None, limits: tuple[float, float], share: bool) -> Figure:
    several = len(cells.hues) > 1
    slots = len(cells.hues)
    figure = Figure(figsize=(WIDTH, (0.42 * slots + 0.3) * len(cells.rows) + 1.0), layout="constrained")
    axes = figure.subplots()
    styles = _styles(cells.hues)
    for row, name in enumerate(cells.rows):
        for slot, hue in enumerate(cells.hues):
            item = cells.at.get((name, hue))
            if item is not None:
                place = row + (slot - (slots - 1) / 2) * 0.8 / slots
                _one(axes, item, points_behind(raw, item), place, styles[hue], several=several, share=share)
    _frame(axes, cells.rows, chance, limits, share)
    if several:
        handles = [
            Line2D([], [], marker=styles[hue][1], color=styles[hue][0], mec=INK, ls="none", ms=6.5, label=hue)
            for hue in cells.hues
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False,
                      handletextpad=0.3, columnspacing=1.5)  # fmt: skip
    return figure


def _panels(cells: _Cells, raw: pd.DataFrame, chance: float | None, limits: tuple[float, float], share: bool) -> Figure:
    """Draw a panel for each level of the second factor, one below the other on one scale."""
    height = 0.5 * len(cells.rows) + 0.75
    figure = Figure(figsize=(WIDTH, height * len(cells.hues) + 0.3), layout="constrained")
    panels = figure.subplots(len(cells.hues), 1, squeeze=False, sharex=True)[:, 0]
    styles = _styles(cells.rows)
    for axes, hue in zip(panels, cells.hues, strict=True):
        axes.set_title(hue, pad=12 if chance is not None else 6)
        for row, name in enumerate(cells.rows):
            item = cells.at.get((name, hue))
            if item is not None:
                _one(axes, item, points_behind(raw, item), row, styles[name], several=True, share=share)
        _frame(axes, cells.rows, chance, limits, share)
    return figure


def _one(
    axes: Axes, item: Estimate, values: np.ndarray, row: float, style: tuple[str, str], *, several: bool, share: bool
) -> None:
    if len(values):
        if several:
            strip(axes, values, row + 0.08, style[0], room=0.14)
        else:
            draw_cloud(axes, values, row, style[0])
    mark(axes, item, row, style)
    value = write.percent(item.value) if share else write.number(item.value, digits_of(item.value))
    count = f"n = {item.n:,} {item.unit}"
    between = "   " if several else "\n"
    aside(axes, row, f"{value}  {bounds(item, percent=share)}{between}{count}", size=7.5 if several else 8)


def _frame(axes: Axes, rows: Sequence[str], chance: float | None, limits: tuple[float, float], share: bool) -> None:
    axes.set(ylim=(len(rows) - 0.4, -0.65), xlim=limits)
    if chance is not None:
        vertical(axes, chance, f"chance {write.percent(chance, 0) if share else write.number(chance)}", -0.67)
    axes.set_yticks(range(len(rows)), rows)
    in_percent(axes, percent=share)
    rows_only(axes)
