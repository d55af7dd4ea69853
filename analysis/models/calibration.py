"""Confidence: is it as high as people are right, and does it tell their right answers from their wrong ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from bench.registry import LimenError, registered, unknown

from ..measures.calibration import bin_of, calibration_error, type_two
from ..measures.clustered import clustered_mean
from ..people import conditions_of
from ..results import NAN, Estimate, Result
from ._people_gaps import against, gaps

Scale = Literal["percent", "steps"]
TITLE = "Confidence and accuracy"
BINS = 10
HIGHEST_STEP = 11
"""Above which the largest confidence of a study shows a scale of 0 to 100."""


@registered("analysis", version=1, citation="doi:10.3389/fnhum.2014.00443")
def calibration(
    trials: pd.DataFrame,
    *,
    baseline: str = "baseline",
    scale: Scale | None = None,
    lowest: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Hold confidence against accuracy, by condition.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `correct` (0/1), `confidence`.
    baseline : str
        The condition others are compared with.
    scale : 'percent' (0 to 100) or 'steps' (ordered answers), by the largest value where not given
        Steps are no probabilities: they have no calibration error and no overconfidence.
    lowest : float
        What accuracy the lower end of a percent scale stands for: 0, or that of guessing where the scale begins with a guess.
    resamples, seed : of the bootstrap over people, and of the two nulls
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'accuracy at confidence' (reliability by bin or step), 'calibration error' (ECE; `extra` holds the null of shuffled
        confidence and the floor of perfect calibration), 'overconfidence' (null 0), 'type-2 AUC' (null .5), 'gamma' (null 0),
        means over people, and the differences of the last three from the baseline.

    Raises
    ------
    LimenError
        If a column is missing, or a confidence is not on the scale.
    """
    if scale is not None and scale not in get_args(Scale):
        raise unknown("confidence, scale", scale, get_args(Scale))
    needed = ("participant_id", "condition", "correct", "confidence")
    lacking = [name for name in needed if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"confidence: column '{lacking[0]}' is missing; there are {', '.join(map(str, trials.columns))}."
        )
    data = trials.dropna(subset=["correct", "confidence"])
    if not len(data):
        return Result(name="calibration", title=TITLE, role="secondary", flags=("undefined",),
                      method="No answer has both a confidence and a right or wrong, so nothing can be held against it.")  # fmt: skip
    scale = scale or ("percent" if data["confidence"].max() > HIGHEST_STEP else "steps")
    if scale == "percent":
        if not data["confidence"].between(0, 100).all():
            raise LimenError(
                f"confidence: given {data['confidence'].max():g}, allowed on a percent scale are 0 to 100."
            )
        data = data.assign(confidence=lowest + (1 - lowest) * data["confidence"] / 100)
    names = [name for name in conditions_of(data, baseline) if name in set(data["condition"])]
    people = _people(data)
    estimates = _reliability(data, names, scale, level)
    quantities = [("type-2 AUC", 0.5), ("gamma", 0.0)]
    if scale == "percent":
        estimates += [_error(data[data["condition"] == name], name, resamples, seed, level) for name in names]
        quantities.insert(0, ("overconfidence", 0.0))
    for quantity, null in quantities:
        table = people[quantity].unstack("condition").reindex(columns=names)
        estimates += against(table, names, quantity, null, level) + gaps(table, names, f"{quantity} difference", level)
    facts = {"scale": scale, "lowest": lowest, "answers": len(data), "left_out": len(trials) - len(data)}
    facts["without_both_kinds"] = int(people["type-2 AUC"].isna().sum())
    return Result(name="calibration", title=TITLE, role="secondary", method=_method(scale, facts, resamples, seed, level),
                  estimates=tuple(estimates), facts=facts, points=people.reset_index())  # fmt: skip


