"""Every participant's value, its distribution, and the mean with its interval, a row a condition."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from .. import format as write
from ..results import Estimate, Result
from .picture import Picture, render
from .rows import strip
from .style import INK, MUTED, PERCENT, RC, WIDTH, palette, rows_only


def raincloud(
    result: Result,
    *,
    order: Sequence[str],
    baseline: str,
    chance: float | None,
    xlabel: str = "Accuracy of a participant (%)",
) -> Picture:
    """Draw every participant's accuracy, its distribution, and the mean with its interval, a row a condition."""
    assert result.points is not None
    styles, points = palette(order, baseline), result.points
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.72 * len(order) + 0.85), layout="constrained")
        axes = figure.subplots()
        low = min(points["accuracy"].min(), chance if chance is not None else 1.0)
        left = max(0.0, np.floor((low - 0.04) * 10) / 10)
        _reference_lines(axes, result.get("accuracy", baseline).value, chance)
        for row, name in enumerate(order):
            values = points.loc[points["condition"] == name, "accuracy"].to_numpy()
            draw_cloud(axes, values, row, styles[name][0])
            _mean(axes, result.get("accuracy", name), row, styles[name][0])
        axes.set(ylim=(len(order) - 0.35, -0.75), xlim=(left, 1.02), xlabel=xlabel)
        axes.set_yticks(range(len(order)), order)
        axes.xaxis.set_major_formatter(PERCENT)
        rows_only(axes)
    alt = "Mean accuracy by condition: " + "; ".join(
        f"{item.label} {write.percent(item.value)} {write.interval(item.low, item.high, 1, scale=100)}, n = {item.n}"
        for item in result.of("accuracy")
    )
    return render(figure, "accuracy", "Accuracy by condition", alt)


def _reference_lines(axes: Axes, base: float, chance: float | None) -> None:
    lines = [(base, "baseline mean ", (0, (5, 3)))]
    if chance is not None:
        lines.append((chance, "chance ", (0, (1, 2))))
    for index, (value, label, dashes) in enumerate(sorted(lines)):
        axes.axvline(value, color=MUTED, lw=0.9, ls=dashes, zorder=0)
        side = "right" if index == 0 else "left"
        text = label if side == "right" else f" {label.strip()}"
        axes.text(value, -0.72, text, color=MUTED, fontsize=7.5, ha=side, va="center")


def draw_cloud(axes: Axes, values: np.ndarray, row: float, colour: str) -> None:
    """Draw the distribution of raw values above a row, and the values below it."""
    if len(values) >= 3 and values.std() > 1e-9:
        grid = np.linspace(values.min(), values.max(), 120)
        height = stats.gaussian_kde(values)(grid)
        axes.fill_between(grid, row - 0.12, row - 0.12 - 0.42 * height / height.max(), color=colour, alpha=0.28, lw=0)
    strip(axes, values, row + 0.12, colour)


def _mean(axes: Axes, item: Estimate, row: int, colour: str) -> None:
    if np.isfinite(item.low):
        axes.plot([item.low, item.high], [row, row], color=INK, lw=1.8, solid_capstyle="butt", zorder=4)
    axes.plot(item.value, row, marker="o", ms=6.5, mfc=colour, mec=INK, mew=1.2, zorder=5)
    text = f"{write.percent(item.value)}  {write.interval(item.low, item.high, 1, scale=100)}\nn = {item.n}"
    axes.text(
        1.02, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=8, linespacing=1.4
    )
