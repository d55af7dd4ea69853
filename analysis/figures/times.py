"""Reaction times: the distribution of answers and the medians of participants, a row a condition, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import stats

from bench.registry import LimenError

from .. import format as write
from ..results import Result
from .picture import Picture, render
from .rows import aside, named
from .style import INK, PALETTE, RC, WIDTH, rows_only

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def reaction_times(
    result: Result,
    *,
    points: pd.DataFrame | None = None,
    order: Sequence[str] = (),
    title: str = "Reaction times",
) -> Picture:
    """Draw the distribution of reaction times of each condition with quartiles, and each participant's median.

    Parameters
    ----------
    result : Result
        Its points are used where none are given.
    points : DataFrame, optional
        One row an answer: `label`, `seconds` (> 0), perhaps `participant_id`.
    order : sequence of str
        Labels from top to bottom; by name where none is given.

    Raises
    ------
    LimenError
        If there are no such points.
    """
    table = result.points if points is None else points
    if table is None or not {"label", "seconds"} <= set(table.columns):
        raise LimenError(
            f"reaction times of '{result.name}': points need the columns label and seconds; there are none."
        )
    kept = table[np.isfinite(table["seconds"]) & (table["seconds"] > 0)]
    if kept.empty:
        raise LimenError(f"reaction times of '{result.name}': no answer has a time above zero.")
    names = list(order) or sorted(map(str, kept["label"].unique()))
    parts = {name: kept[kept["label"].astype(str) == name] for name in names}
    parts = {name: rows for name, rows in parts.items() if len(rows)}
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.72 * len(parts) + 0.85), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        for row, rows in enumerate(parts.values()):
            _row(axes, rows, row, PALETTE[row % len(PALETTE)])
        _frame(axes, list(parts), kept["seconds"].to_numpy(dtype=float))
    alt = f"{title}, median of answers: " + "; ".join(
        f"{name} {write.number(float(rows['seconds'].median()))} s, n = {len(rows):,} answers"
        for name, rows in parts.items()
    )
    return render(figure, f"{named(result.name)}_times", title, alt)


def _row(axes: Axes, rows: pd.DataFrame, row: int, colour: str) -> None:
    seconds = rows["seconds"].to_numpy(dtype=float)
    logs = np.log(seconds)
    if len(logs) >= 3 and logs.std() > 1e-9:
        grid = np.linspace(logs.min(), logs.max(), 160)
        height = stats.gaussian_kde(logs)(grid)
        axes.fill_between(
            np.exp(grid), row - 0.1, row - 0.1 - 0.46 * height / height.max(), color=colour, alpha=0.28, lw=0
        )
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    axes.plot([low, high], [row, row], color=INK, lw=1.8, solid_capstyle="butt", zorder=4)
    axes.plot(middle, row, marker="o", ms=6.5, mfc=colour, mec=INK, mew=1.1, zorder=5)
    people = ""
    if "participant_id" in rows.columns:
        medians = rows.groupby("participant_id")["seconds"].median().to_numpy()
        offsets = row + 0.16 + 0.14 * (np.arange(len(medians)) % 3) / 2
        axes.scatter(np.sort(medians), offsets, s=8, color=colour, alpha=0.75, lw=0, zorder=3)
        people = f"\n{write.count(len(medians), 'participant')}"
    aside(axes, row, f"{middle:.2f} s  [{low:.2f}, {high:.2f}]\nn = {len(seconds):,} answers{people}", size=7.5)


def _frame(axes: Axes, names: Sequence[str], seconds: np.ndarray) -> None:
    low, high = float(seconds.min()) / 1.1, float(seconds.max()) * 1.1
    axes.set(ylim=(len(names) - 0.45, -0.7), xlim=(low, high))
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("Response time (s, logarithmic): median and quartiles of answers; dots: medians of participants")
    rows_only(axes)