def _people(data: pd.DataFrame) -> pd.DataFrame:
    """Return each person's overconfidence, type-2 AUC and gamma in each condition."""
    rows = {}
    for key, part in data.groupby(["condition", "participant_id"], sort=True):
        auc, gamma = type_two(part["confidence"].to_numpy(), part["correct"].to_numpy())
        over = float(part["confidence"].mean() - part["correct"].mean())
        rows[key] = {"overconfidence": over, "type-2 AUC": auc, "gamma": gamma, "answers": len(part)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["condition", "participant_id"])
    return table


def _reliability(data: pd.DataFrame, names: Sequence[str], scale: Scale, level: float) -> list[Estimate]:
    place = bin_of(data["confidence"].to_numpy(), BINS) if scale == "percent" else data["confidence"]
    found = []
    for (name, place_of), part in data.groupby([data["condition"], pd.Series(place, index=data.index)], sort=True):
        one = clustered_mean(part["correct"].to_numpy(), part["participant_id"].to_numpy())
        known = one.clusters > 1 and 0 < one.value < 1
        low, high = one.logit_interval(level) if known else (NAN, NAN)
        at = float(str(place_of))
        shown = f"{at / BINS:.0%} to {(at + 1) / BINS:.0%}" if scale == "percent" else f"step {at:g}"
        extra = {"condition": name, "confidence": float(part["confidence"].mean()), "people": one.clusters}
        found.append(
            Estimate(
                quantity="accuracy at confidence", label=f"{name}: {shown}", value=one.value, low=low, high=high, level=level,
                interval="t on log-odds, clustered by participant" if known else "", df=(one.df,) if known else (), n=one.n,
                unit="answers", flags=() if known else ("no_spread" if one.clusters > 1 else "one_participant",), extra=extra,
            )
        )  # fmt: skip
    return sorted(found, key=lambda item: names.index(item.extra["condition"]))


def _error(data: pd.DataFrame, name: str, resamples: int, seed: int, level: float) -> Estimate:
    columns = (data[column].to_numpy() for column in ("confidence", "correct", "participant_id"))
    found = calibration_error(*columns, bins=BINS, resamples=resamples, seed=seed, level=level)
    known = bool(np.isfinite(found.low))
    return Estimate(
        quantity="calibration error", label=name, value=found.value, low=found.low, high=found.high, level=level,
        interval="inverted tests over participants" if known else "", p=found.null_p, n=found.people,
        flags=() if known else ("one_participant",),
        extra={"null": found.null, "floor": found.floor, "floor_high": found.floor_high, "floor_p": found.floor_p, "answers": found.n},
    )  # fmt: skip


def _method(scale: Scale, facts: Mapping[str, object], resamples: int, seed: int, level: float) -> str:
    text = f"{facts['answers']:,} answers with a confidence; {facts['left_out']:,} had none, or no right answer. "
    if scale == "percent":
        text += (
            f"Confidence from 0 to 100 is read as a probability of being right from {facts['lowest']:g} to 1. The expected "
            f"calibration error is the mean distance of accuracy from confidence over {BINS} bins of equal width, weighted by "
            f"answers; its interval inverts tests over participants, which takes its upward bias "
            f"off, so that it may lie below the error itself (seed {seed}). Its null is that of confidences shuffled among each person's answers (p: shuffles as small), its "
            "floor what answers that are right exactly as often as the confidence says would give. Overconfidence is mean "
            "confidence less accuracy. "
        )
    else:
        text += (
            "The steps are ordered answers and no probabilities: there is no calibration error and no overconfidence. "
        )
    return text + (
        "The type-2 AUC is the probability that a right answer of a person has the higher confidence than a wrong one (.5: "
        f"confidence tells nothing), gamma the same without ties (0); {facts['without_both_kinds']} people by condition had no "
        "answers of both kinds. These are means over people, tested by t, differences within people or by Welch's t, adjusted "
        f"by Holm's rule within each quantity. Intervals are {level:.0%}, not adjusted."
    )
