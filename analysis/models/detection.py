"""Sensitivity apart from bias: d' and criterion of each person and condition, and thresholds where stimuli are graded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import pandas as pd

from bench.registry import LimenError, registered, unknown

from ..measures.psychophysics import Sensitivity, m_afc, two_afc, yes_no
from ..people import conditions_of
from ..results import Estimate, Result
from ._people_gaps import against, gaps

Task = Literal["yes/no", "2afc", "m-afc"]
TITLE = "Sensitivity and bias"


@registered("analysis", version=1, citation="doi:10.3758/BF03203619")
def detection(
    trials: pd.DataFrame,
    *,
    baseline: str = "baseline",
    task: Task | None = None,
    alternatives: int = 2,
    signal: str | None = None,
    level: float = 0.95,
) -> Result:
    """Estimate each person's d' and criterion in each condition, and compare the conditions.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, and by task `response` and `expected` (yes/no), `option_position` and
        `expected_position` (2afc, left is 0), or `correct` (m-afc).
    baseline : str
        The condition others are compared with.
    task : str, optional
        'yes/no' if a signal is named; else '2afc' if the positions are there and are 0 and 1, else 'm-afc'.
    alternatives : int
        Of 'm-afc'.
    signal : str, optional
        The expected answer that is the signal, of 'yes/no'.
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'd prime' (null 0), 'criterion' (null 0; of 'm-afc' none) as means over people with t intervals, and 'd prime
        difference', 'criterion difference' from the baseline. `points` has one row a person and condition.

    Raises
    ------
    LimenError
        If the task is unknown, a column is missing, or nothing is named as signal.
    """
    if task is not None and task not in get_args(Task):
        raise unknown("detection, task", task, get_args(Task))
    task = task or _task(trials, signal)
    if task == "yes/no" and signal is None:
        raise LimenError("detection, signal: a yes/no task needs the expected answer that is the signal.")
    if alternatives < 2:
        raise LimenError(f"detection, alternatives: given {alternatives}, allowed is 2 or more.")
    own = {"yes/no": ("response", "expected"), "2afc": ("option_position", "expected_position"), "m-afc": ("correct",)}[
        task
    ]
    lacking = [name for name in ("participant_id", "condition", *own) if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"detection: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    points = sensitivities(trials, task, alternatives=alternatives, signal=signal)
    if not len(points):
        return Result(name="detection", title=TITLE, role="secondary", flags=("undefined",),
                      method="No person has answers of both kinds of trial, so there is no sensitivity.")  # fmt: skip
    names = [name for name in conditions_of(points, baseline) if name in set(points["condition"])]
    estimates: list[Estimate] = []
    for column, quantity in (("d_prime", "d prime"), ("criterion", "criterion")):
        if points[column].isna().all():
            continue
        table = points.pivot(index="participant_id", columns="condition", values=column)[names]
        estimates += against(table, names, quantity, 0.0, level) + gaps(table, names, f"{quantity} difference", level)
    undefined = int(points["d_prime"].isna().sum())
    whole = trials.groupby(["condition", "participant_id"]).ngroups
    facts = {"task": task, "alternatives": alternatives, "below_chance": undefined, "left_out": whole - len(points),
             "median_trials": float(points["trials"].median())}  # fmt: skip
    return Result(name="detection", title=TITLE, role="secondary", method=_method(facts, level), estimates=tuple(estimates),
                  facts=facts, points=points, flags=("undefined",) if undefined else ())  # fmt: skip


def _task(trials: pd.DataFrame, signal: str | None) -> Task:
    if signal is not None:
        return "yes/no"
    places = {"option_position", "expected_position"}
    if places <= set(trials.columns) and set(trials["expected_position"].dropna().unique()) == {0, 1}:
        return "2afc"
    return "m-afc"


def sensitivities(
    trials: pd.DataFrame, task: Task, *, alternatives: int = 2, signal: str | None = None
) -> pd.DataFrame:
    """Return each person's d' and criterion in each condition where they are defined.

    Returns
    -------
    DataFrame
        `condition`, `participant_id`, `d_prime`, `criterion` (NaN for m-afc), `standard_error`, `trials`. Rows without answers
        of both kinds are left out.
    """
    rows = []
    for (condition, person), part in trials.groupby(["condition", "participant_id"], sort=True):
        found = _one(part, task, alternatives, signal)
        if found is None:
            continue
        rows.append(
            {
                "condition": condition, "participant_id": person, "d_prime": found.d_prime, "criterion": found.criterion,
                "standard_error": found.standard_error, "trials": found.n,
            }
        )  # fmt: skip
    return pd.DataFrame(
        rows, columns=["condition", "participant_id", "d_prime", "criterion", "standard_error", "trials"]
    )


def _one(part: pd.DataFrame, task: Task, alternatives: int, signal: str | None) -> Sensitivity | None:
    if task == "m-afc":
        right = part["correct"].dropna()
        return m_afc(int(right.sum()), len(right), alternatives) if len(right) else None
    if task == "2afc":
        part = part[part["option_position"].isin((0, 1)) & part["expected_position"].isin((0, 1))]
        said, there = part["option_position"] == 0, part["expected_position"] == 0
    else:
        part = part[part["response"].notna() & (part["response"].astype(str) != "") & part["expected"].notna()]
        said, there = part["response"].astype(str) == signal, part["expected"].astype(str) == signal
    signals = int(there.sum())
    if not 0 < signals < len(part):
        return None
    rule = two_afc if task == "2afc" else yes_no
    return rule(int((said & there).sum()), signals, int((said & ~there).sum()), len(part) - signals)


def _method(facts: Mapping[str, object], level: float) -> str:
    how = {
        "yes/no": "d' is z(hits) less z(false alarms), the criterion minus half their sum (above 0: 'yes' is said too seldom)",
        "2afc": (
            "d' is z('left' where left was right) less z('left' where right was right), over the square root of 2; the criterion "
            "minus half their sum is the bias of side (above 0: 'left' is said too seldom)"
        ),
        "m-afc": (
            f"d' is that of an unbiased observer with the same accuracy among {facts['alternatives']} alternatives, by numerical "
            "integration; below chance there is none"
        ),
    }[str(facts["task"])]
    below = facts["below_chance"]
    text = f"{how}. Every rate has the log-linear correction, (count + 1/2) / (n + 1), which draws d' of few trials towards 0. "
    text += f"Each person has one value a condition (median {facts['median_trials']:g} trials). "
    if facts["left_out"]:
        text += f"{facts['left_out']} without answers of both kinds were left out. "
    if below:
        text += f"{below} below chance had none and are left out: the means are then too high. "
    return text + (
        "Conditions' means over people are tested against 0 by t, differences within people by paired t, between people by "
        f"Welch's, adjusted by Holm's rule within each quantity. Items are taken as fixed. Intervals are {level:.0%}, not adjusted."
    )
