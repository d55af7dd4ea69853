"""The leaderboard of a run: methods ranked beside their nulls, in the terminal and as tidy text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

ARROWS = {"up": "↑", "down": "↓", "none": ""}
_RANK_AND_SECONDS = 12
"""Columns of the terminal that rank and seconds take."""


def number(value: float) -> str:
    """Format a score: three decimals, fewer from 10 on, a true minus sign, 'n/a' for NaN."""
    if not math.isfinite(value):
        return "n/a"
    decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:.{decimals}f}".replace("-", "−")


def boards(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split a run's table into one leaderboard per subject, network and layer, best mean rank first."""
    found = []
    for (subject, network, layer), part in table.groupby(["subject", "network", "layer"], sort=False):
        place = f"{network}, {layer}" if layer else network
        found.append(
            (f"{str(subject).capitalize()} methods · {place} · images: {part['images'].iloc[0]}", _ranked(part))
        )
    return found


def _ranked(part: pd.DataFrame) -> pd.DataFrame:
    """Order methods by their mean rank over the metrics that have a direction."""
    ranks: dict[str, list[float]] = {}
    for _, column in part[part["direction"] != "none"].groupby("metric"):
        place = column["value"].rank(ascending=column["direction"].iloc[0] == "down")
        for method, rank in zip(column["method"], place, strict=True):
            ranks.setdefault(method, []).append(float(rank))
    mean = {method: float(np.nanmean(found)) for method, found in ranks.items()}
    ordered = part.assign(rank=part["method"].map(mean).astype(float))
    return ordered.sort_values(["rank", "method"], kind="stable", na_position="last")


def print_leaderboard(table: pd.DataFrame, *, wide: bool | None = None) -> None:
    """Print one leaderboard per subject: value, 95 % interval, and a mark where a score is at its null."""
    console = Console(width=140 if wide else None)
    for title, part in boards(table):
        metrics = list(dict.fromkeys(part["metric"]))
        show_interval = wide if wide is not None else console.width >= 34 + 23 * len(metrics)
        for index, some in enumerate([metrics] if show_interval else _fitting(part, metrics, console.width)):
            console.print(_board(title if index == 0 else f"{title} (continued)", part, some, show_interval))
            console.print()
    console.print(
        "○ the 95 % interval of (score − null) holds 0: cannot be told from chance. null: the same metric on random "
        "maps or random dictionaries. Rank: mean over metrics with a direction. n and intervals: `limen bench table`.",
        style="dim",
    )


def _fitting(part: pd.DataFrame, metrics: Sequence[str], width: int) -> list[list[str]]:
    """Cut the metrics into boards that are no wider than the terminal: a number is never broken."""
    room = width - max(len(str(method)) for method in part["method"]) - _RANK_AND_SECONDS
    boards, used = [list[str]()], 0
    for metric in metrics:
        wanted = _width(metric) + 1
        if boards[-1] and used + wanted > room:
            boards.append([])
            used = 0
        boards[-1].append(metric)
        used += wanted
    return boards


def _width(metric: str) -> int:
    """Return how wide a metric's column must be at least: a number and its mark, and the longest word of the heading."""
    *first, last = metric.split("_")
    return max(len("0.000 ○"), len(last), *(len(word) + 1 for word in first))


def _board(title: str, part: pd.DataFrame, metrics: Sequence[str], show_interval: bool) -> Table:
    grid = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        pad_edge=False,
        box=None,
        collapse_padding=not show_interval,
    )
    grid.add_column("method", no_wrap=True)
    for metric in metrics:
        arrow = ARROWS[part.loc[part["metric"] == metric, "direction"].iloc[0]]
        # Narrow columns break at underscores, not within words.
        heading = f"{metric} {arrow}" if show_interval else metric.replace("_", "_\n") + f"\n{arrow}"
        least = None if show_interval else _width(metric)
        grid.add_column(heading.strip(), justify="right", overflow="fold", min_width=least)
    grid.add_column("rank", justify="right")
    grid.add_column("s", justify="right")
    for method in dict.fromkeys(part["method"]):
        rows = part[part["method"] == method].set_index("metric")
        cells = [_value(rows.loc[metric], show_interval) if metric in rows.index else Text("") for metric in metrics]
        first = rows.iloc[0]
        rank = f"{first['rank']:.1f}" if math.isfinite(first["rank"]) else ""
        grid.add_row(Text(method), *cells, rank, f"{first['seconds']:.1f}")
    grid.add_section()
    grid.add_row(Text("null", style="dim"), *[_reference(part, metric, "null", show_interval) for metric in metrics])
    if part["ceiling"].notna().any():
        tops = [_reference(part, metric, "ceiling", False) for metric in metrics]
        grid.add_row(Text("ceiling", style="dim"), *tops)
    counts = [str(int(part.loc[part["metric"] == metric, "n"].iloc[0])) for metric in metrics]
    grid.add_row(Text("n", style="dim"), *[Text(count, style="dim") for count in counts])
    return grid


def _value(row: Any, show_interval: bool) -> Text:
    mark = " ○" if row["at_null"] else "  "
    text = Text(number(row["value"]), style="dim" if row["at_null"] else "bold")
    if show_interval:
        text.append(f" [{number(row['low'])}, {number(row['high'])}]", style="dim")
    text.append(mark)
    return text


def _reference(part: pd.DataFrame, metric: str, name: str, show_interval: bool) -> Text:
    rows = part[part["metric"] == metric]
    text = span_of(rows[name])
    if show_interval and text and rows[name].nunique() == 1:
        text += f" [{number(rows['null_low'].iloc[0])}, {number(rows['null_high'].iloc[0])}]"
    return Text(text + "  ", style="dim")


def span_of(values: pd.Series) -> str:
    """Format one value, or the range where methods differ (dictionaries of other sizes have other chance floors)."""
    finite = values[np.isfinite(values)]
    if finite.empty:
        return ""
    low, high = number(finite.min()), number(finite.max())
    return low if low == high else f"{low} to {high}"


def format_table(table: pd.DataFrame, style: str) -> str:
    """Render the tidy `Score` table as csv, json, latex or md, at full precision for csv and json."""
    if style == "csv":
        return table.to_csv(index=False)
    if style == "json":
        return table.to_json(orient="records", indent=2) + "\n"
    short = table[["network", "layer", "method", "metric", "direction", "value", "low", "high", "null", "gain", "n"]]
    rows = [
        [number(cell) if isinstance(cell, float) else str(cell) for cell in row]
        for row in short.itertuples(index=False)
    ]
    if style == "md":
        lines = [list(short.columns), ["---"] * len(short.columns), *rows]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)
    body = " \\\\\n".join(" & ".join(cell.replace("_", r"\_").replace("−", "$-$") for cell in row) for row in rows)
    heads = " & ".join(column.replace("_", r"\_") for column in short.columns)
    aligned = "l" * 5 + "r" * 6
    return f"\\begin{{tabular}}{{{aligned}}}\n\\hline\n{heads} \\\\\n\\hline\n{body} \\\\\n\\hline\n\\end{{tabular}}\n"
