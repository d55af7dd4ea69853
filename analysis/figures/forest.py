"""Ratios and differences with their intervals, a row each, beside the line of no difference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .. import format as write
from ..results import Estimate, Result
from .picture import Picture, render
from .rows import aside, axis_title, bounds, described, in_percent, is_ratio, is_share, mark, named, needed, span, told
from .style import INK, MUTED, PALETTE, PAPER, RC, WIDTH, palette, rows_only

_ONE_TWO_FIVE = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]


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
    if high / low > 6:
        ticks = [value for value in _ONE_TWO_FIVE if low <= value <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(low, high)


def contrast_forest(
    result: Result,
    quantities: str | Sequence[str],
    *,
    null: float | None = None,
    alpha: float = 0.05,
    title: str = "",
    xlabel: str = "",
) -> Picture:
    """Draw contrasts with their intervals beside the line of no difference; a group of rows a quantity.

    The line of no difference is at 0, of ratios at 1 on a logarithmic axis, unless `null` says otherwise.
    A filled mark: p (adjusted, where it was) is below `alpha`. A hollow one: it is not, or nothing was tested.

    Raises
    ------
    LimenError
        If the result has no finite estimate of a quantity.
    """
    asked = [quantities] if isinstance(quantities, str) else list(quantities)
    groups = [(quantity, needed(result, quantity)) for quantity in asked]
    share, items = is_share(asked[0]), [item for _, group in groups for item in group]
    ratio = is_ratio(asked[0])
    line = null if null is not None else 1.0 if ratio else 0.0
    alike = len({(item.n, item.unit) for item in items}) == 1
    heads = len(groups) if len(groups) > 1 else 0
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.4 * (len(items) + heads) + 1.15), layout="constrained")
        axes = figure.subplots()
        axes.axvline(line, color=INK, lw=1.0, zorder=1)
        row, places = 0, []
        for index, (quantity, group) in enumerate(groups):
            if heads:
                axes.text(0, row, quantity, transform=axes.get_yaxis_transform(), fontsize=8, color=MUTED, va="center")
                row += 1
            for item in group:
                mark(axes, item, row, (PALETTE[index % len(PALETTE)], "o"), hollow=not _told_apart(item, alpha))
                aside(axes, row, _contrast_text(item, share=share) + ("" if alike else f"  n = {item.n:,}"))
                places.append((row, item.label))
                row += 1
        axes.set(ylim=(row - 0.4, -0.6), xlim=span(items, line))
        axes.set_yticks(
            [place for place, _ in places], [label.replace(" - ", " \N{MINUS SIGN} ") for _, label in places]
        )
        if ratio and min(item.value for item in items) > 0:
            _log_axis(axes, items)
        sample = f", n = {items[0].n:,} {items[0].unit}" if alike else ""
        axes.set_xlabel((xlabel or axis_title(asked[0])) + sample)
        in_percent(axes, percent=share)
        rows_only(axes)
    title = title or asked[0][:1].upper() + asked[0][1:]
    alt = f"{title}: " + told(items, lambda item: f"{described(item, percent=share)}, {write.p_equation(_p(item))}")
    return render(figure, f"{named(result.name)}_{named(asked[0])}", title, alt)


def _p(item: Estimate) -> float:
    return item.p_adjusted if np.isfinite(item.p_adjusted) else item.p


def _told_apart(item: Estimate, alpha: float) -> bool:
    return bool(np.isfinite(_p(item)) and _p(item) < alpha)


def _contrast_text(item: Estimate, *, share: bool) -> str:
    value = write.points(item.value) if share else write.number(item.value)
    p = f"  {write.p_equation(_p(item))}" if np.isfinite(_p(item)) else ""
    return f"{value}  {bounds(item, percent=share)}{p}"
