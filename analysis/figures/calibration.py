"""Confidence against accuracy, bin by bin, beside perfect calibration, with how many answers each bin holds."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..results import Estimate, Result
from .picture import Picture, render
from .rows import described, named, needed
from .style import GRID, INK, MARKERS, MUTED, PALETTE, PERCENT, RC, WIDTH


def calibration(
    result: Result,
    *,
    chance: float | None = None,
    xlabel: str = "",
    title: str = "Confidence and accuracy",
) -> Picture:
    """Draw a reliability diagram: accuracy with its interval at each level of confidence, and n below.

    Parameters
    ----------
    result : Result
        Estimates of 'accuracy at confidence': `extra['condition']` (or `label`) the series, `extra['confidence']` the mean
        confidence of the bin on the scale of accuracy (0 to 1), `n` its answers. With `facts['scale']` 'steps' confidence is
        a step of an ordered scale, which no line of perfect calibration belongs to.
    chance : float, optional
        Accuracy of guessing, drawn as a dotted line.

    Raises
    ------
    LimenError
        If the result has no finite 'accuracy at confidence'.
    """
    items = needed(result, "accuracy at confidence")
    steps = result.facts.get("scale") == "steps"
    series = list(dict.fromkeys(_series(item) for item in items))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1)})
        if not steps:
            axes.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (5, 3)))
            axes.text(0.97, 0.985, "calibrated", color=MUTED, fontsize=7.5, ha="right", va="bottom")
        for index, name in enumerate(series):
            mine = sorted(
                (item for item in items if _series(item) == name), key=lambda item: float(item.extra["confidence"])
            )
            style = (PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
            _curve(axes, mine, style, name)
            _counts(
                below,
                mine,
                style[0],
                (index - (len(series) - 1) / 2) * (0.16 if steps else 0.03),
                steps=steps,
                alone=len(series) == 1,
            )
        if chance is not None:
            axes.axhline(chance, color=MUTED, lw=0.9, ls=(0, (1, 2)))
            axes.text(
                1.01,
                chance,
                "chance",
                transform=axes.get_yaxis_transform(),
                color=MUTED,
                fontsize=7.5,
                ha="left",
                va="center",
            )
        axes.set(ylim=(-0.03, 1.05), ylabel="Accuracy (%)")
        below.set(
            xlabel=xlabel or ("Confidence (step of the scale)" if steps else "Confidence (%)"), ylabel=items[0].unit
        )
        _confidence_axis(below, items, steps=steps)
        for panel in (axes, below):
            panel.grid(color=GRID, lw=0.5)
            panel.set_axisbelow(True)
        axes.yaxis.set_major_formatter(PERCENT)
        figure.legend(loc="outside upper left", ncols=min(3, len(series)), frameon=False, handlelength=1.6, fontsize=8)
    alt = f"{title}: " + "; ".join(
        f"{item.label} at confidence {_told(item, steps=steps)}: {described(item, percent=True)}" for item in items
    )
    return render(figure, f"{named(result.name)}_calibration", title, alt)


def _series(item: Estimate) -> str:
    return str(item.extra.get("condition", item.label))


def _told(item: Estimate, *, steps: bool) -> str:
    value = float(item.extra["confidence"])
    return f"{value:g}" if steps else f"{100 * value:.0f} %"


def _confidence_axis(axes: Axes, items: Sequence[Estimate], *, steps: bool) -> None:
    """Set the shared axis of confidence: percent from 0 to 100, or every step of the scale."""
    if not steps:
        axes.set_xlim(-0.03, 1.03)
        axes.xaxis.set_major_formatter(PERCENT)
        return
    places = sorted({float(item.extra["confidence"]) for item in items})
    axes.set_xlim(places[0] - 0.4, places[-1] + 0.4)
    axes.set_xticks(places, [f"{place:g}" for place in places])


def _curve(axes: Axes, items: Sequence[Estimate], style: tuple[str, str], name: str) -> None:
    places = [float(item.extra["confidence"]) for item in items]
    for place, item in zip(places, items, strict=True):
        if np.isfinite(item.low):
            axes.plot([place, place], [item.low, item.high], color=style[0], lw=1.3, alpha=0.75)
    total = sum(item.n for item in items)
    axes.plot(places, [item.value for item in items], color=style[0], lw=1.4, marker=style[1], ms=6, mfc=style[0], mec=INK,
              mew=0.9, zorder=4, label=f"{name} (n = {total:,})")  # fmt: skip


def _counts(axes: Axes, items: Sequence[Estimate], colour: str, shift: float, *, steps: bool, alone: bool) -> None:
    places = [float(item.extra["confidence"]) + shift for item in items]
    width = (0.3 if alone else 0.15) if steps else (0.055 if alone else 0.028)
    axes.bar(places, [item.n for item in items], width=width, color=colour)
    if alone:
        for place, item in zip(places, items, strict=True):
            axes.text(place, item.n, f"{item.n:,}", ha="center", va="bottom", fontsize=7, color=INK)
        axes.margins(y=0.28)
