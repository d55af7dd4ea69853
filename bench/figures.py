"""The figures of a bench report: one function a figure, artifacts in, a matplotlib figure out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .api import bootstrap
from .overlay import enlarge, overlay, span
from .picture import GRID, INK, MUTED, PALETTE, PAPER
from .records import Score, columns
from .store import Artifact

GREY, BAND = MUTED, GRID
SHOWN = 6
DRAWN = 192
"""Pixels a side of a drawn picture."""
HEADING = 15
"""Letters that fit above a map."""
PERCENTILE = 99.0
"""Of a map's values, drawn at full strength; as in studies, so that a reader sees what participants see."""


def explanations(images: Artifact, predictions: Artifact, maps: Mapping[str, Artifact]) -> Figure:
    """Draw a few images of a run beside their maps; images of every group are shown."""
    rows = images.rows().merge(predictions.rows(), on="image_id", suffixes=("", "_predicted"))
    chosen = _spread(rows, SHOWN)
    pictures = images.tensors("pictures.safetensors")["pictures"][chosen]
    part = rows.iloc[chosen]
    names = [
        f"{row['predicted_class']!s} ({row['probability']:.2f})\n{row['group'] or ('right' if row['correct'] else 'wrong')}"
        for _, row in part.iterrows()
    ]
    drawn = {name: artifact.tensors("maps.safetensors")["maps"][chosen] for name, artifact in maps.items()}
    return side_by_side(pictures, names, drawn)


def _spread(rows: pd.DataFrame, count: int) -> list[int]:
    """Pick positions round robin over (group, answered class), in image order."""
    queues = [list(part.index) for _, part in rows.reset_index(drop=True).groupby(["group", "predicted_class"])]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def side_by_side(pictures: np.ndarray, names: Sequence[str], maps: Mapping[str, np.ndarray]) -> Figure:
    """Draw each picture (rows) beside its map by each method (columns).

    Parameters
    ----------
    pictures : uint8 (N, H, W, 3)
    names : N labels, drawn left of the pictures
    maps : method -> float (N, H, W)
    """
    height, width = len(pictures), 1 + len(maps)
    figure = Figure(figsize=(1.15 * width + 1.1, 1.15 * height + 0.45), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False)
    for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        _bare(grid[row][0])
        grid[row][0].imshow(enlarge(picture, DRAWN))
        grid[row][0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK)
        for column, values in enumerate(maps.values(), start=1):
            positive = np.maximum(values[row], 0)
            _bare(grid[row][column])
            grid[row][column].imshow(overlay(picture, positive, span(positive, PERCENTILE), DRAWN))
    for column, name in enumerate(["image", *maps]):
        grid[0][column].set_title(_heading(name), fontsize=8, color=INK)
    return figure


def _heading(name: str) -> str:
    """Break a method's name to the width of its column: before a bracket, and where it is long after the middle-most '_'."""
    lines = []
    for line in name.replace(" (", "\n(").split("\n"):
        breaks = [place + 1 for place, letter in enumerate(line) if letter == "_"]
        if len(line) > HEADING and breaks:
            middle = min(breaks, key=lambda place: max(place, len(line) - place))
            lines += [line[:middle], line[middle:]]
        else:
            lines.append(line)
    return "\n".join(lines)


def visuals(pictures: np.ndarray, opacity: np.ndarray, captions: Sequence[str]) -> Figure:
    """Draw made pictures (n, S, S, 3) in 0 .. 1 above the same where they matter (opacity (n, S, S))."""
    columns = min(len(pictures), 6)
    bands = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.4, 4.15 * bands), layout="constrained")
    axes = figure.subplots(2 * bands, columns, squeeze=False)
    for axis in axes.ravel():
        _bare(axis)
    for index, caption in enumerate(captions):
        band, column = divmod(index, columns)
        faded = opacity[index][..., None]
        axes[2 * band, column].imshow(pictures[index])
        axes[2 * band, column].set_title(caption, fontsize=8, color=INK)
        axes[2 * band + 1, column].imshow(pictures[index] * faded + 0.94 * (1 - faded))
    for band in range(bands):
        axes[2 * band, 0].set_ylabel("picture", fontsize=8, color=INK)
        axes[2 * band + 1, 0].set_ylabel("where it matters", fontsize=8, color=INK)
    return figure


