"""The tables of a report: one specification gives the cells of the page and the full-precision CSV beside it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from .. import format as write
from ..exclusions import TOTAL
from ..load.study import Study
from ..models.utility import FORMULAS
from ..results import Estimate, Result


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: `rows` are formatted cells, the first a row heading; `frame` is what goes into the CSV."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    frame: pd.DataFrame
    note: str = ""


def _percent_interval(item: Estimate) -> str:
    return write.interval(item.low, item.high, 1, scale=100)


def accuracy_table(result: Result, order: Sequence[str]) -> Table:
    """Describe the participants' accuracies by condition."""
    items = [result.get("accuracy", name) for name in order]
    rows = tuple(
        (
            item.label,
            str(item.n),
            write.percent(item.value),
            _percent_interval(item),
            write.percent(item.extra.get("sd", math.nan)),
            write.percent(item.extra.get("median", math.nan)),
        )
        for item in items
    )
    return Table(
        name="accuracy",
        caption="Accuracy of participants",
        header=("Condition", "n", "Mean", "95 % interval", "SD", "Median"),
        rows=rows,
        frame=frame_of(items),
        note="One number a participant: the share of test answers that match the model's output.",
    )


def session_table(result: Result, order: Sequence[str], *, seen: bool) -> Table:
    """Give accuracy after each session, a column a session."""
    items = result.of("accuracy by session")
    ends = sorted({(item.extra["session"], item.extra["k_seen"]) for item in items})
    rows = []
    for name in order:
        cells = {item.extra["session"]: item for item in items if item.extra["condition"] == name}
        rows.append(
            (name, *(f"{write.percent(cells[s].value)} {_percent_interval(cells[s])}" for s, _ in ends if s in cells))
        )
    header = tuple(f"Session {s:g}" + (f" (K = {k:g})" if seen else "") for s, k in ends)
    return Table(
        name="sessions",
        caption="Accuracy after each session, mean and 95 % interval",
        header=("Condition", *header),
        rows=tuple(rows),
        frame=frame_of(items),
    )


def contrast_table(result: Result, *, name: str, caption: str) -> Table:
    """Give each condition's contrast with the baseline from a logistic analysis."""
    rows = []
    for item in result.of("accuracy difference"):
        ratio = result.get("odds ratio", item.label)
        rows.append(
            (
                item.label,
                f"{item.n:,}",
                f"{write.points(item.value)} {_percent_interval(item)}",
                f"{write.number(ratio.value)} {write.interval(ratio.low, ratio.high)}",
                write.test(ratio),
                write.p_value(ratio.p),
                write.p_value(ratio.p_adjusted),
            )
        )
    return Table(
        name=name,
        caption=caption,
        header=("Condition", "n (trials)", "Difference in points [95 %]", "Odds ratio [95 %]", "Test", "p", "p (Holm)"),
        rows=tuple(rows),
        frame=frame_of(result.estimates),
        note="Difference: model-based accuracy, averaged over sessions, in percentage points.",
    )


def utility_table(result: Result, order: Sequence[str], baseline: str) -> Table:
    """Give Utility by its three formulas, with every interval of the default one."""
    rows = []
    for name in order:
        if name == baseline:
            continue
        cells = [name]
        for formula in FORMULAS:
            items = {item.interval: item for item in result.of(f"utility ({formula})") if item.label == name}
            main = items["log-delta"]
            cells += [f"{main.n:,}"] if formula == FORMULAS[0] else []
            cells.append(f"{write.number(main.value)} {write.interval(main.low, main.high)}")
            if formula == "ratio_of_means":
                cells += [_bounds(items.get("Fieller")), _bounds(items.get("bootstrap over participants"))]
        rows.append(tuple(cells))
    return Table(
        name="utility",
        caption="Utility: accuracy relative to the baseline",
        header=(
            "Condition",
            "n",
            "ratio_of_means [log-delta]",
            "[Fieller]",
            "[bootstrap]",
            "mean_of_ratios [log-delta]",
            "trapezoid [log-delta]",
        ),
        rows=tuple(rows),
        frame=frame_of(result.estimates),
        note="1 = no difference. Two conditions share one baseline: never compare them by overlap of their intervals.",
    )


def _bounds(item: Estimate | None) -> str:
    return write.DASH if item is None else write.interval(item.low, item.high)


def omnibus_table(result: Result) -> Table:
    """Give the one-way and Welch F with every effect size named."""
    rows = []
    for item in result.of("omnibus"):
        sizes = [item.extra.get(key, math.nan) for key in ("eta_squared", "partial_eta_squared", "omega_squared")]
        rows.append(
            (
                item.label,
                write.test(item),
                write.p_value(item.p),
                *(write.number(size, 3) for size in sizes),
                str(item.n),
            )
        )
    return Table(
        name="anova",
        caption="Analysis of variance on participant means (as published)",
        header=("Test", "F", "p", "η²", "partial η²", "ω²", "N"),
        rows=tuple(rows),
        frame=frame_of(result.of("omnibus")),
        note="η² = SS condition / SS total; in a one-way design partial η² is the same; ω² = df₁(F − 1) / (df₁(F − 1) + N).",
    )


