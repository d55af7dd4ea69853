"""Tables of bench scores in a report: beside Utility, and the leaderboard."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from .. import format as write
from ..results import Result
from . import Table, frame_of


def link_table(result: Result) -> Table:
    """Give the coefficients of each metric with n, both intervals, the range without one method, and p."""
    rows = []
    for item in result.estimates:
        extra = item.extra
        out = write.interval(extra.get("leave_one_out_low", math.nan), extra.get("leave_one_out_high", math.nan))
        name = extra.get("most_influential", "")
        rows.append(
            (
                item.label,
                item.quantity,
                str(item.n),
                write.number(item.value),
                write.interval(item.low, item.high),
                write.interval(extra.get("participants_low", math.nan), extra.get("participants_high", math.nan)),
                f"{out} ({name})" if name else out,
                write.p_value(item.p),
                write.p_value(item.p_adjusted),
                write.p_value(extra.get("smallest_p", math.nan)),
            )
        )
    return Table(
        name="link",
        caption="Scores and Utility: coefficients over methods",
        header=(
            "Metric",
            "Coefficient",
            "n methods",
            "Value",
            "[over methods]",
            "[over participants]",
            "Without one method",
            "p (permutation)",
            "p (Holm)",
            "Smallest possible p",
        ),
        rows=tuple(rows),
        frame=frame_of(result.estimates),
        note="Positive: the better the score, the more useful to people. In brackets after the range: the method whose removal moves the coefficient most.",
    )


def link_points_table(result: Result) -> Table:
    """Give every point of the link: a row a method, a column a metric."""
    points = result.points
    assert points is not None
    metrics = sorted(points["metric"].unique())
    rows = []
    for name, group in points.groupby("condition", sort=True):
        values = dict(zip(group["metric"], group["value"], strict=True))
        rows.append(
            (
                str(name),
                write.number(float(group["utility"].iloc[0])),
                *(write.number(values.get(metric, math.nan), 3) for metric in metrics),
            )
        )
    return Table(
        name="link_points",
        caption="Every point",
        header=("Method", "Utility", *metrics),
        rows=tuple(rows),
        frame=points,
    )


def leaderboard_table(scores: pd.DataFrame) -> Table:
    """Give each metric's scores with interval, null and gain; a score that cannot be told from its null is marked."""
    arrow = {"up": "↑", "down": "↓", "none": "·"}
    rows = []
    ordered = scores.sort_values(["question", "metric", "gain"], ascending=[True, True, False])
    row: Any
    for row in ordered.itertuples():
        rows.append(
            (
                f"{row.metric} {arrow[str(row.direction)]}",
                str(row.label),
                f"{write.number(row.value, 3)} {write.interval(row.low, row.high, 3)}",
                write.number(row.null, 3),
                f"{write.number(row.gain, 3)} {write.interval(row.gain_low, row.gain_high, 3)}",
                "at null" if row.at_null else "",
                str(row.n),
            )
        )
    return Table(
        name="leaderboard",
        caption="Automatic scores",
        header=("Metric", "Method", "Score [95 %]", "Null", "Gain over null [95 %]", "", "n"),
        rows=tuple(rows),
        frame=scores,
        note="↑ higher is better, ↓ lower is better. At null: the interval of the gain holds 0, so the score cannot be told from chance.",
    )
