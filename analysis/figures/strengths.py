"""How strongly alternatives are preferred, strongest first, beside even preference and the raw shares of choices won."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import format as write
from ..results import Result
from .picture import Picture, render
from .rows import aside, bounds, described, drawable, in_percent, mark, named, needed, span, told, vertical
from .style import INK, PALETTE, PAPER, RC, WIDTH, rows_only


def strengths(result: Result, quantity: str = "preference", *, title: str = "Preference") -> Picture:
    """Draw Bradley-Terry strengths as probabilities to be chosen over an even mixture of all, with the raw shares.

    Parameters
    ----------
    result : Result
        Estimates of `quantity` (chance is `extra['null']`, .5 where it is not given), perhaps of 'share'.

    Raises
    ------
    LimenError
        If the result has no finite estimate of the quantity.
    """
    items = sorted(needed(result, quantity), key=lambda item: -item.value)
    raw = {item.label: item for item in drawable(result.of("share"))}
    chance = float(items[0].extra.get("null", 0.5))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, 0.46 * len(items) + 1.2), layout="constrained")
        axes = figure.subplots()
        for row, item in enumerate(items):
            mark(axes, item, row, (PALETTE[0], "o"))
            if item.label in raw:
                axes.plot(
                    raw[item.label].value,
                    row + 0.24,
                    marker="D",
                    ms=4.2,
                    mfc=PAPER,
                    mec=INK,
                    mew=0.9,
                    ls="none",
                    zorder=6,
                )
            value = f"{write.percent(item.value)}  {bounds(item, percent=True)}"
            aside(axes, row, f"{value}\nn = {item.n:,} {item.unit}")
        axes.set(ylim=(len(items) - 0.4, -0.7), xlim=span(items, chance, *(one.value for one in raw.values())))
        vertical(axes, chance, f"chance {write.percent(chance, 0)}", -0.72)
        axes.set_yticks(range(len(items)), [item.label for item in items])
        axes.set_xlabel("Chosen over an even mixture of all (%), 95 % interval")
        in_percent(axes, percent=True)
        rows_only(axes)
        if raw:
            handles = [
                Line2D([], [], marker="o", color=PALETTE[0], mec=INK, ls="none", ms=6.5, label="Bradley-Terry"),
                Line2D([], [], marker="D", mfc=PAPER, mec=INK, ls="none", ms=4.2, label="raw share of its choices"),
            ]
            figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, handletextpad=0.3)
    alt = f"{title}: " + told(items, lambda item: described(item, percent=True))
    return render(figure, f"{named(result.name)}_{named(quantity)}", title, alt)