def comparison_table(result: Result) -> Table:
    """Put Tukey, Dunnett and Welch-Holm against the baseline side by side."""
    rows = []
    tukey = {(item.extra["first"], item.extra["second"]): item for item in result.of("Tukey HSD")}
    welch = {item.label: item for item in result.of("Welch t, Holm")}
    for item in result.of("Dunnett"):
        pair = (item.extra["first"], item.extra["second"])
        t = welch.get(item.label)
        rows.append(
            (
                item.label.replace(" - ", " − "),
                f"{write.points(item.value)} {_percent_interval(item)}",
                write.p_value(item.p_adjusted),
                write.p_value(tukey[pair].p_adjusted if pair in tukey else math.nan),
                write.test(t) if t else write.DASH,
                write.p_value(t.p_adjusted) if t else write.DASH,
            )
        )
    return Table(
        name="comparisons",
        caption="Comparisons with the baseline (as published)",
        header=("Contrast", "Difference in points [Dunnett]", "p (Dunnett)", "p (Tukey HSD)", "Welch t", "p (Holm)"),
        rows=tuple(rows),
        frame=frame_of([*result.of("Tukey HSD"), *result.of("Dunnett"), *result.of("Welch t, Holm")]),
        note="All pairs of conditions by Tukey's HSD are in tables/comparisons.csv.",
    )


def split_table(result: Result, order: Sequence[str]) -> Table:
    """Give accuracy by whether the model was right."""
    rows = []
    for name in order:
        right, wrong = (result.get(f"accuracy, model {side}", name) for side in ("right", "wrong"))
        gap = result.get("right minus wrong", name)
        rows.append(
            (
                name,
                f"{gap.n:,}",
                f"{write.percent(right.value)} {_percent_interval(right)}",
                f"{write.percent(wrong.value)} {_percent_interval(wrong)}",
                f"{write.points(gap.value)} {_percent_interval(gap)}",
                write.test(gap),
                write.p_value(gap.p),
            )
        )
    return Table(
        name="model_split",
        caption="Accuracy where the model was right and where it was wrong",
        header=("Condition", "n", "Model right [95 %]", "Model wrong [95 %]", "Right − wrong, points", "Paired t", "p"),
        rows=tuple(rows),
        frame=frame_of(result.estimates),
        note="A person who assumes that the model is right scores high on the left and low on the right.",
    )


def flow_table(flow: pd.DataFrame, order: Sequence[str]) -> Table:
    """Give the sample flow by condition."""
    rows = tuple(
        (("" if row["kind"] == "kept" else MINUS_STEP) + str(row["step"]), *(f"{row[c]:,}" for c in (TOTAL, *order)))
        for _, row in flow.iterrows()
    )
    return Table(name="flow", caption="Sample flow", header=("Step", "All", *order), rows=rows, frame=flow)


MINUS_STEP = "− "


def exclusion_table(frame: pd.DataFrame) -> Table:
    """Give accuracy and Utility after the exclusions and without them."""
    rows = []
    for row in map(_plain_keys, frame.to_dict(orient="records")):
        cells = [str(row["condition"])]
        for ending in ("", "_everyone"):
            cells += [
                write.number(row.get(f"n{ending}", math.nan), 0),
                write.percent(row.get(f"accuracy{ending}", math.nan)),
                _utility_cell(row, ending),
            ]
        rows.append(tuple(cells))
    return Table(
        name="exclusions",
        caption="What the exclusions change",
        header=("Condition", "n", "Accuracy", "Utility", "n, everyone", "Accuracy, everyone", "Utility, everyone"),
        rows=tuple(rows),
        frame=frame,
        note="Everyone: all who finished, also those a check excludes.",
    )


def _plain_keys(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}


def _utility_cell(row: Mapping[str, float], ending: str) -> str:
    value = row.get(f"utility{ending}", math.nan)
    if math.isnan(value):
        return write.DASH
    return f"{write.number(value)} {write.interval(row[f'low{ending}'], row[f'high{ending}'])}"


def item_table(result: Result) -> Table:
    """Give accuracy by item, hardest first."""
    rows = tuple(
        (item.label, str(item.n), write.percent(item.value), _percent_interval(item)) for item in result.estimates
    )
    return Table(
        name="items",
        caption="Accuracy by item, hardest first",
        header=("Item", "Answers", "Accuracy", "95 % interval (Wilson)"),
        rows=rows,
        frame=frame_of(result.estimates),
    )


def participants_frame(result: Result, study: Study) -> pd.DataFrame:
    """Return the points of the accuracy figure without any participant's id."""
    assert result.points is not None
    order = {name: index for index, name in enumerate(study.conditions)}
    points = result.points[["condition", "accuracy", "trials"]]
    return points.sort_values(["condition", "accuracy"], key=lambda c: c.map(order) if c.name == "condition" else c)


def frame_of(items: Sequence[Estimate]) -> pd.DataFrame:
    """Return estimates as a tidy frame, full precision, for the CSV of a table."""
    return Result(name="", title="", role="descriptive", method="", estimates=tuple(items)).table()
