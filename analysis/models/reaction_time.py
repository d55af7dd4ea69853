"""Response times: a mixed model of their logarithm with declared trimming, beside the participants' medians."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.registry import LimenError, registered

from ..people import mean_estimate
from ..results import Estimate, Result
from ._people_gaps import by_holm, gap
from .crossed import UNITS, crossed

TITLE = "Response times"
LOG = "log_rt"
REASONS = ("no time or timed out", "wrong answer", "below the lower bound", "above the upper bound", "kept")


@registered("analysis", version=1, citation="doi:10.1016/j.jml.2007.12.005")
def reaction_time(
    trials: pd.DataFrame,
    *,
    formula: str = "rt_ms ~ condition + (1|participant) + (1|item)",
    bounds_ms: tuple[float, float] = (200.0, 30_000.0),
    right_only: bool = True,
    references: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> Result:
    """Compare response times by a mixed model of their logarithm, participants and items crossed, as ratios.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `rt_ms`, `participant_id`, the item and factors of the formula; `correct` where only right answers
        count, `timed_out` where there was a deadline.
    formula : str
        Of the design; its response, whatever it names, stands for the logarithm of the response time.
    bounds_ms : (lower, upper)
        Times outside are left out, counted by reason. Declare them before the data are seen.
    right_only : bool
        Leave out answers that are not right; without effect where no answer can be right or wrong.
    references : mapping, optional
        Factor -> the level others are compared with; the first by name where none is given.
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'response time of <factor>' in ms (geometric means of the population), 'response time ratio of <factor>' (1: as fast),
        the same 'by medians' of participants as companion, 'term' (F tests), and 'share of times left out' by condition.

    Raises
    ------
    LimenError
        If a column is missing or the bounds are no interval.
    """
    low, high = bounds_ms
    if not 0 <= low < high:
        raise LimenError(f"response times, bounds_ms: given {low:g} to {high:g}, allowed is 0 <= lower < upper.")
    lacking = [name for name in ("rt_ms", "participant_id") if name not in trials.columns]
    if lacking:
        raise LimenError(f"response times: column '{lacking[0]}' is missing; there are {', '.join(trials.columns)}.")
    right_only = right_only and "correct" in trials.columns and bool(trials["correct"].notna().any())
    reason = trimmed(trials, bounds_ms, right_only=right_only)
    kept = trials[reason == "kept"]
    kept = kept.assign(**{LOG: np.log(kept["rt_ms"].astype(float))})
    counts = {name: int((reason == name).sum()) for name in REASONS}
    left_out = _left_out(trials, reason, level)
    fitted = crossed(
        kept, formula=f"{LOG} ~ {formula.partition('~')[2]}", references=references, family="gaussian", level=level
    )
    facts = {**fitted.facts, "counts": counts, "bounds_ms": [low, high], "right_only": right_only}
    said = _trimming(counts, bounds_ms, right_only)
    if not fitted.estimates:
        return Result(name="reaction_time", title=TITLE, role="secondary", flags=fitted.flags or ("undefined",), facts=facts,
                      estimates=tuple(left_out), method=said + "No model could be fitted; the flags say why.")  # fmt: skip
    own = [_natural(item) for item in fitted.estimates]
    medians, points = _medians(kept, fitted.estimates, level)
    apart = _apart(fitted.estimates, medians)
    flags = (*fitted.flags, *(("disagrees_with_medians",) if apart else ()))
    method = said + _method(fitted.method)
    return Result(name="reaction_time", title=TITLE, role="secondary", method=method, estimates=(*own, *medians, *left_out),
                  facts={**facts, "disagreements": apart}, flags=flags, points=points)  # fmt: skip


def trimmed(trials: pd.DataFrame, bounds_ms: tuple[float, float], *, right_only: bool) -> pd.Series:
    """Return why each answer's time is left out, the first reason of `REASONS` that holds, or 'kept'."""
    time = pd.to_numeric(trials["rt_ms"], errors="coerce")
    none = ~np.isfinite(time) | (time <= 0)
    if "timed_out" in trials.columns:
        none |= trials["timed_out"].fillna(False).astype(bool)
    wrong = (trials["correct"] != 1) if right_only else pd.Series(False, index=trials.index)
    found = np.select([none, wrong, time < bounds_ms[0], time > bounds_ms[1]], REASONS[:-1], default=REASONS[-1])
    return pd.Series(found, index=trials.index)


