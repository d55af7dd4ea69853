"""The look of every figure: colours that any colour vision tells apart, type sizes, and which axes are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

INK, MUTED, GRID, PAPER = "#1d2329", "#5f6872", "#d8dde2", "#ffffff"
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
BASE = "#7b8490"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f3c8d")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
WIDTH = 7.0
RC: dict[Any, Any] = {
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
PERCENT = FuncFormatter(lambda value, _: f"{value * 100:.0f}")


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
