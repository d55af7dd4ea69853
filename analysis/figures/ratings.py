"""Ratings on a scale of points: the share of each point, stacked, a row a condition."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.registry import LimenError

from .. import format as write
from ..results import Result
from .picture import Picture, render
from .rows import aside, drawable, named
from .style import MUTED, PERCENT, RC, WIDTH

LOW, MIDDLE, HIGH = "#b35806", "#f3efe6", "#1f5fa8"
DARK_INK, LIGHT_INK = "#111418", "#fdfdfd"
SMALLEST = 0.055
"""Share below which a segment is too narrow for its number."""


def rating_shares(
    result: Result,
    *,
    points: pd.DataFrame | None = None,
    scale: Sequence[float] = (),
    ends: tuple[str, str] = ("lowest", "highest"),
    order: Sequence[str] = (),
    title: str = "Ratings",
) -> Picture:
    """Draw the share of each point of a rating scale, a stacked bar a condition, with n and the median.

    Parameters
    ----------
    points : DataFrame, optional
        One row a rating: `label`, `rating`; the result's own points by default.
    scale : sequence of float
        All points of the scale in order; those that occur where none are given.
    ends : what the first and the last point mean, for the legend

    Raises
    ------
    LimenError
        If there are no such points, or a rating is not on the scale.
    """
    table = result.points if points is None else points
    if table is None or not {"label", "rating"} <= set(table.columns) or not table["rating"].notna().any():
        raise LimenError(f"ratings of '{result.name}': points need the columns label and rating; there are none.")
    kept = table[table["rating"].notna()]
    steps = list(scale) or sorted(kept["rating"].unique())
    if not set(kept["rating"]) <= set(steps):
        odd = sorted(set(kept["rating"]) - set(steps))[0]
        raise LimenError(
            f"ratings of '{result.name}': given {odd:g}, allowed are {', '.join(f'{s:g}' for s in steps)}."
        )
    labels = kept["label"].astype(str)
    names = [name for name in (list(order) or sorted(labels.unique())) if (labels == name).any()]
    colours = _colours(len(steps))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.5 * len(names) + 1.3), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(names):
            values = kept.loc[labels == name, "rating"].to_numpy(dtype=float)
            _bar(axes, [float((values == step).mean()) for step in steps], row, colours)
            aside(axes, row, f"median {np.median(values):g}\nn = {len(values):,} ratings")
        handles = []
        for step, colour in zip(steps, colours, strict=True):
            word = {steps[0]: f" ({ends[0]})", steps[-1]: f" ({ends[1]})"}.get(step, "")
            handles.append(Patch(facecolor=colour, edgecolor=MUTED, lw=0.4, label=f"{step:g}{word}"))
        axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="Share of ratings (%)")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(PERCENT)
        figure.legend(
            handles=handles,
            loc="outside upper left",
            ncols=min(len(steps), 7),
            frameon=False,
            handlelength=1.1,
            fontsize=8,
        )
    alt = f"{title}: " + "; ".join(
        f"{name}: "
        + ", ".join(
            f"{step:g} {write.percent(float((kept.loc[labels == name, 'rating'] == step).mean()))}" for step in steps
        )
        for name in names
    )
    return render(figure, f"{named(result.name)}_ratings", title, alt)


def counted(result: Result, quantity: str = "share of answers") -> pd.DataFrame:
    """Turn estimated shares back into one row an answer: `label`, `rating`; `extra` has `level`, `answer` and `answers`."""
    items = [item for item in drawable(result.of(quantity)) if {"level", "answer", "answers"} <= set(item.extra)]
    times = [round(item.value * int(item.extra["answers"])) for item in items]
    return pd.DataFrame(
        {
            "label": np.repeat([str(item.extra["level"]) for item in items], times),
            "rating": np.repeat([float(item.extra["answer"]) for item in items], times),
        }
    )


def _colours(count: int) -> list[str]:
    ramp = LinearSegmentedColormap.from_list("ratings", (LOW, MIDDLE, HIGH))
    return [to_hex(ramp(place)) for place in np.linspace(0, 1, count)] if count > 1 else [HIGH]


def _bar(axes: Axes, shares: Sequence[float], row: int, colours: Sequence[str]) -> None:
    left = 0.0
    for share, colour in zip(shares, colours, strict=True):
        axes.barh(row, share, left=left, height=0.62, color=colour, edgecolor=MUTED, lw=0.4)
        if share >= SMALLEST:
            red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
            axes.text(left + share / 2, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8,
                      color=DARK_INK if dark else LIGHT_INK)  # fmt: skip
        left += share
