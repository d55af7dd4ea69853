"""The sample flow: who stayed down the middle, who left to the right."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from .picture import Picture, render
from .style import INK, MUTED, RC, WIDTH


def flow_chart(flow: pd.DataFrame, *, total: str = "all") -> Picture:
    """Draw the sample flow: who stayed down the middle, who left to the right."""
    kept = flow[flow["kind"] == "kept"]
    with matplotlib.rc_context(RC):
        leaving = [flow.loc[a + 1 : b - 1] for a, b in zip(kept.index[:-1], kept.index[1:], strict=True)]
        heights = [max(0.62, 0.3 * int((rows[total] > 0).sum()) + 0.3) for rows in leaving]
        top = sum(heights) + 0.5 * len(kept)
        figure = Figure(figsize=(WIDTH, 0.62 * (top + 0.2)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 10), ylim=(-0.1, top + 0.1))
        axes.axis("off")
        y = top
        for index, (_, row) in enumerate(kept.iterrows()):
            _box(axes, (1.0, y - 0.5, 3.6, 0.5), f"{row['step']}:  {row[total]:,}", strong=index == len(kept) - 1)
            y -= 0.5
            if index < len(leaving):
                _leave(axes, leaving[index], y, heights[index], total)
                y -= heights[index]
    alt = "Sample flow: " + "; ".join(f"{row['step']} {row[total]}" for _, row in flow.iterrows())
    return render(figure, "flow", "Sample flow", alt)


def _leave(axes: Axes, rows: pd.DataFrame, y: float, height: float, total: str) -> None:
    axes.annotate(
        "",
        (2.8, y - height),
        (2.8, y),
        arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
    )
    shown = rows[rows[total] > 0]
    if shown.empty:
        return
    text = "\n".join(f"{row['step']}:  {row[total]:,}" for _, row in shown.iterrows())
    middle = y - height / 2
    axes.annotate(
        "",
        (5.2, middle),
        (2.8, middle),
        arrowprops={"arrowstyle": "-|>", "color": MUTED, "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
    )
    axes.text(5.35, middle, text, va="center", ha="left", fontsize=8.5, linespacing=1.5)


def _box(axes: Axes, at: tuple[float, float, float, float], text: str, *, strong: bool) -> None:
    x, y, width, height = at
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            fc="none",
            ec=INK if strong else MUTED,
            lw=1.8 if strong else 0.9,
        )
    )
    axes.text(
        x + width / 2,
        y + height / 2,
        text,
        ha="center",
        va="center",
        fontsize=9.5,
        fontweight="bold" if strong else "normal",
    )
