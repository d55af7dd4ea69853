"""The page of figures: tables and goals, written from the rows that have been measured so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from _networks import ABOUT
from _sections import GRADIENTS, MASKED, METRIC_ROWS
from _timing import median, median_ratio

Rows = Mapping[tuple[str, str, str], Mapping[str, Any]]
TITLES = {"cpu": "On a CPU", "cuda": "On a GPU"}
PARTS = (
    *TITLES,
    *(f"precision {device}" for device in TITLES),
    *(f"concepts {device}" for device in TITLES),
    "mixed models",
    "server",
    "faults",
)
"""The parts of the page between markers, in its order; each is measured by itself."""
INTRO = """# Performance

Written by `tests/performance/attribution.py`, which says how to run it again. Every comparison was made in one process,
with the candidates in turn (limen, the bare passes, the peers; then again, on other images); a ratio is the median over
rounds of the paired ratios. Each peer runs in float32 at the best of several batch sizes, found beforehand.

- **s / image**: median time of one image, the network's compilation and the precision audit not counted.
- **forwards, backwards**: images through limen's network for one image explained or scored.
- **forwards / s (bare)**: the rate of those passes, and of as many bare ones: the network's own, as next.
- **of bare**: limen's time over that of as many bare passes of the network at the engine's own best (its precision,
  layout, batch and compiled graph; gradients in float32). 1.00 is the network and nothing else; below 1.00 the passes
  were partial.
- **x plain**: how many times faster than as many bare passes in float32 NCHW, as a plain module runs.
- **x peer**: how many times faster than the peer named beside it. The peer's own forwards of one image stand in brackets.
"""


def write(path: Path, sections: Mapping[str, str]) -> None:
    """Write the page; a part that was not measured here stays as it is."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = [INTRO]
    for name in PARTS:
        kept = re.search(rf"<!-- {name} -->\n(.*?)<!-- end {name} -->", old, re.DOTALL)
        text = sections.get(name) or (kept.group(1) if kept else "")
        if text:
            parts.append(f"<!-- {name} -->\n{text.rstrip()}\n\n<!-- end {name} -->\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def section(device: str, rows: Rows, environment: Mapping[str, Any]) -> str:
    """Return the part of the page for one device."""
    parts = [f"## {TITLES[device]}", header(rows, environment), "### Goals\n\n" + goals(rows)]
    for network, about in ABOUT.items():
        tables = [
            table_of(rows, "explain", network, (*MASKED, *GRADIENTS), "method"),
            table_of(rows, "score", network, METRIC_ROWS, "metric"),
        ]
        if any(tables):
            parts.append(f"### {about[0].upper()}{about[1:]}\n\n" + "\n\n".join(filter(None, tables)))
    for title, build in (
        ("What the processor allows", limits), ("Whole plans", plans), ("The estimator of HSIC", estimators),
        ("Peak memory against the number of masks", memories),
    ):  # fmt: skip
        text = build(rows)
        if text:
            parts.append(f"### {title}\n\n{text}")
    return "\n\n".join(parts)


def header(rows: Rows, environment: Mapping[str, Any]) -> str:
    lines = [f"- {name}: {value}" for name, value in environment.items()]
    for network in ABOUT:
        audits = [row["audit"] for key, row in rows.items() if key[1] == network and "audit" in row]
        if audits:
            lines.append(f"- precision on {network}: {audit_text(audits[-1])}")
    return "\n".join(lines)


def audit_text(audit: Mapping[str, Any]) -> str:
    text = f"{audit.get('used')} used, {audit.get('requested')} requested"
    for number, found in audit.get("formats", {}).items():
        if found["pearson"] is not None:
            text += f"; effects of hidden cells, {number} against fp32: Pearson {found['pearson']:.5f} in the worst of"
            text += f" {audit['images']} images, same decision {found['same_decision']:.3f} of {found['compared']}"
    return text + (f"; forwards {audit['graphs']}" if "graphs" in audit else "")


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head, lines = list(head), [list(line) for line in lines]
    if not lines:
        return ""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])


