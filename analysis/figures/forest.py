"""Ratios and differences with their intervals, a row each, beside the line of no difference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .. import format as write
from ..results import Estimate
from .picture import Picture, render
from .style import INK, MUTED, PAPER, RC, WIDTH, palette, rows_only


def utility_forest(items: Sequence[Estimate], *, order: Sequence[str], baseline: str) -> Picture:
    """Draw Utility with its interval on a log axis, most useful first, and the line of no difference."""
    styles = palette(order, baseline)
    rows = sorted(items, key=lambda item: -item.value if np.isfinite(item.value) else np.inf)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.15), layout="constrained")
        axes = figure.subplots()
        axes.axvline(1.0, color=INK, lw=1.0, zorder=1)
        for row, item in enumerate(rows):
            colour, marker = styles[item.label]
            if np.isfinite(item.low):
                axes.plot([item.low, item.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
            axes.plot(item.value, row, marker=marker, ms=7, color=colour, mec=PAPER, mew=0.9, ls="none")
            text = f"{write.number(item.value)}  {write.interval(item.low, item.high)}"
            axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", ha="left", fontsize=8.5)
        axes.text(
            1.02,
            -0.85,
            "Utility  [95 % interval]",
            transform=axes.get_yaxis_transform(),
            fontsize=7.5,
            color=MUTED,
            va="center",
        )
        _log_axis(axes, rows)
        axes.set(ylim=(len(rows) - 0.4, -0.95), xlabel="Utility: accuracy relative to the baseline (1 = no difference)")
        axes.set_yticks(range(len(rows)), [item.label for item in rows])
        rows_only(axes)
    alt = "Utility by condition: " + "; ".join(
        f"{item.label} {write.number(item.value)} {write.interval(item.low, item.high)}" for item in rows
    )
    return render(figure, "utility", "Utility", alt)


def _log_axis(axes: Axes, rows: Sequence[Estimate]) -> None:
    ends = [value for item in rows for value in (item.low, item.high, item.value) if np.isfinite(value) and value > 0]
    low, high = min([0.95, *ends]) / 1.04, max([1.05, *ends]) * 1.04
    axes.set_xscale("log")
    step = 0.1 if high - low < 1.0 else 0.25 if high - low < 2 else 0.5
    ticks = [value for value in np.arange(step, high + step, step) if low <= value <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(low, high)
