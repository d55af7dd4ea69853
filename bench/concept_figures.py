"""The concept figures of a bench report: sparsity against reconstruction, decisions, and strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .figures import BAND, GREY, INK, PALETTE, frame_axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
CONTROLS = {"random": ":", "pca": "--"}
"""Dictionaries that know nothing of the network's features, and the line they are drawn with."""
STRATEGIES = 6
"""Concepts with a colour of their own in a strategic cluster graph."""
_COLUMNS = 3


@dataclass(frozen=True)
class Point:
    """One way to fit at one layer: codes a row, R2 with its interval, and the floor of as many random directions."""

    name: str
    active: float
    value: float
    low: float
    high: float
    null: float


class Look(NamedTuple):
    """How a method is drawn in every figure."""

    colour: str
    marker: str
    line: str


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """Give each method one colour, marker and line; controls are grey."""
    free = [name for name in names if name not in CONTROLS]
    found = {
        name: Look(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], ("-", "-.")[index // len(PALETTE) % 2])
        for index, name in enumerate(free)
    }
    controls = {name: Look(GREY, "x+"[index], line) for index, (name, line) in enumerate(CONTROLS.items())}
    return {name: {**found, **controls}[name] for name in names}


def pareto(layers: Mapping[str, Sequence[Point]]) -> Figure:
    """Draw R2 against the number of active codes, a panel a layer, one line a method over its sizes.

    Parameters
    ----------
    layers : layer -> points; those of one name are joined by increasing sparsity
    """
    names = list(dict.fromkeys(point.name for points in layers.values() for point in points))
    looks = looks_of(names)
    figure, axes = _panels(len(layers), height=3.6, width=4.6)
    for axis, (layer, points) in zip(axes, layers.items(), strict=True):
        axis.plot(
            [point.active for point in points],
            [point.null for point in points],
            "_",
            color=INK,
            markersize=11,
            label="null",
        )
        for name in names:
            own = sorted((point for point in points if point.name == name), key=lambda point: point.active)
            if not own:
                continue
            x, y = [point.active for point in own], [point.value for point in own]
            bars = [[point.value - point.low for point in own], [point.high - point.value for point in own]]
            colour, marker, line = looks[name]
            axis.errorbar(
                x,
                y,
                yerr=np.maximum(bars, 0),
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=5,
                linewidth=1.4,
                label=name,
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(2))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(min(0.0, *(point.low for point in points if point.low > -0.5)) - 0.02, 1.03)
        axis.set_xlabel("active codes a row (L0, log scale)", fontsize=8)
        axis.set_title(layer, fontsize=9, color=INK, loc="left")
        frame_axes(axis)
    axes[0].set_ylabel("R2 on held-out rows", fontsize=8)
    _legend(figure, axes, [*names, "null"])
    return figure


def decision_curves(
    layers: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], across: str, upwards: str
) -> Figure:
    """Draw the mean curve of each method with its 95 % interval over pictures, a panel a layer.

    Parameters
    ----------
    layers : layer -> method -> x (T,) and y (N, T)
    across, upwards : names of the axes
    """
    names = list(dict.fromkeys(name for curves in layers.values() for name in curves))
    looks = looks_of(names)
    figure, axes = _panels(len(layers), height=3.6, width=4.6)
    for axis, (layer, curves) in zip(axes, layers.items(), strict=True):
        for name, (x, y) in curves.items():
            mean = np.nanmean(y, axis=0)
            reach = 1.96 * np.nanstd(y, axis=0, ddof=1) / np.sqrt(len(y)) if len(y) > 1 else np.zeros_like(mean)
            look = looks[name]
            axis.fill_between(100 * x, mean - reach, mean + reach, color=look.colour, alpha=0.12, linewidth=0)
            axis.plot(100 * x, mean, color=look.colour, linestyle=look.line, linewidth=1.6, label=name)
        if all(np.nanmin(y) >= 0 for _, y in curves.values()):
            axis.set_ylim(bottom=0)
        axis.set_xlim(0, 100 * max(float(x[-1]) for x, _ in curves.values()))
        axis.set_xlabel(across, fontsize=8)
        axis.set_title(layer, fontsize=9, color=INK, loc="left")
        frame_axes(axis)
    axes[0].set_ylabel(upwards, fontsize=8)
    _legend(figure, axes, names)
    return figure


def strategies(graphs: Mapping[str, tuple[np.ndarray, np.ndarray]], columns: int = _COLUMNS) -> Figure:
    """Draw pictures in the plane of their importance, coloured by the concept that adds most to each.

    Parameters
    ----------
    graphs : method -> positions (N, 2), strategy (N,)
    """
    rows = -(-len(graphs) // columns)
    figure = Figure(figsize=(3.1 * min(columns, len(graphs)), 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, min(columns, len(graphs)), squeeze=False).ravel()
    for axis in grid[len(graphs) :]:
        axis.set_visible(False)
    for axis, (name, (places, strategy)) in zip(grid, graphs.items(), strict=False):
        counts = pd.Series(strategy).value_counts(sort=False).sort_index()
        first = list(counts.sort_values(ascending=False, kind="stable").index[:STRATEGIES])
        rest = ~np.isin(strategy, first)
        axis.scatter(*places[rest].T, s=9, color=BAND, edgecolor=GREY, linewidth=0.4, label=f"other ({rest.sum()})")
        for index, concept in enumerate(first):
            chosen = strategy == concept
            axis.scatter(
                *places[chosen].T,
                s=13,
                color=PALETTE[index],
                marker=MARKERS[index],
                linewidth=0,
                label=f"concept {concept} ({chosen.sum()})",
            )
        axis.set_title(f"{name}, {len(counts)} strategies", fontsize=8, color=INK, loc="left")
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(BAND)
        axis.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, handletextpad=0.1)
    return figure


def _panels(count: int, *, height: float, width: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def _legend(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Put one legend below all panels."""
    found = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found.update(dict(zip(labels, handles, strict=True)))
    columns = min(len(names), 3 * len(axes))
    shown = [name for name in names if name in found]
    figure.legend(
        [found[name] for name in shown], shown, fontsize=7, frameon=False, loc="outside lower center", ncols=columns
    )
