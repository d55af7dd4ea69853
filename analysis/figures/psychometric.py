"""Accuracy over stimulus levels with the fitted psychometric function, its guess rate and its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import format as write
from ..results import Estimate, Result
from .picture import Picture, render
from .rows import described, drawable, named, needed
from .style import GRID, INK, MARKERS, MUTED, PALETTE, PERCENT, RC, WIDTH


def psychometric_function(
    result: Result, *, chance: float | None = None, xlabel: str = "Stimulus level", title: str = "Psychometric function"
) -> Picture:
    """Draw the accuracy at each level with its interval, the fitted curve, and the threshold with its interval.

    Parameters
    ----------
    result : Result
        Estimates of 'accuracy at level' (`label` the series, `extra['level']` where it lies), perhaps of 'threshold'
        (`label` the series, a level); `facts['curves']`: series -> {'level': [...], 'accuracy': [...]}.
    chance : float, optional
        Accuracy of guessing, drawn as a dotted line.

    Raises
    ------
    LimenError
        If the result has no finite 'accuracy at level'.
    """
    items = needed(result, "accuracy at level")
    series = list(dict.fromkeys(item.label for item in items))
    curves: Mapping[str, Any] = result.facts.get("curves", {})
    thresholds = {item.label: item for item in drawable(result.of("threshold"))}
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.subplots()
        most = max(item.n for item in items)
        for index, name in enumerate(series):
            style = (PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
            _series(axes, [item for item in items if item.label == name], style, most)
            if name in curves:
                axes.plot(curves[name]["level"], curves[name]["accuracy"], color=style[0], lw=1.8, zorder=2)
            if name in thresholds:
                _threshold(axes, thresholds[name], style[0], index)
        low = min([item.value for item in items] + [item.low for item in items if np.isfinite(item.low)])
        floor = min(low, chance if chance is not None else low)
        axes.set(ylim=(max(0.0, floor - 0.05 - 0.03 * len(thresholds)), 1.03), xlabel=xlabel, ylabel="Accuracy (%)")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(axis="y", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        if chance is not None:
            axes.axhline(chance, color=MUTED, lw=0.9, ls=(0, (1, 2)))
            axes.text(1.01, chance, f"chance {write.percent(chance, 0)}", transform=axes.get_yaxis_transform(),
                      color=MUTED, fontsize=7.5, va="center")  # fmt: skip
        _legend(figure, axes, series, items, thresholds)
    alt = f"{title}: " + "; ".join(
        f"{item.label} at {item.extra['level']:g}: {described(item, percent=True)}" for item in items
    )
    return render(figure, f"{named(result.name)}_psychometric", title, alt)


def _series(axes: Axes, items: Sequence[Estimate], style: tuple[str, str], most: int) -> None:
    for item in items:
        level = float(item.extra["level"])
        if np.isfinite(item.low):
            axes.plot([level, level], [item.low, item.high], color=style[0], lw=1.2, alpha=0.7)
        # The area of a mark is as its number of trials.
        size = 3.5 + 4.5 * np.sqrt(item.n / most)
        axes.plot(level, item.value, marker=style[1], ms=size, mfc=style[0], mec=INK, mew=0.8, ls="none", zorder=4)


def _threshold(axes: Axes, item: Estimate, colour: str, index: int) -> None:
    """Draw a threshold with its interval just above the lower edge."""
    place = 0.03 + 0.03 * index
    at = axes.get_xaxis_transform()
    if np.isfinite(item.low):
        axes.plot([item.low, item.high], [place, place], color=colour, lw=2.2, transform=at, solid_capstyle="butt")
    axes.plot(item.value, place, marker="^", ms=6, color=colour, transform=at, ls="none", zorder=5)


def _legend(
    figure: Figure, axes: Axes, series: Sequence[str], items: Sequence[Estimate], thresholds: Mapping[str, Estimate]
) -> None:
    for index, name in enumerate(series):
        mine = [item for item in items if item.label == name]
        # People answer at every level, trials at one.
        number = max(item.n for item in mine) if mine[0].unit == "participants" else sum(item.n for item in mine)
        text = f"{name} (n = {number:,} {mine[0].unit}"
        if name in thresholds:
            item = thresholds[name]
            text += f"; threshold ▲ {write.number(item.value)} {write.interval(item.low, item.high)}"
        axes.plot(
            [], [], marker=MARKERS[index % len(MARKERS)], color=PALETTE[index % len(PALETTE)], mec=INK, label=text + ")"
        )
    figure.legend(loc="outside upper left", frameon=False, handlelength=1.6, fontsize=8)
