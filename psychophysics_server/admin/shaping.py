"""How values look on the pages: times, shares, and the bars."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from .access import admin

_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
PARTS = ("valid", "excluded", "active", "stale", "screened_out", "withdrawn", "ended")
"""Segments of a cell's bar, in the order they are drawn."""
CALLED = {
    "valid": "complete",
    "excluded": "left out",
    "active": "active",
    "stale": "silent",
    "screened_out": "screened out",
    "withdrawn": "withdrawn",
    "ended": "expired or failed",
}


@admin.app_template_filter("ago")
def ago(then: float | None) -> Markup:
    """Say how long ago something was, with the exact time for whoever points at it."""
    if then is None:
        return Markup("–")
    seconds = max(0.0, time.time() - then)
    steps = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (172_800.0, 3600.0, "h"), (float("inf"), 86_400.0, "days"))
    said = next(f"{int(seconds // unit)} {name} ago" for limit, unit, name in steps if seconds < limit)
    return _time(then, said)


@admin.app_template_filter("moment")
def moment(then: float | None) -> Markup:
    """Write a time out, in UTC."""
    if then is None:
        return Markup("–")
    return _time(then, f"{_utc(then):%Y-%m-%d %H:%M:%S}")


def _utc(then: float) -> datetime:
    return datetime.fromtimestamp(then, UTC)


def _time(then: float, said: str) -> Markup:
    exact = f"{_utc(then):%Y-%m-%dT%H:%M:%SZ}"
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, said)


@admin.app_template_filter("number")
def number(value: Any, digits: int = 1) -> str:
    """Write a number with thin groups of thousands; nothing is a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int) or digits == 0:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:,.{digits}f}".replace(",", "\u202f")


@admin.app_template_filter("share")
def share(value: float | None) -> str:
    """Write a share in per cent."""
    return "–" if value is None else f"{100 * value:.0f} %"


@admin.app_template_filter("prose")
def prose(text: str) -> Markup:
    """Write the paragraphs of a study's text, with **bold** as participants see it and nothing else."""
    paragraphs = [str(escape(part.strip())) for part in text.split("\n\n") if part.strip()]
    bold = [_BOLD.sub(r"<strong>\1</strong>", part) for part in paragraphs]
    return Markup("".join(f"<p>{part}</p>" for part in bold))


@admin.app_template_filter("readable")
def readable(body: str) -> str:
    """Write the JSON of an event over several lines; what is no JSON stays as it is."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


@admin.app_template_global("cell_bar")
def cell_bar(cell: Any, widest: int) -> Markup:
    """Draw one cell's people as a bar against its quota; the table beside it says the same in numbers."""
    drawn, x = [], 0.0
    for part in PARTS:
        width = 100.0 * getattr(cell, part) / widest if widest else 0.0
        if width:
            drawn.append(f'<rect class="part {part}" x="{x:.2f}" y="0" width="{width:.2f}" height="12"/>')
            x += width
    mark = 100.0 * cell.quota / widest if widest else 100.0
    if cell.source == "live":
        drawn.append(f'<line class="quota" x1="{mark:.2f}" y1="0" x2="{mark:.2f}" y2="12"/>')
    told = ", ".join(f"{getattr(cell, part)} {CALLED[part]}" for part in PARTS if getattr(cell, part)) or "nobody"
    label = escape(f"{cell.cell}: {told}, of {cell.quota}")
    return Markup(
        f'<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{''.join(drawn)}</svg>"
    )


@admin.app_template_global("meter")
def meter(share_: float, label: str, kind: str = "") -> Markup:
    """Draw a share as a bar."""
    width = 100 * min(max(share_, 0.0), 1.0)
    return Markup(
        '<svg class="bar thin" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{0}">'
        '<rect class="rest" x="0" y="0" width="100" height="8"/>'
        '<rect class="part {1}" x="0" y="0" width="{2:.2f}" height="8"/></svg>'
    ).format(label, kind or "valid", width)
