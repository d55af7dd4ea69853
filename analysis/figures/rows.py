"""What figures of estimates share: their raw points, one mark with its interval, one line of text, and what is a share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.registry import LimenError

from .. import format as write
from ..results import Estimate, Result
from .style import INK, MUTED, PAPER, PERCENT

SHARES = ("accuracy", "above chance", "share", "preference", "bias to agree", "right minus wrong")
KINDS = {"accuracy": "accuracy", "median_ms": "response time"}
"""Columns of points that hold values, and how the quantities they lie behind begin."""
ASIDE = 1.02
"""Where text stands beside the rows, as a share of the panel's width."""


def is_share(quantity: str) -> bool:
    """Say whether a quantity is a share or a difference of shares, and so is written in percent."""
    return quantity.startswith(SHARES)


def is_ratio(quantity: str) -> bool:
    """Say whether a quantity is a ratio, whose one means no difference."""
    return "ratio" in quantity.split(" of ")[0].split()


def unit_of(quantity: str) -> str:
    """Return the unit of a quantity's axis: percent or points of shares, milliseconds of times, '' of plain numbers."""
    if is_ratio(quantity):
        return "1 = no difference"
    if is_share(quantity):
        return "percentage points" if is_difference(quantity) else "%"
    return "ms" if quantity.startswith("response time") else ""


def axis_title(quantity: str) -> str:
    """Write a quantity with its unit as the title of an axis."""
    unit = unit_of(quantity)
    return f"{quantity[:1].upper()}{quantity[1:]}" + (f" ({unit})" if unit else "")


def is_difference(quantity: str) -> bool:
    """Say whether a quantity is a gap, whose zero means no difference."""
    return bool(
        {"difference", "above", "minus", "less", "slope", "bias", "order"} & set(quantity.replace(",", "").split())
    )


def drawable(items: Sequence[Estimate]) -> list[Estimate]:
    """Keep the estimates that have a finite value."""
    return [item for item in items if np.isfinite(item.value)]


def needed(result: Result, quantity: str) -> list[Estimate]:
    """Return the finite estimates of a quantity.

    Raises
    ------
    LimenError
        If the result has none.
    """
    found = drawable(result.of(quantity))
    if not found:
        have = ", ".join(dict.fromkeys(item.quantity for item in drawable(result.estimates))) or "nothing"
        raise LimenError(f"figure of '{result.name}': no estimate of '{quantity}'; the result has {have}.")
    return found


def raw_points(result: Result, points: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return raw points with columns `label` and `value` (and perhaps `quantity`); empty where there are none.

    A column `condition` stands for `label`, and `accuracy` or `median_ms` for `value`, as in the points that analyses give;
    then the points stand behind quantities of accuracy, or of response time, alone.
    """
    table = result.points if points is None else points
    if table is None:
        return pd.DataFrame({"label": [], "value": []})
    if "label" not in table.columns:
        table = table.rename(columns={"condition": "label"})
    if "value" not in table.columns:
        for column, kind in KINDS.items():
            if column in table.columns:
                table = table.rename(columns={column: "value"}).assign(kind=kind)
                break
    if not {"label", "value"} <= set(table.columns):
        return pd.DataFrame({"label": [], "value": []})
    return table


def points_behind(table: pd.DataFrame, item: Estimate) -> np.ndarray:
    """Return the finite raw values behind one estimate, (n,)."""
    mine = table["label"].astype(str) == item.label
    if "kind" in table.columns and not item.quantity.startswith(str(table["kind"].iloc[0]) if len(table) else ""):
        return np.empty(0)
    if "quantity" in table.columns:
        mine &= table["quantity"] == item.quantity
    values = table.loc[mine, "value"].to_numpy(dtype=float)
    return np.asarray(values[np.isfinite(values)])


def strip(axes: Axes, values: np.ndarray, row: float, colour: str, *, room: float = 0.26) -> None:
    """Stack raw values as small dots below a row; equal values (to three decimals) stand side by side."""
    levels, which, counts = np.unique(np.round(values, 3), return_inverse=True, return_counts=True)
    if not len(levels):
        return
    step = min(0.055, room / int(counts.max()))
    order = np.argsort(which, kind="stable")
    heights = np.concatenate([np.arange(count) for count in counts])
    axes.scatter(levels[which[order]], row + step * heights, s=8, color=colour, alpha=0.7, lw=0, zorder=3)


def mark(axes: Axes, item: Estimate, row: float, style: tuple[str, str], *, hollow: bool = False) -> None:
    """Draw one estimate with its interval, where it has one, on a row."""
    colour, marker = style
    if np.isfinite(item.low) and np.isfinite(item.high):
        axes.plot([item.low, item.high], [row, row], color=INK, lw=1.7, solid_capstyle="butt", zorder=4)
    axes.plot(
        item.value, row, marker=marker, ms=6.5, mfc=PAPER if hollow else colour, mec=INK, mew=1.1, ls="none", zorder=5
    )


def digits_of(value: float) -> int:
    """Return how many decimals a number of its size needs."""
    return 2 if not abs(value) >= 100 else 0


def bounds(item: Estimate, *, percent: bool) -> str:
    """Write an interval, in percent where asked; 'no interval' where there is none."""
    if not np.isfinite(item.low) or not np.isfinite(item.high):
        return "no interval"
    return (
        write.interval(item.low, item.high, 1, scale=100)
        if percent
        else write.interval(item.low, item.high, digits_of(item.value))
    )


def aside(axes: Axes, row: float, text: str, *, size: float = 8.0) -> None:
    """Write a line beside a row, right of the panel."""
    axes.text(
        ASIDE, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=size, linespacing=1.35
    )


def vertical(axes: Axes, value: float, label: str, top: float) -> None:
    """Draw a dotted reference line with its name above the rows."""
    axes.axvline(value, color=MUTED, lw=1.3, ls=(0, (1, 1.6)), zorder=1)
    axes.text(value, top, label, color=MUTED, fontsize=7.5, ha="center", va="bottom")


def in_percent(axes: Axes, *, percent: bool) -> None:
    """Write the horizontal axis in percent where the values are shares."""
    if percent:
        axes.xaxis.set_major_formatter(PERCENT)


def span(items: Sequence[Estimate], *further: float, raw: np.ndarray | None = None) -> tuple[float, float]:
    """Return limits that hold every value, interval, raw point and reference line, with a little room."""
    ends: list[float] = [value for item in items for value in (item.low, item.high, item.value) if np.isfinite(value)]
    ends += [value for value in further if np.isfinite(value)]
    if raw is not None and len(raw):
        ends += [float(raw.min()), float(raw.max())]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def told(items: Sequence[Estimate], text: Callable[[Estimate], str]) -> str:
    """Write the estimates as one sentence of an alternative text."""
    return "; ".join(f"{item.label} {text(item)}" for item in items)


def described(item: Estimate, *, percent: bool) -> str:
    """Write value, interval and n of one estimate."""
    value = write.percent(item.value) if percent else write.number(item.value, digits_of(item.value))
    return f"{value} {bounds(item, percent=percent)}, n = {item.n:,} {item.unit}"


def named(name: Any) -> str:
    """Turn a name into what may stand in a file name and an id."""
    return "".join(letter if letter.isalnum() else "_" for letter in str(name)).strip("_").lower()
