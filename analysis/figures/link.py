"""Scores of methods against their Utility for people, a panel a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from .. import format as write
from ..results import Estimate, Result
from .picture import Picture, render
from .style import GRID, MUTED, PAPER, RC, WIDTH, palette


def link_figure(result: Result, *, order: Sequence[str], baseline: str, intervals: Mapping[str, Estimate]) -> Picture:
    """Draw a panel a metric: score against Utility, every method labelled, better scores to the right."""
    assert result.points is not None
    metrics = sorted(result.points["metric"].unique())
    columns = min(2, len(metrics))
    lines = -(-len(metrics) // columns)
    styles = palette(order, baseline)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 2.9 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axes, metric in zip(panels.flat, metrics, strict=False):
            _link_panel(axes, result, metric, styles, intervals)
        for axes in panels.flat[len(metrics) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("Utility (1 = baseline)")
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
        for axes, metric in zip(panels.flat, metrics, strict=False):
            _point_labels(axes, result.points[result.points["metric"] == metric])
    return render(figure, "link", "Scores against Utility", "Utility against each metric's score. " + _link_alt(result))


def _link_panel(
    axes: Axes, result: Result, metric: str, styles: Mapping[str, tuple[str, str]], intervals: Mapping[str, Estimate]
) -> None:
    assert result.points is not None
    rows = result.points[result.points["metric"] == metric]
    down = rows["direction"].iloc[0] == "down"
    axes.axhline(1.0, color=MUTED, lw=0.8, ls=(0, (5, 3)))
    row: Any
    for row in rows.itertuples():
        colour, marker = styles[str(row.condition)]
        item = intervals.get(str(row.condition))
        if item is not None and np.isfinite(item.low):
            axes.plot([row.value, row.value], [item.low, item.high], color=colour, lw=1.1, alpha=0.55)
        axes.plot(row.value, row.utility, marker=marker, ms=6.5, color=colour, mec=PAPER, mew=0.8, ls="none")
    axes.margins(x=0.22, y=0.12)
    if down:
        axes.invert_xaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{metric} ({'lower' if down else 'higher'} is better →)")
    axes.grid(color=GRID, lw=0.5)
    axes.set_axisbelow(True)
    item = result.get("Spearman rho", metric)
    if np.isfinite(item.value):
        text = f"ρ = {write.number(item.value)} {write.interval(item.low, item.high)}\nn = {item.n}, {write.p_equation(item.p)}"
    else:
        text = f"n = {item.n}: no coefficient"
    axes.set_title(text, fontweight="normal", fontsize=8, color=MUTED)


def _point_labels(axes: Axes, rows: pd.DataFrame) -> None:
    """Label each point at the first of eight places where no earlier label, point or edge is in the way."""
    taken = [
        Bbox.from_bounds(x - 5, y - 5, 10, 10)
        for x, y in axes.transData.transform(rows[["value", "utility"]].to_numpy())
    ]
    inside = axes.get_window_extent()
    row: Any
    for row in rows.itertuples():
        best = None
        for dx, dy in ((7, 0), (-7, 0), (7, 9), (-7, 9), (7, -9), (-7, -9), (7, 18), (-7, -18)):
            text = axes.annotate(
                str(row.condition), (float(row.value), float(row.utility)), xytext=(dx, dy), textcoords="offset points",
                ha="left" if dx > 0 else "right", va="center", fontsize=7.5,
            )  # fmt: skip
            box = text.get_window_extent()
            clear = not any(box.overlaps(other) for other in taken) and box.x0 >= inside.x0 and box.x1 <= inside.x1
            if clear:
                best = text
                taken.append(box)
                break
            text.remove()
        if best is None:
            axes.annotate(str(row.condition), (float(row.value), float(row.utility)), xytext=(7, 0), textcoords="offset points",
                          va="center", fontsize=7.5)  # fmt: skip


def _link_alt(result: Result) -> str:
    return "; ".join(
        f"{item.label}: Spearman rho {write.number(item.value)}, n = {item.n}" for item in result.of("Spearman rho")
    )
