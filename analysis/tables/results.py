"""Tables of any result: what was tested, what was estimated, the terms of the model, and what the exclusions change."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
from scipy import stats

from .. import format as write
from ..results import FLAGS, Estimate, Result
from . import Table, frame_of

HEADER = ("Estimate", "n", "Value [95 % interval]", "Test", "p", "p (adjusted)")
SHARES = ("accuracy", "above chance", "share", "preference", "sensitivity", "bias to agree", "right minus wrong",
          "people minus networks", "slope of problem within")  # fmt: skip
DIFFERENCES = ("difference", "above chance", "less", "bias", "minus", "slope of problem within")


def value_of(item: Estimate) -> str:
    """Write a value with its interval: shares in percent, differences of shares in percentage points."""
    if not item.quantity.startswith(SHARES):
        return f"{write.number(item.value)} {write.interval(item.low, item.high)}"
    bounds = write.interval(item.low, item.high, 1, scale=100)
    if any(word in item.quantity for word in DIFFERENCES):
        return f"{write.points(item.value)} points {bounds}"
    return f"{write.percent(item.value)} {bounds}"


def tested(result: Result) -> list[Estimate]:
    """Return the estimates that a test compares with a null value: the contrasts of a result."""
    return [item for item in result.estimates if math.isfinite(item.p) and not is_term(item)]


def described(result: Result) -> list[Estimate]:
    """Return the estimates with an interval and no test, and those whose interval a flag explains."""
    return [
        item
        for item in result.estimates
        if not math.isfinite(item.p) and not is_term(item) and (math.isfinite(item.low) or item.flags)
    ]


def terms(result: Result) -> list[Estimate]:
    """Return the joint tests of a model's terms."""
    return [item for item in result.estimates if is_term(item)]


def is_term(item: Estimate) -> bool:
    """Say whether an estimate is the joint test of a model's term."""
    return item.quantity == "term" or item.quantity.startswith("term (")


def estimate_table(items: Iterable[Estimate], *, name: str, caption: str, note: str = "") -> Table:
    """Give estimates grouped by what they are of; a quantity alone in its row heads a group."""
    kept = list(items)
    rows: list[tuple[str, ...]] = []
    by: dict[str, list[Estimate]] = {}
    for item in kept:
        by.setdefault(item.quantity, []).append(item)
    for quantity, members in by.items():
        rows.append((quantity[:1].upper() + quantity[1:],))
        rows += [_row(item) for item in members]
    flags = dict.fromkeys(flag for item in kept for flag in item.flags)
    said = " ".join(f"{write.DASH}: {FLAGS[flag]}." for flag in flags)
    return Table(name=name, caption=caption, header=HEADER, rows=tuple(rows), frame=frame_of(kept),
                 note=" ".join(part for part in (note, said) if part))  # fmt: skip


def _row(item: Estimate) -> tuple[str, ...]:
    adjusted = write.p_value(item.p_adjusted)
    if math.isfinite(item.p_adjusted) and item.adjustment:
        adjusted += f" ({item.adjustment})" if not item.adjustment.startswith("none") else ""
    n = f"{item.n:,} {item.unit}"
    return (item.label, n, value_of(item), write.test(item), write.p_value(item.p), adjusted)


def term_table(result: Result, *, name: str) -> Table:
    """Give the joint tests of a model's terms."""
    items = terms(result)
    rows = tuple((item.label, f"{item.n:,} {item.unit}", write.test(item), write.p_value(item.p)) for item in items)
    return Table(name=name, caption="Terms of the model, each tested jointly", header=("Term", "n", "Test", "p"),
                 rows=rows, frame=frame_of(items))  # fmt: skip


def companion_table(result: Result) -> Table:
    """Put the differences of a crossed model beside those of its clustered regression."""
    theirs, rows, records = dict(result.facts.get("companion") or {}), [], []
    for item in result.estimates:
        factor = item.quantity.removeprefix("accuracy difference of ")
        other = theirs.get(f"{factor}: {item.label}") if factor != item.quantity else None
        if other is None:
            continue
        half = float(stats.norm.ppf(0.975)) * other["standard_error"]
        low, high = other["value"] - half, other["value"] + half
        rows.append((f"{factor}: {item.label}", f"{item.n:,} {item.unit}", value_of(item),
                     f"{write.points(other['value'])} points {write.interval(low, high, 1, scale=100)}"))  # fmt: skip
        records.append({"factor": factor, "contrast": item.label, "mixed_model": item.value, "low": item.low, "high": item.high,
                        "clustered": other["value"], "clustered_low": low, "clustered_high": high, "n": item.n})  # fmt: skip
    return Table(
        name="companion",
        caption="The same differences by the clustered regression",
        header=("Contrast", "n", "Mixed model [95 %]", "Clustered regression [95 %]"),
        rows=tuple(rows),
        frame=pd.DataFrame(records),
        note="Logistic regression without random effects, errors clustered by participant and by item (normal interval).",
    )


def dropped_table(result: Result) -> Table:
    """Give each random slope that was dropped on the way, and why."""
    steps = list(result.facts.get("steps") or result.facts.get("dropped") or [])
    rows = tuple(
        (
            str(step["dropped"]),
            write.number(step["sd"]),
            write.number(step["likelihood_ratio"]),
            write.p_value(step["p"]) if math.isfinite(step["p"]) else "the model with it did not converge",
        )
        for step in steps
    )
    return Table(name="dropped", caption="Random slopes dropped, in order", header=("Slope", "SD", "Likelihood ratio", "p"),
                 rows=rows, frame=pd.DataFrame(steps),
                 note="Every slope the design allows is fitted first; the one with the largest p above .2 goes, then the next.")  # fmt: skip


def changed_table(kept: Result, everyone: Result | None) -> Table:
    """Put each contrast of the primary analysis beside the same with nobody excluded."""
    other = {(item.quantity, item.label): item for item in (everyone.estimates if everyone else ())}
    rows, records = [], []
    for item in tested(kept) or described(kept):
        theirs = other.get((item.quantity, item.label))
        if theirs is None:
            continue
        rows.append(
            (
                f"{item.quantity}: {item.label}",
                _with_n(item),
                write.p_value(item.p),
                _with_n(theirs),
                write.p_value(theirs.p),
            )
        )
        records.append(
            {"quantity": item.quantity, "label": item.label, **_numbers(item, ""), **_numbers(theirs, "_everyone")}
        )
    return Table(
        name="exclusions",
        caption="The primary analysis after the exclusions and with nobody excluded",
        header=("Estimate", "After exclusions", "p", "Nobody excluded", "p"),
        rows=tuple(rows),
        frame=pd.DataFrame(records),
    )


def _with_n(item: Estimate) -> str:
    return f"{value_of(item)}, n = {item.n:,}"


def _numbers(item: Estimate, ending: str) -> dict[str, float]:
    return {f"{key}{ending}": getattr(item, key) for key in ("n", "value", "low", "high", "p")}
