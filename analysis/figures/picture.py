"""A figure as bytes: SVG for archives, SVG for the page in the colours of its theme, PNG; the same bytes for the same input."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .style import PAPER, RC, THEME


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


def _inline(svg: str, name: str) -> str:
    """Make an SVG ready to stand in a page: no prologue, ids of its own, colours from the page's theme."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    for colour, variable in THEME.items():
        body = body.replace(colour, variable)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]+"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", body, count=1), count=1
    )