def by_group(images: Artifact, artifacts: Mapping[str, Artifact], label: str, reference: str) -> Figure:
    """Draw one metric of each method, split by the image set's groups, beside a reference column of its rows.

    Parameters
    ----------
    images : the run's images
    artifacts : method -> its scores
    label : name of the horizontal axis
    reference : column of the score rows drawn as a dashed line (what a random map gets)
    """
    groups = images.rows().set_index("image_id")["group"]
    names = [name for name in dict.fromkeys(groups) if name] or [""]
    figure = Figure(figsize=(6.6, 0.34 * len(artifacts) * max(1, len(names) * 0.7) + 1.2), layout="constrained")
    axis = figure.subplots()
    tables = [artifact.rows() for artifact in artifacts.values()]
    for index, group in enumerate(names):
        offset = (index - (len(names) - 1) / 2) * 0.26
        kept = [table["value"][table["sample"].map(groups) == group].to_numpy() for table in tables]
        _points(axis, kept, offset, PALETTE[index], f"{group or 'all'} images (n = {len(kept[0])})")
    axis.axvline(tables[0][reference].mean(), color=GREY, linestyle="--", linewidth=1, zorder=0)
    axis.set_yticks(range(len(artifacts)), list(artifacts), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(label, fontsize=8)
    axis.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    frame_axes(axis)
    return figure


def _points(axis: Axes, samples: Sequence[np.ndarray], offset: float, colour: str, label: str) -> None:
    for row, values in enumerate(samples):
        mean = bootstrap(values)
        axis.plot([mean.low, mean.high], [row + offset] * 2, color=colour, linewidth=1.6)
        axis.plot(mean.mean, row + offset, "o", color=colour, markersize=4.5, label=label if row == 0 else None)


def scores(table: pd.DataFrame) -> Figure:
    """Draw every score with its interval over the band of its null; a row a subject and layer, a panel a metric."""
    strips = []
    for (_, layer), part in table.groupby(["subject", "layer"], sort=False):
        metrics = list(dict.fromkeys(part["metric"]))
        strips += [(layer, part, metrics[start : start + 3]) for start in range(0, len(metrics), 3)]
    width = max(len(metrics) for _, _, metrics in strips)
    heights = [0.24 * part["method"].nunique() + 0.75 for _, part, _ in strips]
    figure = Figure(figsize=(1.4 + 2.5 * width, sum(heights)), layout="constrained")
    grid = figure.subplots(len(strips), width, squeeze=False, gridspec_kw={"height_ratios": heights})
    for line, (layer, part, metrics) in zip(grid, strips, strict=True):
        for axis in line[len(metrics) :]:
            axis.set_visible(False)
        for column, (axis, metric) in enumerate(zip(line, metrics, strict=False)):
            title = f"{metric} @ {layer}" if layer else metric
            _score_panel(axis, part[part["metric"] == metric], title, named=column == 0)
    return figure


def _score_panel(axis: Axes, part: pd.DataFrame, title: str, *, named: bool) -> None:
    rows = [Score(**{name: row[name] for name in columns(Score)}) for _, row in part.iterrows()]
    for index, row in enumerate(rows):
        # A row's own null: dictionaries of different sizes have different chance floors.
        axis.fill_betweenx([index - 0.5, index + 0.5], row.null_low, row.null_high, color=BAND, linewidth=0, zorder=0)
        axis.plot([row.null] * 2, [index - 0.5, index + 0.5], color=GREY, linewidth=1, linestyle="--", zorder=1)
        axis.plot([row.low, row.high], [index, index], color=PALETTE[0], linewidth=1.6)
        face = PAPER if row.at_null else PALETTE[0]
        axis.plot(row.value, index, "o", color=PALETTE[0], markerfacecolor=face, markersize=5)
        if np.isfinite(row.ceiling):
            axis.plot(row.ceiling, index, "|", color=PALETTE[2], markersize=9, markeredgewidth=1.8)
    axis.set_yticks(range(len(rows)), [row.method for row in rows] if named else [""] * len(rows), fontsize=7)
    axis.invert_yaxis()
    better = {"up": "higher is better", "down": "lower is better", "none": "no direction"}[rows[0].direction]
    axis.set_title(f"{title}\n{better}, n = {rows[0].n}", fontsize=8, color=INK, loc="left")
    frame_axes(axis)


def curves(artifacts: Mapping[str, Artifact], metric: str) -> Figure:
    """Draw the mean curve of each method for deletion or insertion."""
    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axis = figure.subplots()
    styles = ("-", "--", "-.", ":")
    for index, (name, artifact) in enumerate(artifacts.items()):
        found = artifact.tensors("curves.safetensors")
        is_control = name.startswith("random")
        axis.plot(
            100 * found["x"],
            found["y"].mean(0),
            color=GREY if is_control else PALETTE[index % len(PALETTE)],
            linestyle=":" if is_control else styles[index // len(PALETTE) % len(styles)],
            linewidth=2 if is_control else 1.6,
            label=name,
        )
    verb = {"deletion": "removed", "insertion": "inserted"}[metric]
    axis.set_xlabel(f"pixels {verb}, most important first (%)", fontsize=8)
    axis.set_ylabel("probability of the answer", fontsize=8)
    axis.set_xlim(0, 100)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    frame_axes(axis)
    return figure


def concepts(artifacts: Mapping[str, Artifact], atoms: int = 6) -> Figure:
    """Draw the top crops of the first atoms of each dictionary, one row an atom."""
    crops = {
        re.sub(r" seed 0$", "", name): artifact.tensors("crops.safetensors")["crops"][:atoms]
        for name, artifact in artifacts.items()
    }
    rows = max(len(found) for found in crops.values())
    places = next(iter(crops.values())).shape[1]
    figure = Figure(figsize=((0.42 * places + 0.5) * len(crops), 0.42 * rows + 0.45), layout="constrained")
    grid = figure.subplots(1, len(crops), squeeze=False)[0]
    for axis, (name, found) in zip(grid, crops.items(), strict=True):
        axis.imshow(_mosaic(found, places), interpolation="bilinear")
        axis.set_title(name, fontsize=8, color=INK, loc="left")
        side = found.shape[2] + 2
        middles = [side * (row + 0.5) for row in range(len(found))]
        axis.set_yticks(middles, [f"atom {row}" for row in range(len(found))], fontsize=6)
        axis.set_xticks([])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def _mosaic(crops: np.ndarray, places: int) -> np.ndarray:
    atoms, _, height, width, _ = crops.shape
    canvas = np.full((atoms * (height + 2), places * (width + 2), 3), 255, dtype=np.uint8)
    for row in range(atoms):
        for column in range(places):
            top, left = row * (height + 2), column * (width + 2)
            canvas[top : top + height, left : left + width] = crops[row, column]
    return canvas


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def frame_axes(axis: Axes) -> None:
    """Leave the two axes that are read, in grey, with small figures."""
    axis.tick_params(labelsize=7, colors=INK)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)