def table_of(rows: Rows, kind: str, network: str, names: Iterable[str], what: str) -> str:
    lines = [line(name, rows[kind, network, name]) for name in names if (kind, network, name) in rows]
    return table(
        [what, "s / image", "forwards", "backwards", "forwards / s (bare)", "of bare", "x plain", "x peer", "peer"],
        lines,
    )


def line(name: str, row: Mapping[str, Any]) -> list[str]:
    if "failed" in row:
        return [name, *["-"] * 7, f"failed: {row['failed']}"]
    ours, images = row["limen"], row["images"]
    ratios = [f"{ratio:.2f}" if ratio else "-" for _, ratio in peer_ratios(row)]
    return [
        name,
        f"{median(ours['seconds']) / images:.4f}",
        f"{ours['forwards'] / images:,.0f}",
        f"{ours['backwards'] / images:,.0f}",
        rate(row),
        number(of_bare(row)),
        number(over_plain(row)),
        ", ".join(ratios) or "-",
        "; ".join(peer_text(label, peer, images) for label, peer in row["peers"].items()) or "-",
    ]


def rate(row: Mapping[str, Any]) -> str:
    """Return forwards a second, and in brackets those of the same passes bare."""
    passes = _passes(row, "")
    if passes is None:
        return "-"
    forwards = row["limen"]["forwards"]
    return f"{forwards / median(row['limen']['seconds']):,.0f} ({forwards / median(passes):,.0f})"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def peer_text(label: str, peer: Mapping[str, Any], images: int) -> str:
    setting = f" ({peer['setting']})" if peer.get("setting") else ""
    if "failed" in peer:
        return f"{label}{setting}: fails, `{peer['failed']}`"
    return f"{label}{setting} [{peer.get('forwards', 0) / images:,.0f}]"


