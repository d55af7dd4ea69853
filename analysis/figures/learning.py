"""Accuracy after each session, a line a condition."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import format as write
from ..results import Result
from .picture import Picture, render
from .style import GRID, INK, MUTED, PAPER, PERCENT, RC, WIDTH, palette


def learning_curves(
    result: Result, *, order: Sequence[str], baseline: str, chance: float | None, seen: bool
) -> Picture:
    """Draw mean accuracy with its interval after each session."""
    styles = palette(order, baseline)
    items = result.of("accuracy by session")
    ends = sorted({item.extra["k_seen"] for item in items})
    width = (ends[-1] - ends[0]) if len(ends) > 1 else 1.0
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        axes = figure.subplots()
        labels: list[tuple[str, float, str]] = []
        for index, name in enumerate(order):
            rows = [item for item in items if item.extra["condition"] == name]
            shift = (index - (len(order) - 1) / 2) * 0.014 * width
            x = np.array([item.extra["k_seen"] for item in rows]) + shift
            y = np.array([item.value for item in rows])
            colour, marker = styles[name]
            for position, item in zip(x, rows, strict=True):
                axes.plot([position, position], [item.low, item.high], color=colour, lw=1.3, alpha=0.65)
            axes.plot(
                x,
                y,
                color=colour,
                marker=marker,
                ms=5.5,
                mec=PAPER,
                mew=0.8,
                lw=1.8,
                ls="--" if name == baseline else "-",
            )
            labels.append((name, float(y[-1]), colour))
        if chance is not None:
            axes.axhline(chance, color=MUTED, lw=0.9, ls=(0, (1, 2)))
            axes.text(ends[-1] + 0.34 * width, chance, "chance", color=MUTED, fontsize=7.5, ha="right", va="bottom")
        _end_labels(axes, labels, ends[-1] + 0.05 * width)
        axes.set(xlim=(ends[0] - 0.07 * width, ends[-1] + 0.34 * width), ylabel="Accuracy (%)")
        axes.set_xlabel("Training examples seen" if seen else "Session")
        axes.set_xticks(ends, [f"{end:g}" for end in ends])
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(axis="y", color=GRID, lw=0.6)
    alt = "Mean accuracy after each session: " + "; ".join(
        f"{item.label} {write.percent(item.value)}" for item in items
    )
    return render(figure, "learning", "Learning over sessions", alt)


def _end_labels(axes: Axes, labels: list[tuple[str, float, str]], x: float) -> None:
    low, high = axes.get_ylim()
    gap = 0.062 * (high - low)
    placed: list[float] = []
    for name, y, colour in sorted(labels, key=lambda item: item[1]):
        at = max(y, placed[-1] + gap) if placed else y
        placed.append(at)
        axes.text(x, at, name, color=INK, fontsize=8, va="center", ha="left")
        axes.plot(
            [x - (x - axes.get_xlim()[0]) * 0.012] * 2, [at - gap / 3, at + gap / 3], color=colour, lw=3, clip_on=False
        )
