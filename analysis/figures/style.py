"""The look of a study's figures: the colours of `bench.picture` given to conditions, and which axes are drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bench.picture import BASE, GRID, INK, MARKERS, MUTED, PALETTE, PAPER, RC, WIDTH

from .. import format as write

__all__ = [
    "BASE",
    "GRID",
    "INK",
    "MARKERS",
    "MUTED",
    "PALETTE",
    "PAPER",
    "PERCENT",
    "RC",
    "WIDTH",
    "palette",
    "rows_only",
]
PERCENT = FuncFormatter(lambda value, _: write.number(100 * value, 0))


def palette(conditions: Sequence[str], baseline: str) -> dict[str, tuple[str, str]]:
    """Give each condition a colour and a marker; the baseline is grey."""
    others = [name for name in conditions if name != baseline]
    styles = {
        name: (PALETTE[i % len(PALETTE)], MARKERS[(i + i // len(PALETTE)) % len(MARKERS)])
        for i, name in enumerate(others)
    }
    return {baseline: (BASE, "o"), **styles}


def rows_only(axes: Axes) -> None:
    """Leave the horizontal axis and its grid: rows have names, not ticks."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)
