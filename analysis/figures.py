"""The figures of a report: raw points, estimates with intervals, colour-blind safe, the same bytes for the same input."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from scipy import stats

from . import format as write
from .results import Estimate, Result

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
_PERCENT = FuncFormatter(lambda value, _: f"{value * 100:.0f}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as bytes: `svg` for archives, `inline` for the page (its colours follow the page's theme), `png`."""

    name: str
    title: str
    alt: str
    svg: str
    inline: str
    png: bytes


def palette(conditions: Sequence[str], baseline: str) -> dict[str, tuple[str, str]]:
    """Give each condition a colour and a marker; the baseline is grey."""
    others = [name for name in conditions if name != baseline]
    styles = {
        name: (PALETTE[i % len(PALETTE)], MARKERS[(i + i // len(PALETTE)) % len(MARKERS)])
        for i, name in enumerate(others)
    }
    return {baseline: (BASE, "o"), **styles}


def _render(figure: Figure, name: str, title: str, alt: str) -> Picture:
    FigureCanvasAgg(figure)
    with matplotlib.rc_context({**RC, "svg.hashsalt": f"limen-{name}"}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=180, facecolor=PAPER, metadata={"Software": None})
    svg = text.getvalue()
    return Picture(name=name, title=title, alt=alt, svg=svg, inline=_inline(svg, name), png=data.getvalue())


def _inline(svg: str, name: str) -> str:
    """Make an SVG ready to stand in a page: no prologue, ids of its own, colours from the page's theme."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, variable in THEME.items():
        body = body.replace(colour, variable)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]+"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", body, count=1), count=1
    )


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
            _cloud(axes, values, row, styles[name][0])
            _mean(axes, result.get("accuracy", name), row, styles[name][0])
        axes.set(ylim=(len(order) - 0.35, -0.75), xlim=(left, 1.02), xlabel=xlabel)
        axes.set_yticks(range(len(order)), order)
        axes.xaxis.set_major_formatter(_PERCENT)
        _rows_only(axes)
    alt = "Mean accuracy by condition: " + "; ".join(
        f"{item.label} {write.percent(item.value)} {write.interval(item.low, item.high, 1, scale=100)}, n = {item.n}"
        for item in result.of("accuracy")
    )
    return _render(figure, "accuracy", "Accuracy by condition", alt)


def _reference_lines(axes: Axes, base: float, chance: float | None) -> None:
    lines = [(base, "baseline mean ", (0, (5, 3)))]
    if chance is not None:
        lines.append((chance, "chance ", (0, (1, 2))))
    for index, (value, label, dashes) in enumerate(sorted(lines)):
        axes.axvline(value, color=MUTED, lw=0.9, ls=dashes, zorder=0)
        side = "right" if index == 0 else "left"
        text = label if side == "right" else f" {label.strip()}"
        axes.text(value, -0.72, text, color=MUTED, fontsize=7.5, ha=side, va="center")


def _cloud(axes: Axes, values: np.ndarray, row: int, colour: str) -> None:
    if len(values) >= 3 and values.std() > 1e-9:
        grid = np.linspace(values.min(), values.max(), 120)
        height = stats.gaussian_kde(values)(grid)
        axes.fill_between(grid, row - 0.12, row - 0.12 - 0.42 * height / height.max(), color=colour, alpha=0.28, lw=0)
    bins = np.round(values, 3)
    for value in np.unique(bins):
        count = int((bins == value).sum())
        step = min(0.055, 0.26 / max(count, 1))
        depth = row + 0.12 + step * np.arange(count)
        axes.scatter(np.full(count, value), depth, s=9, color=colour, alpha=0.75, lw=0, zorder=3)


def _mean(axes: Axes, item: Estimate, row: int, colour: str) -> None:
    if np.isfinite(item.low):
        axes.plot([item.low, item.high], [row, row], color=INK, lw=1.8, solid_capstyle="butt", zorder=4)
    axes.plot(item.value, row, marker="o", ms=6.5, mfc=colour, mec=INK, mew=1.2, zorder=5)
    text = f"{write.percent(item.value)}  {write.interval(item.low, item.high, 1, scale=100)}\nn = {item.n}"
    axes.text(
        1.02, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=8, linespacing=1.4
    )


def _rows_only(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, lw=0.6)
    axes.set_axisbelow(True)


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
        axes.yaxis.set_major_formatter(_PERCENT)
        axes.grid(axis="y", color=GRID, lw=0.6)
    alt = "Mean accuracy after each session: " + "; ".join(
        f"{item.label} {write.percent(item.value)}" for item in items
    )
    return _render(figure, "learning", "Learning over sessions", alt)


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
        _rows_only(axes)
    alt = "Utility by condition: " + "; ".join(
        f"{item.label} {write.number(item.value)} {write.interval(item.low, item.high)}" for item in rows
    )
    return _render(figure, "utility", "Utility", alt)


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
        axes.xaxis.set_major_formatter(_PERCENT)
        _rows_only(axes)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3, columnspacing=1.5)
    alt = "Accuracy by condition, model right / model wrong: " + "; ".join(
        f"{name} {write.percent(result.get(sides[0][0], name).value)} / {write.percent(result.get(sides[1][0], name).value)}"
        for name in order
    )
    return _render(figure, "model_split", "Where the model was right and wrong", alt)


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
    return _render(
        figure, "link", "Scores against Utility", "Utility against each metric's score. " + _link_alt(result)
    )


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
    return _render(figure, "flow", "Sample flow", alt)


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