def _left_out(trials: pd.DataFrame, reason: pd.Series, level: float) -> list[Estimate]:
    """Estimate how much each condition loses to bounds and time-outs: a loss that differs can make a difference of times."""
    lost = reason.isin([name for name in REASONS if name not in ("kept", "wrong answer")])
    condition = trials["condition"] if "condition" in trials.columns else pd.Series("all", index=trials.index)
    shares = lost.groupby([condition, trials["participant_id"]], sort=True).mean()
    found = [
        mean_estimate(part.to_numpy(), quantity="share of times left out", label=str(name), level=level)
        for name, part in shares.groupby(level=0, sort=True)
    ]
    return [
        replace(item, low=max(item.low, 0.0), high=min(item.high, 1.0)) if item.interval else item for item in found
    ]


def _natural(item: Estimate) -> Estimate:
    """Turn an estimate of the logarithm into milliseconds or a ratio."""
    if item.quantity == "term":
        return item
    quantity = item.quantity.replace("mean difference of", "response time ratio of")
    quantity = quantity.replace("mean of", "response time of").replace("slope of", "response time ratio by")
    if item.quantity == "mean":
        quantity = "response time"
    label = item.label.replace("mean for one unit", "for one unit")
    ratio = "ratio" in quantity
    if ratio:
        label = label.replace(" - ", " / ")
    extra = {"log": item.value, "log_standard_error": item.extra["standard_error"], "scale": "ratio" if ratio else "ms"}
    values = {name: math.exp(getattr(item, name)) for name in ("value", "low", "high")}
    return replace(item, quantity=quantity, label=label, extra=extra, **values)  # type: ignore[arg-type]


def _medians(
    kept: pd.DataFrame, fitted: Sequence[Estimate], level: float
) -> tuple[list[Estimate], pd.DataFrame | None]:
    """Compare participants' median times at the same contrasts: within a person where the factor varies there, else between."""
    data = kept.rename(columns={theirs: ours for ours, theirs in UNITS.items()})
    found: list[Estimate] = []
    for factor in dict.fromkeys(_factor(item) for item in fitted if _factor(item)):
        assert factor is not None
        medians = data.groupby([data["participant"], data[factor].astype(str)])[LOG].median().unstack()
        gaps = [
            _median_gap(medians, *item.label.split(" - ", 1), factor=factor, level=level)
            for item in fitted
            if _factor(item) == factor
        ]
        found += by_holm(gaps)
    if "condition" not in data.columns:
        return found, None
    points = data.groupby(["condition", "participant"], sort=True)["rt_ms"].median().rename("median_ms").reset_index()
    return found, points.rename(columns={"participant": "participant_id"})


def _factor(item: Estimate) -> str | None:
    name = item.quantity.removeprefix("mean difference of ")
    return name if name != item.quantity and " at " not in item.label else None


def _median_gap(medians: pd.DataFrame, first: str, second: str, *, factor: str, level: float) -> Estimate:
    item = gap(medians, first, second, f"response time ratio of {factor}, by medians", level)
    how = f"{item.interval} of log medians" if item.interval else ""
    values = {name: math.exp(getattr(item, name)) for name in ("value", "low", "high")}
    return replace(item, label=f"{first} / {second}", interval=how, extra={"log": item.value}, **values)  # type: ignore[arg-type]


def _apart(fitted: Sequence[Estimate], medians: Sequence[Estimate]) -> list[str]:
    """Name the ratios that lie more than one standard error from those of the medians."""
    theirs = {(item.quantity, item.label): item.extra.get("log", math.nan) for item in medians}
    found = []
    for item in fitted:
        factor = _factor(item)
        other = theirs.get((f"response time ratio of {factor}, by medians", item.label.replace(" - ", " / ")), math.nan)
        if factor and abs(item.value - other) > item.extra["standard_error"]:
            found.append(f"{factor}: {item.label}")
    return found


def _trimming(counts: Mapping[str, int], bounds_ms: tuple[float, float], right_only: bool) -> str:
    rows = sum(counts.values())
    parts = [f"{counts[name]:,} {name}" for name in REASONS[:-1] if name != "wrong answer" or right_only]
    return (
        f"Response times from {bounds_ms[0]:g} to {bounds_ms[1]:g} ms{' of right answers' if right_only else ''}: "
        f"{counts['kept']:,} of {rows:,} answers; left out were, each by the first reason that held, {', '.join(parts)}. "
    )


def _method(fitted: str) -> str:
    return (
        f"The response is the natural logarithm of the time. {fitted} Means are geometric means, differences ratios, turned back "
        "from the logarithm with their intervals. Beside it the participants' median times are compared, as logarithms, by t "
        "tests (within participants where a factor varies there), with Holm's rule; these take the items as fixed."
    )
