"""Two quantities of each group in one plane: a point an item, the groups' means with both intervals."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from ..results import Estimate, Result
from .picture import Picture, render
from .rows import described, drawable, named
from .style import GRID, INK, MARKERS, MUTED, PALETTE, PERCENT, RC, WIDTH

PLANE = ("diversity", "recognisability")
"""Quantities of the two axes, and columns of the points."""


def shows_plane(result: Result) -> bool:
    """Whether a result has estimates and points of both quantities."""
    points = result.points
    return (
        points is not None and {"condition", *PLANE} <= set(points) and all(drawable(result.of(one)) for one in PLANE)
    )


def plane(result: Result, *, title: str = "Recognisability and diversity") -> Picture:
    """Draw every group in the plane of diversity (across) and recognisability (up).

    Parameters
    ----------
    result : Result
        Estimates of both quantities, labels the groups; points with the columns `condition`, `diversity`,
        `recognisability`, one row a group and item, and `people` (False draws the group hollow).
    """
    points = result.points
    assert points is not None
    across, up = ({item.label: item for item in drawable(result.of(name))} for name in PLANE)
    groups = [label for label in across if label in up]
    hollow = set() if "people" not in points else set(points.loc[~points["people"].astype(bool), "condition"])
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        chance = result.facts.get("chance")
        if isinstance(chance, float):
            axes.axhline(chance, color=MUTED, lw=0.9, ls=(0, (1, 2)))
            axes.text(
                1.01, chance, "chance", transform=axes.get_yaxis_transform(), color=MUTED, fontsize=7.5, va="center"
            )
        for index, label in enumerate(groups):
            colour, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
            mine = points[points["condition"] == label]
            axes.scatter(mine[PLANE[0]], mine[PLANE[1]], s=9, color=colour, alpha=0.35, lw=0, marker=marker, zorder=2)
            x, y = across[label], up[label]
            axes.errorbar(
                x.value, y.value, xerr=_reach(x), yerr=_reach(y), color=colour, marker=marker, ms=8, lw=1.4,
                mfc="none" if label in hollow else colour, mec=colour if label in hollow else INK, mew=1.2, zorder=4,
                label=f"{label} (n = {y.n:,} {y.unit})",
            )  # fmt: skip
        axes.set(
            xlabel="Diversity (standard deviation within a category)", ylabel="Recognisability (%)", ylim=(-0.03, 1.05)
        )
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(color=GRID, lw=0.5)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=min(2, len(groups)), frameon=False, handlelength=1.4, fontsize=8)
    alt = f"{title}: " + "; ".join(
        f"{label}, recognisability {described(up[label], percent=True)}, diversity {described(across[label], percent=False)}"
        for label in groups
    )
    return render(figure, f"{named(result.name)}_plane", title, alt)


def _reach(item: Estimate) -> list[list[float]]:
    """Return how far the interval reaches to both sides; nothing where there is none."""
    return [[max(0.0, item.value - item.low)], [max(0.0, item.high - item.value)]]
