"""What every picture of a report shares: colours any colour vision tells apart, and its bytes for page and archive."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#1d2329", "#5f6872", "#d8dde2", "#ffffff"
BASE = "#7b8490"
# Okabe and Ito's colours, darker ones first; their yellow is too light for white and gives way to a purple.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b2a6e")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
WIDTH = 7.0
"""Inches; a page shows a figure at the width of its text."""
THEME = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    BASE: "var(--base, #7b8490)",
}
THEME |= {colour: f"var(--series-{place}, {colour})" for place, colour in enumerate(PALETTE, start=1)}
RC: dict[Any, Any] = {
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as bytes: `svg` for archives, `inline` for the page (its colours follow the page's theme), `png`."""

    name: str
    title: str
    alt: str
    svg: str
    inline: str
    png: bytes


def render(figure: Figure, name: str, title: str, alt: str) -> Picture:
    """Draw a figure into the three forms of a picture; `name` also makes its ids its own on a page."""
    FigureCanvasAgg(figure)
    with matplotlib.rc_context({**RC, "svg.hashsalt": f"limen-{name}"}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=180, facecolor=PAPER, metadata={"Software": None})
    svg = text.getvalue()
    return Picture(name=name, title=title, alt=alt, svg=svg, inline=_inline(svg, name), png=data.getvalue())


def anchor(name: str) -> str:
    """Turn a picture's name into what may stand in an id and in a link to it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _inline(svg: str, name: str) -> str:
    """Make an SVG ready to stand in a page: no prologue, ids of its own, colours from the page's theme."""
    body, name = svg[svg.index("<svg") :], anchor(name)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, variable in THEME.items():
        # Only colours of the style: bytes of a picture inside the figure stay as they are.
        body = re.sub(rf"((?:fill|stroke|stop-color): ){colour}\b", rf"\1{variable}", body)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]+"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", body, count=1), count=1
    )
