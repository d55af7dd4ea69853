"""The part of the page about concepts: goals and times, written from the rows that have been measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _report import Rows, judged, table
from _timing import median, median_ratio

TITLES = {
    "sae": "Sparse autoencoders (TopK)",
    "nmf": "Non-negative matrix factorisation",
    "nnls": "Codes by non-negative least squares, and their gradient",
    "stability": "Stability of two dictionaries",
    "importance": "Importance at an affine head",
    "monosemanticity": "Monosemanticity",
}
INTRO = """Written by `tests/performance/concepts.py`. One process, candidates in turn; a ratio is the median over rounds
of the paired ratios; `x limen` says how many times longer a candidate takes than the first line of its table."""
LOOP = "overcomplete, its loop with auxiliary loss"
AUXILIARY = "limen with auxiliary loss"
DESCENT = "scikit-learn, coordinate descent"


def section(device: str, rows: Rows, environment: Mapping[str, Any]) -> str:
    """Return the part of the page for one device."""
    place = {"cpu": "CPU", "cuda": "GPU"}[device]
    parts = [
        f"## Concepts on a {place}", INTRO, "\n".join(f"- {name}: {value}" for name, value in environment.items()),
        "### Goals\n\n" + goals(device, rows),
    ]  # fmt: skip
    for group, title in TITLES.items():
        found = [(key[2], row) for key, row in rows.items() if key[1] == group]
        if found:
            parts.append(f"### {title}\n\n" + "\n\n".join(one(name, row) for name, row in found))
    return "\n\n".join(parts)


def one(name: str, row: Mapping[str, Any]) -> str:
    """Return the heading, table and notes of one row."""
    if "failed" in row:
        return f"**{name}**: failed, `{row['failed']}`"
    parts = [f"**{name}**" + (f": {row['sizes']}" if "sizes" in row else "")]
    if "seconds" in row:
        parts.append(times(row["seconds"]))
    if "curves" in row:
        parts.append(curves(row))
    notes = [(what, row[what]) for what in row if what not in ("seconds", "sizes", "curves", "steps")]
    parts.append("\n".join(f"- {what}: {spoken(value)}" for what, value in notes))
    return "\n\n".join(filter(None, parts))


def times(seconds: Mapping[str, list[float]]) -> str:
    first = next(iter(seconds))
    lines = [
        [name, clear(median(values)), f"{median_ratio(values, seconds[first]):.2f}", str(len(values))]
        for name, values in seconds.items()
    ]
    return table(["", "seconds", "x limen", "rounds"], lines)


def clear(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 10 else f"{seconds:.4f}" if seconds >= 1e-3 else f"{seconds:.1e}"


def spoken(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {spoken(part)}" for name, part in value.items())
    if isinstance(value, list):
        return spoken(median(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def curves(row: Mapping[str, Any]) -> str:
    """Return losses at a few steps, and how far each curve lies from the plain loop's."""
    count, plain = row["steps"], row["curves"]["plain torch"]
    at = sorted({0, count // 8, count // 4, count // 2, count - 1})
    lines = [
        [
            name,
            *[f"{values[step]:.4f}" for step in at],
            "-" if name == "overcomplete" else f"{apart(values, plain):.2%}",
        ]
        for name, values in row["curves"].items()
    ]
    return table(["loss at step", *[str(step + 1) for step in at], "from plain torch, at most"], lines)


def apart(values: list[float], plain: list[float]) -> float:
    """Return the largest relative distance of two curves, each a mean over a tenth of the steps."""
    width = max(1, len(values) // 10)
    pieces = range(0, len(values) - width + 1, width)
    means = [(sum(values[i : i + width]), sum(plain[i : i + width])) for i in pieces]
    return max(abs(one - other) / other for one, other in means)


def goals(device: str, rows: Rows) -> str:
    """Return which of the stated goals the rows meet, as a table."""
    sae, where = seconds_of(rows, "sae", "steps"), f"d 768, k 6144, batch 1024, 32 active, {device}"
    lines = [
        judged(f"TopK step, {where}: >= 2.5 x overcomplete's bare step",
               ratio(sae, "overcomplete, bare step", "limen"), 2.5, "{:.1f} x"),
        judged(f"TopK step with auxiliary loss, {where}: >= 6 x overcomplete's loop",
               ratio(sae, LOOP, AUXILIARY), 6, "{:.1f} x"),
    ]  # fmt: skip
    row = rows.get(("concepts", "sae", "curves"), {})
    if "curves" in row:
        noise = apart(row["curves"]["other batches"], row["curves"]["float32"])
        for name in ("float32", "bfloat16"):
            gap = apart(row["curves"][name], row["curves"]["plain torch"])
            lines.append(judged(f"loss curve in {name} like plain torch's: within what other batches change ({noise:.2%})",
                                gap, noise, "{:.2%}", at_most=True))  # fmt: skip
    nmf = seconds_of(rows, "nmf", "iterations")
    fits = rows.get(("concepts", "nmf", "whole fits"), {})
    lines.append(judged("an alternation of NMF: <= 1.3 x its two products", ratio(nmf, "limen", "two products"), 1.3,
                        "{:.2f} x", at_most=True))  # fmt: skip
    lines.append(judged("a whole fit of NMF: 2 x as fast as scikit-learn",
                        ratio(fits.get("seconds", {}), DESCENT, "limen"), 2, "{:.1f} x"))  # fmt: skip
    if "error" in fits:
        excess = median(fits["error"]["limen"]) / median(fits["error"][DESCENT]) - 1
        lines.append(judged("the error of NMF above scikit-learn's: <= 1 %", excess, 0.01, "{:+.2%}", at_most=True))
    row = rows.get(("concepts", "nnls", "gradient"), {})
    if "gradient difference" in row:
        lines.append(judged("gradient of codes like that of FISTA-1000: <= 1e-10",
                            row["gradient difference"]["FISTA-1000 unrolled"], 1e-10, "{:.1e}", at_most=True))  # fmt: skip
    for name, what in (
        ("limen, value alone", "value"),
        ("limen, value, null and controls", "value, null and controls"),
    ):
        found = [
            median(row["seconds"][name]) for key, row in rows.items()
            if key[1] == "stability" and name in row.get("seconds", {})
        ]  # fmt: skip
        lines.append(judged(f"stability of two dictionaries of 8,000 atoms, {what}: < 10 s", max(found, default=None), 10,
                            "{:.1f} s", at_most=True))  # fmt: skip
    if device == "cuda":
        lines.append(judged(
            "TopK step: >= 60 % of the roofline of its products (one forward, measured)",
            ratio(sae, "one product (batch, d) (d, k) in bfloat16", "limen"), 0.6, "{:.0%}",
        ))  # fmt: skip
    return table(["goal", "measured", ""], lines)


def seconds_of(rows: Rows, group: str, name: str) -> Mapping[str, list[float]]:
    found: Mapping[str, list[float]] = rows.get(("concepts", group, name), {}).get("seconds", {})
    return found


def ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float | None:
    """Return the median ratio; None where one is missing, or too short to tell from nothing."""
    if above not in seconds or below not in seconds or min(*seconds[above], *seconds[below], 1.0) <= 0:
        return None
    return median_ratio(seconds[above], seconds[below])
