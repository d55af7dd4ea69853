"""Accuracy on images the model got right and wrong, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from .. import format as write
from ..results import Result
from .picture import Picture, render
from .style import PALETTE, PAPER, PERCENT, RC, WIDTH, rows_only


def model_split_figure(result: Result, *, order: Sequence[str]) -> Picture:
    """Draw accuracy on images the model got right and wrong, side by side."""
    sides = (
        ("accuracy, model right", "model right", PALETTE[0], "o"),
        ("accuracy, model wrong", "model wrong", PALETTE[1], "s"),
    )
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.5 * len(order) + 1.2), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(order):
            pair = [result.get(quantity, name) for quantity, *_ in sides]
            for item, (_, label, colour, marker), shift in zip(pair, sides, (-0.1, 0.1), strict=True):
                axes.plot([item.low, item.high], [row + shift] * 2, color=colour, lw=1.6, alpha=0.7)
                axes.plot(item.value, row + shift, marker=marker, ms=6.5, color=colour, mec=PAPER, mew=0.8, ls="none",
                          label=label if row == 0 else None)  # fmt: skip
        axes.set(ylim=(len(order) - 0.4, -0.6), xlabel="Accuracy (%), mean over participants with 95 % interval")
        axes.set_yticks(range(len(order)), order)
        axes.xaxis.set_major_formatter(PERCENT)
        rows_only(axes)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3, columnspacing=1.5)
    alt = "Accuracy by condition, model right / model wrong: " + "; ".join(
        f"{name} {write.percent(result.get(sides[0][0], name).value)} / {write.percent(result.get(sides[1][0], name).value)}"
        for name in order
    )
    return render(figure, "model_split", "Where the model was right and wrong", alt)
