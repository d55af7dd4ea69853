"""Methods beside each other: what a score costs, and which methods a metric can tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .concept_figures import Look, looks_of
from .figures import frame_axes
from .picture import BASE, GRID, INK, MUTED, WIDTH
from .rankings import FEWEST, CriticalDifference, critical_difference

CONTROL = "random"
"""How the names of controls begin."""
_COLUMNS = 3


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on the samples of one metric."""

    metric: str
    direction: str
    found: CriticalDifference


def cost_against_score(table: pd.DataFrame) -> Figure:
    """Draw each method's score over its cost, a panel a metric that has a direction; the line joins the best for their cost.

    The cost is the network's passes, forwards and backwards together, where most methods have any, and else the seconds.

    Parameters
    ----------
    table : DataFrame of `Score` rows of one subject, network and layer
    """
    names = list(dict.fromkeys(table["method"]))
    passes = table["forwards"] + table["backwards"]
    counted = bool((passes > 0).mean() > 0.5)
    cost = (passes if counted else table["seconds"]).astype(float)
    rows = table.assign(cost=cost)[table["direction"] != "none"]
    metrics = list(dict.fromkeys(rows["metric"]))
    columns = 2 if len(metrics) == 4 else min(_COLUMNS, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(
        figsize=(max(WIDTH, 2.75 * columns), 2.45 * lines + 0.22 * -(-len(names) // 5)), layout="constrained"
    )
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    looks = {name: Look(BASE, "x", ":") if name.startswith(CONTROL) else look for name, look in looks_of(names).items()}
    for axis in grid[len(metrics) :]:
        axis.set_visible(False)
    for axis, metric in zip(grid, metrics, strict=False):
        _cost_panel(axis, rows[rows["metric"] == metric], looks, counted=counted)
    what = "network passes, forwards and backwards" if counted else "seconds"
    figure.supxlabel(f"Cost: {what} (log scale)", fontsize=8)
    handles = [grid[0].plot([], [], look.marker, color=look.colour, markersize=5)[0] for look in looks.values()]
    figure.legend(handles, list(looks), fontsize=7, frameon=False, loc="outside upper left", ncols=5)
    return figure


def _cost_panel(axis: Axes, rows: pd.DataFrame, looks: Mapping[str, Look], *, counted: bool) -> None:
    direction = str(rows["direction"].iloc[0])
    _nulls(axis, rows)
    front = _front(rows["cost"].to_numpy(), rows["value"].to_numpy(), up=direction == "up")
    axis.step(rows["cost"].to_numpy()[front], rows["value"].to_numpy()[front], where="post", color=MUTED, linewidth=0.8)
    row: Any
    for row in rows.itertuples():
        look = looks[str(row.method)]
        axis.plot([row.cost] * 2, [row.low, row.high], color=look.colour, linewidth=1.1, alpha=0.7)
        axis.plot(row.cost, row.value, look.marker, color=look.colour, markersize=5, zorder=4)
    axis.set_xscale("symlog" if counted else "log", **({"linthresh": 1.0} if counted else {}))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    arrow = {"up": "higher is better", "down": "lower is better"}[direction]
    axis.set_title(
        f"{rows['metric'].iloc[0]}\n{arrow}, n = {rows['n'].iloc[0]}", fontsize=8, color=INK, fontweight="normal"
    )
    axis.grid(color=GRID, linewidth=0.5)
    axis.set_axisbelow(True)
    frame_axes(axis)


def _nulls(axis: Axes, rows: pd.DataFrame) -> None:
    """Draw the null all methods share as a line in its band; where each has its own, a dash at each method's cost."""
    if rows["null"].nunique() > 1:
        axis.plot(rows["cost"], rows["null"], "_", color=MUTED, markersize=11, zorder=1)
        return
    low, high = float(rows["null_low"].min()), float(rows["null_high"].max())
    axis.fill_between([0, 1], low, high, color=GRID, linewidth=0, transform=axis.get_yaxis_transform())
    axis.axhline(float(rows["null"].mean()), color=MUTED, linewidth=0.9, linestyle="--", zorder=1)


def _front(cost: np.ndarray, value: np.ndarray, *, up: bool) -> list[int]:
    """Return the places that no cheaper or equally dear method beats, by rising cost."""
    best, kept = -np.inf, []
    for place in np.lexsort((-value if up else value, cost)).tolist():
        gain = float(value[place] if up else -value[place])
        if np.isfinite(gain) and gain > best:
            kept.append(place)
            best = gain
    return kept


def rank(metric: str, direction: str, samples: Mapping[str, pd.Series]) -> Ranking | None:
    """Rank methods on each sample; None where fewer than 3 methods or 6 samples that all methods have a value of.

    Parameters
    ----------
    samples : method -> values, indexed by sample
    """
    table = pd.DataFrame(dict(samples)).replace([np.inf, -np.inf], np.nan).dropna()
    if len(table) < FEWEST or table.shape[1] < 3 or direction == "none":
        return None
    return Ranking(metric, direction, critical_difference(table, higher_is_better=direction == "up"))


def critical_differences(rankings: Sequence[Ranking]) -> Figure:
    """Draw the mean rank of each method, a panel a metric; a bar joins methods that cannot be told apart.

    Parameters
    ----------
    rankings : at least one
    """
    heights = [0.17 * -(-len(one.found.ranks) // 2) + 0.13 * len(one.found.cliques) + 0.92 for one in rankings]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(rankings), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, one, height in zip(panels, rankings, heights, strict=True):
        _rank_panel(axis, one, height)
    return figure


def _rank_panel(axis: Axes, one: Ranking, height: float) -> None:
    """Draw a scale of ranks, names to both sides below it, and the bars between; lengths are in inches of the panel."""
    ranks, count = one.found.ranks, len(one.found.ranks)
    axis.set(xlim=(0.5 - 0.36 * count, count + 0.5 + 0.36 * count), ylim=(-(height - 0.5), 0.16))
    axis.axis("off")
    axis.plot([1, count], [0, 0], color=MUTED, linewidth=0.9)
    for place in range(1, count + 1):
        axis.plot([place, place], [0, 0.05], color=MUTED, linewidth=0.9)
        axis.text(place, 0.07, str(place), ha="center", va="bottom", fontsize=7, color=MUTED)
    start = 0.12 + 0.13 * len(one.found.cliques)
    half = -(-count // 2)
    for index, (name, value) in enumerate(ranks.items()):
        left = index < half
        # Half a line lower to the right, so that the two innermost methods do not meet in one line.
        depth = -(start + 0.17 * (index if left else count - 0.5 - index))
        end = 0.75 if left else count + 0.25
        colour = BASE if str(name).startswith(CONTROL) else INK
        axis.plot([value, value, end], [0, depth, depth], color=colour, linewidth=0.9)
        text = f"{name}  {value:.1f}" if left else f"{value:.1f}  {name}"
        axis.text(
            end - 0.08 if left else end + 0.08,
            depth,
            text,
            ha="right" if left else "left",
            va="center",
            fontsize=7.5,
            color=INK,
        )
    for level, clique in enumerate(one.found.cliques):
        ends = [float(ranks[name]) for name in (clique[0], clique[-1])]
        depth = -(0.1 + 0.13 * level)
        axis.plot([ends[0] - 0.06, ends[1] + 0.06], [depth, depth], color=INK, linewidth=3, solid_capstyle="butt")
    p = "p < .001" if one.found.chi2_p < 0.001 else f"p = {one.found.chi2_p:.3f}".replace("0.", ".", 1)
    axis.set_title(
        f"{one.metric}: mean rank, 1 is best. Friedman χ²({count - 1}) = {one.found.chi2:.1f}, {p}; n = {one.found.datasets} images",
        fontsize=8, color=INK, fontweight="normal",
    )  # fmt: skip


def rank_rows(rankings: Sequence[Ranking]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean ranks (metric, method, mean_rank, n, friedman_chi2, friedman_p) and all pairs with their p values."""
    ranks = [
        {
            "metric": one.metric, "method": name, "mean_rank": float(value), "n": one.found.datasets,
            "friedman_chi2": one.found.chi2, "friedman_p": one.found.chi2_p,
        }
        for one in rankings
        for name, value in one.found.ranks.items()
    ]  # fmt: skip
    pairs = [one.found.pairs.assign(metric=one.metric) for one in rankings]
    return pd.DataFrame(ranks), pd.concat(pairs, ignore_index=True)[["metric", "first", "second", "p", "p_holm"]]