def peer_ratios(row: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Return how many times faster than each peer, None where the peer fails."""
    return [
        (label, None if "failed" in peer else median_ratio(peer["seconds"], row["limen"]["seconds"]))
        for label, peer in row["peers"].items()
    ]


def _passes(row: Mapping[str, Any], prefix: str) -> list[float] | None:
    """Return the seconds that a row's passes take bare, round by round; None where nothing passed."""
    forwards, backwards = row["limen"]["forwards"], row["limen"]["backwards"]
    if not forwards:
        return None
    bare = row["bare"]
    both = bare.get(f"{prefix}backward", [0.0] * len(bare[f"{prefix}forward"]))
    return [
        (forwards - backwards) * one + backwards * two for one, two in zip(bare[f"{prefix}forward"], both, strict=True)
    ]


def of_bare(row: Mapping[str, Any]) -> float | None:
    passes = _passes(row, "")
    return None if passes is None else median_ratio(row["limen"]["seconds"], passes)


def over_plain(row: Mapping[str, Any]) -> float | None:
    passes = _passes(row, "plain_")
    return None if passes is None else median_ratio(passes, row["limen"]["seconds"])


def goals(rows: Rows) -> str:
    lines = [_bare_goal(rows, "resnet18", 1.10), _bare_goal(rows, "small", 1.25)]
    for network in ("resnet18", "small"):
        for name in ("occlusion", "lime", "kernel_shap"):
            lines.append(
                _least(
                    rows, network, name, 4, "captum's best setting", lambda row: dict(peer_ratios(row)).get("captum")
                )
            )
        for name in ("rise", "sobol"):
            lines.append(_least(rows, network, name, 5, "a plain float32 forward a copy", over_plain))
    for title in ("6x3", "12x8"):
        ratios = [ratio for _, ratio in plan_ratios(rows, title)]
        value = median(ratios) if ratios else None
        lines.append(judged(f"plan of {title.replace('x', ' x ')}: >= 10 x captum + Quantus", value, 10, "{:.1f} x"))
    row = rows.get(("hsic", "none", "n=500"), {})
    ratio = median_ratio(row["seconds"]["literal, float32"], row["seconds"]["limen"]) if "seconds" in row else None
    lines.append(judged("HSIC estimator at n = 500: >= 19 x as it is written", ratio, 19, "{:.1f} x"))
    growth = [value for value in memory_growth(rows).values() if value is not None]
    lines.append(
        judged(
            "peak memory does not grow with masks: <= 5 % over the fewest",
            max(growth, default=None),
            0.05,
            "{:+.1%}",
            at_most=True,
        )
    )
    return table(["goal", "measured", ""], lines)


def judged(
    goal: str, value: float | None, limit: float, form: str, *, at_most: bool = False, note: str = ""
) -> list[str]:
    if value is None:
        return [goal, "not measured", "-"]
    met = value <= limit if at_most else value >= limit
    return [goal, form.format(value) + note, "met" if met else "not met"]


def _bare_goal(rows: Rows, network: str, limit: float) -> list[str]:
    """Judge the worst of the methods and metrics that only run forwards."""
    found = {
        key[2]: of_bare(row)
        for key, row in rows.items()
        if key[0] in ("explain", "score") and key[1] == network and key[2] not in (*GRADIENTS, "max_sensitivity")
        and "failed" not in row
    }  # fmt: skip
    values = {name: value for name, value in found.items() if value is not None}
    goal = f"masked copies on {network}: <= {limit:.2f} x the engine's own best bare forward"
    if not values:
        return judged(goal, None, limit, "")
    worst = max(values, key=values.__getitem__)
    over = sorted((name for name in values if values[name] > limit), key=values.__getitem__, reverse=True)
    rest = f"; over it: {', '.join(f'{name} {values[name]:.2f}' for name in over)}" if over else ""
    note = f" at worst ({worst}); {len(values) - len(over)} of {len(values)} rows within{rest}"
    return judged(goal, values[worst], limit, "{:.2f}", at_most=True, note=note)


def _least(
    rows: Rows, network: str, name: str, limit: float, what: str, ratio: Callable[[Mapping[str, Any]], float | None]
) -> list[str]:
    row = rows.get(("explain", network, name))
    value = ratio(row) if row and "failed" not in row else None
    return judged(f"{name} on {network}: >= {limit:g} x {what}", value, limit, "{:.1f} x")


def limits(rows: Rows) -> str:
    row = rows.get(("limits", "resnet18", "convolutions"), {})
    if "rates" not in row:
        return ""
    lines, least = [], dict.fromkeys(("float32", "bfloat16"), 0.0)
    for side, rates in row["rates"].items():
        found = {name: median(values) for name, values in rates.items()}
        for name, value in found.items():
            least[name] += row["work"][side] / value
        lines.append([
            f"{row['about'][side]}, to {side} x {side}", f"{row['work'][side] / 1e9:.2f}",
            *[f"{value / 1e9:,.0f}" for value in found.values()], f"{found['bfloat16'] / found['float32']:.1f}",
        ])  # fmt: skip
    plain = median(row["plain"])
    head = ["convolution of ResNet-18", "of an image, GFLOP", "fp32, GFLOP/s", "bf16, GFLOP/s", "bf16 / fp32"]
    note = (
        f"At these rates the convolutions alone take {1000 * least['float32']:.1f} ms an image in float32 and "
        f"{1000 * least['bfloat16']:.1f} ms in bfloat16; a plain forward takes {1000 * plain:.1f} ms. Whole passes can so "
        f"gain {plain / least['bfloat16']:.1f} x at most here by direct convolutions; beyond that, copies have to be computed in "
        "part."
    )
    return f"{table(head, lines)}\n\n{note}"


def plan_ratios(rows: Rows, title: str) -> list[tuple[Mapping[str, Any], float]]:
    found = [row for key, row in sorted(rows.items()) if key[0] == "plan" and key[2].startswith(f"{title} ")]
    return [
        (row, row["peers"]["seconds"][0] / row["limen"]["seconds"])
        for row in found
        if "failed" not in row and row["peers"]["seconds"]
    ]


def plans(rows: Rows) -> str:
    lines, notes = [], []
    for title in ("6x3", "12x8"):
        measured = plan_ratios(rows, title)
        if not measured:
            continue
        row = measured[-1][0]
        lines.append([
            f"{len(row['methods'])} methods x {len(row['metrics'])} metrics x {row['images']} images", str(len(measured)),
            f"{median([one['limen']['seconds'] for one, _ in measured]):.2f}",
            f"{median([one['peers']['seconds'][0] for one, _ in measured]):.2f}",
            f"{row['limen']['forwards'] + 0:,}", f"{row['peers']['forwards']:,}",
            f"{median([ratio for _, ratio in measured]):.1f}",
        ])  # fmt: skip
        notes.append(f"- {title}: {', '.join(row['methods'])}; scored by {', '.join(row['metrics'])}.")
        notes += [
            f"- {title}: limen lacks {', '.join(row['missing'])}; left out on both sides." for _ in row["missing"][:1]
        ]
        notes += [
            f"- {title}: Quantus fails at {name}: `{text}`." for name, text in row["peers"]["failed cells"].items()
        ]
    notes += [
        f"- {key[2]}: {row.get('failed') or 'captum + Quantus fails, ' + row['peers']['failed']}."
        for key, row in rows.items()
        if key[0] == "plan" and ("failed" in row or "failed" in row["peers"])
    ]
    head = ["plan", "rounds", "limen, s", "captum + Quantus, s", "limen's forwards", "theirs", "x peers"]
    return "\n\n".join(filter(None, [table(head, lines), "\n".join(notes)]))


def estimators(rows: Rows) -> str:
    lines = []
    for key, row in rows.items():
        if key[0] != "hsic" or "failed" in row:
            continue
        seconds = row["seconds"]
        lines.append([
            key[2], *[f"{1000 * median(seconds[name]):.1f}" for name in seconds],
            *[f"{median_ratio(seconds[name], seconds['limen']):.1f}" for name in seconds if name != "limen"],
            f"{row['error']['limen']:.1e}", f"{row['error']['literal, float32']:.1e}",
        ])  # fmt: skip
    head = [
        "masks, 64 cells", "limen, ms", "as written fp32, ms", "as written fp64, ms", "x fp32", "x fp64",
        "limen's error", "error of fp32 as written",
    ]  # fmt: skip
    return table(head, lines)


def memory_growth(rows: Rows) -> dict[str, float | None]:
    """Return, by method, how much the peak grows from the fewest masks to the most, as a share of the fewest's."""
    found: dict[str, dict[int, int]] = {}
    for key, row in rows.items():
        if key[0] == "memory" and "peak_bytes" in row:
            name, masks = key[2].split(" ")
            found.setdefault(name, {})[int(masks)] = row["peak_bytes"]
    return {
        name: peaks[max(peaks)] / peaks[min(peaks)] - 1 if len(peaks) > 1 else None for name, peaks in found.items()
    }


def memories(rows: Rows) -> str:
    growth, by_name = memory_growth(rows), dict[str, list[str]]()
    for key, row in rows.items():
        if key[0] == "memory":
            name, masks = key[2].split(" ")
            peak = f"{row['peak_bytes'] / 2**20:,.0f}" if "peak_bytes" in row else f"failed: {row['failed']}"
            by_name.setdefault(name, []).append(f"{masks}: {peak}")
    lines = [
        [name, "; ".join(peaks), "-" if growth.get(name) is None else f"{growth[name]:+.1%}"]
        for name, peaks in by_name.items()
    ]
    note = (
        "The most resident memory of a process that imports the library and explains four images of the small network "
        "once, in MiB, by the option that sets the number of copies."
    )
    return f"{note}\n\n{table(['method', 'peak', 'growth'], lines)}" if lines else ""
