"""A measure of each image beside what it would be by chance: split halves of people's importance maps and the like."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.registry import LimenError

from .. import format as write
from ..measures.map_agreement import mean_interval
from ..results import Result
from .picture import Picture, render
from .rows import aside, bounds, drawable, named, raw_points, span, strip
from .style import BASE, INK, PALETTE, RC, WIDTH, rows_only


def against_null(
    result: Result, quantity: str, *, points: pd.DataFrame | None = None, title: str = "", xlabel: str = ""
) -> Picture:
    """Draw each image's value and its null, their means, and the estimate of how far the one is above the other.

    Parameters
    ----------
    result : Result
        Points with `quantity`, `label` (or `condition`), `value` and `null`; estimates of `quantity` and of
        '... above null', whose first words may differ (a ceiling is stepped up, what is above the null is not).

    Raises
    ------
    LimenError
        If there are no such points.
    """
    table = raw_points(result, points)
    if "quantity" in table.columns:
        table = table[table["quantity"] == quantity]
    if "null" not in table.columns or table.empty:
        raise LimenError(f"figure of '{result.name}': no points of '{quantity}' with the columns value and null.")
    names = list(dict.fromkeys(table["label"].astype(str)))
    whole = {item.label: item for item in drawable(result.of(quantity))}
    above = {item.label: item for item in drawable(result.estimates) if _is_above(item.quantity, quantity)}
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.78 * len(names) + 1.25), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(names):
            rows = table[table["label"].astype(str) == name]
            _pair(axes, rows, row)
            lines = [f"n = {int(rows['value'].notna().sum()):,} images"]
            if name in above:
                lines.insert(0, f"above null {write.number(above[name].value)}  {bounds(above[name], percent=False)}")
            if name in whole:
                lines.insert(0, f"{quantity} {write.number(whole[name].value)}  {bounds(whole[name], percent=False)}")
            aside(axes, row, "\n".join(lines), size=7.5)
        both = table[["value", "null"]].to_numpy(dtype=float).ravel()
        axes.set(ylim=(len(names) - 0.4, -0.6), xlim=span([], 0.0, raw=both[np.isfinite(both)]))
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(xlabel or "Correlation of maps; small: an image; large: mean over images, 95 %")
        rows_only(axes)
        handles = [
            Line2D([], [], marker="o", color=PALETTE[0], mec=INK, ls="none", ms=6.5, label="same image"),
            Line2D([], [], marker="s", color=BASE, mec=INK, ls="none", ms=6, label="null: other images"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3)
    title = title or quantity[:1].upper() + quantity[1:]
    alt = f"{title} beside its null: " + "; ".join(
        f"{name} {write.number(float(rows['value'].mean()))} against {write.number(float(rows['null'].mean()))}"
        for name, rows in table.groupby("label", sort=False)
    )
    return render(figure, f"{named(result.name)}_{named(quantity)}", title, alt)


def _is_above(found: str, quantity: str) -> bool:
    """Say whether a quantity is the part of another that lies above its null: the same first two words."""
    return found.endswith(" above null") and found.split(" ")[0] == quantity.split(" ")[0]


def _pair(axes: Axes, rows: pd.DataFrame, row: int) -> None:
    for place, (column, colour, marker) in zip(
        (-0.26, 0.1), (("value", PALETTE[0], "o"), ("null", BASE, "s")), strict=True
    ):
        values = rows[column].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        strip(axes, values, row + place + 0.08, colour, room=0.16)
        mean, low, high, _ = mean_interval(values)
        axes.plot([low, high], [row + place, row + place], color=INK, lw=1.7, solid_capstyle="butt", zorder=4)
        axes.plot(mean, row + place, marker=marker, ms=6.5, mfc=colour, mec=INK, mew=1.1, ls="none", zorder=5)
