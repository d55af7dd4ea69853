"""Psychometric functions: accuracy over a graded stimulus, with guesses and lapses, and the threshold of each condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.registry import LimenError, registered

from ..measures.psychophysics import MOST_LAPSES, Psychometric, psychometric_function
from ..people import conditions_of, mean_estimate
from ..results import NAN, Estimate, Result
from ._people_gaps import against, gaps

TITLE = "Psychometric function"
DRAWS = 200
FEWEST = 40
"""Answers of a person in a condition below which people are pooled."""


@registered("analysis", version=1, citation="doi:10.3758/BF03194544")
def psychometric(
    trials: pd.DataFrame,
    *,
    stimulus: str = "stimulus_level",
    alternatives: int = 2,
    target: float | None = None,
    baseline: str = "baseline",
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Fit accuracy over the level of the stimulus and compare thresholds between conditions.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `condition`, `correct` and the column of the stimulus level, a number on the axis
        meant (take the logarithm first where it is logarithmic).
    stimulus : str
        Column of the level.
    alternatives : int
        The guess rate is 1 over it.
    target : float, optional
        Accuracy that defines the threshold; half-way from guessing to 1 by default.
    baseline : str
        The condition others are compared with.
    seed : of the goodness of fit and the bootstrap
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        'threshold' and 'threshold difference'. Where people have 40 answers a condition each has a fit of their own and the
        intervals are t over people; else one fit a condition with a bootstrap over people. `extra` has slope, lapse rate and
        the p of the deviance (pooled). A condition without a threshold is flagged `undefined`.

    Raises
    ------
    LimenError
        If a column is missing or the target is not between guessing and 1.
    """
    if stimulus not in trials.columns:
        return Result(name="psychometric", title=TITLE, role="secondary", flags=("undefined",),
                      method=f"The table has no graded stimulus: there is no column '{stimulus}'.")  # fmt: skip
    lacking = [name for name in ("participant_id", "condition", "correct") if name not in trials.columns]
    if lacking:
        raise LimenError(
            f"psychometric function: column '{lacking[0]}' is missing; there are {', '.join(trials.columns)}."
        )
    target = (1 + 1 / alternatives) / 2 if target is None else target
    if not 1 / alternatives < target < 1 - MOST_LAPSES:
        raise LimenError(
            f"psychometric function, target: given {target:g}, allowed is between {1 / alternatives:.3f} and {1 - MOST_LAPSES:g}."
        )
    data = trials.assign(level=pd.to_numeric(trials[stimulus], errors="coerce")).dropna(subset=["level", "correct"])
    names = [name for name in conditions_of(data, baseline) if name in set(data["condition"])]
    if data["level"].nunique() < 2:
        return Result(name="psychometric", title=TITLE, role="secondary", flags=("undefined",),
                      method="The stimulus has fewer than two levels, so there is no function of it.")  # fmt: skip
    answers = data.groupby(["condition", "participant_id"]).size()
    pooled = {name: fit_counts(_counts(data[data["condition"] == name]), alternatives, DRAWS, seed) for name in names}
    points = _points(data)
    if answers.min() >= FEWEST and answers.groupby("condition").size().min() >= 2:
        table = _each(data, names, alternatives, target)
        found = against(table, names, "threshold", NAN, level) + gaps(table, names, "threshold difference", level)
        how = f"each person's own function ({int(table.isna().sum().sum())} had no threshold and are left out), t over people"
    else:
        found = _bootstrapped(data, names, alternatives, target, seed, level)
        how = f"one function a condition over all people, bootstrap over people ({DRAWS} draws)"
    estimates = tuple(_with_fit(item, pooled.get(item.label)) for item in found)
    levels = _at_levels(data, names, 1 / alternatives, level)
    curves = {name: _curve(fit, data["level"]) for name, fit in pooled.items() if fit is not None}
    facts = {"target": target, "alternatives": alternatives, "axis": stimulus, "curves": curves}
    return Result(name="psychometric", title=TITLE, role="secondary", method=_method(facts, how, level), facts=facts,
                  estimates=(*estimates, *levels), points=points)  # fmt: skip


def fit_counts(counts: pd.DataFrame, alternatives: int, resamples: int = 0, seed: int = 0) -> Psychometric | None:
    """Fit counts (index: level; columns 'right', 'answers'); None with fewer than two levels."""
    counts = counts[counts["answers"] > 0]
    if len(counts) < 2:
        return None
    return psychometric_function(
        counts.index.to_numpy(dtype=float), counts["right"].to_numpy(), counts["answers"].to_numpy(),
        alternatives=alternatives, resamples=resamples, seed=seed,
    )  # fmt: skip


def _counts(data: pd.DataFrame) -> pd.DataFrame:
    groups = data.groupby("level")["correct"]
    return pd.DataFrame({"right": groups.sum(), "answers": groups.size()})


def _threshold(fit: Psychometric | None, target: float, levels: pd.Series) -> float:
    """Return the threshold; NaN where there is none, or none within one range of the levels beyond them."""
    if fit is None:
        return NAN
    try:
        value = fit.threshold(target)[0]
    except LimenError:
        return NAN
    reach = levels.max() - levels.min()
    return value if levels.min() - reach <= value <= levels.max() + reach else NAN


def _each(data: pd.DataFrame, names: Sequence[str], alternatives: int, target: float) -> pd.DataFrame:
    found = {
        key: _threshold(fit_counts(_counts(part), alternatives), target, data["level"])
        for key, part in data.groupby(["participant_id", "condition"])
    }
    return pd.Series(found).unstack().reindex(columns=list(names))


def _bootstrapped(
    data: pd.DataFrame, names: Sequence[str], alternatives: int, target: float, seed: int, level: float
) -> list[Estimate]:
    draws, tail = np.random.default_rng(seed), (1 - level) / 2
    keys = ["participant_id", "condition", "level"]
    table = data.groupby(keys)["correct"].agg(right="sum", answers="size").unstack(["condition", "level"], fill_value=0)
    people, whole = len(table), np.ones(len(table))

    def thresholds(weights: np.ndarray) -> np.ndarray:
        sums = pd.Series(weights @ table.to_numpy(), index=table.columns)
        fits = (fit_counts(sums.xs(name, level="condition").unstack(0), alternatives) for name in names)
        return np.array([_threshold(fit, target, data["level"]) for fit in fits])

    values = thresholds(whole)
    made = np.array([thresholds(draws.multinomial(people, whole / people)) for _ in range(DRAWS if people > 1 else 0)])
    made = made.reshape(-1, len(names))
    rows = [("threshold", name, values[i], made[:, i]) for i, name in enumerate(names)]
    rows += [
        ("threshold difference", f"{name} - {names[0]}", values[i] - values[0], made[:, i] - made[:, 0])
        for i, name in enumerate(names)
        if i
    ]
    found = []
    for quantity, label, value, drawn in rows:
        kept = drawn[np.isfinite(drawn)]
        known = math.isfinite(value) and len(kept) > 0.95 * DRAWS
        low, high = np.quantile(kept, [tail, 1 - tail]) if known else (NAN, NAN)
        found.append(
            Estimate(
                quantity=quantity, label=label, value=float(value), low=float(low), high=float(high), level=level, n=people,
                interval="bootstrap over participants" if known else "", flags=() if known else ("undefined",),
            )
        )  # fmt: skip
    return found


def _with_fit(item: Estimate, fit: Psychometric | None) -> Estimate:
    if fit is None:
        return item
    more = {
        "slope": fit.slope,
        "lapse": fit.lapse,
        "intercept": fit.intercept,
        "deviance": fit.deviance,
        "deviance_p": fit.deviance_p,
    }
    return replace(item, extra={key: value for key, value in item.extra.items() if key != "null"} | more)


def _at_levels(data: pd.DataFrame, names: Sequence[str], chance: float, level: float) -> list[Estimate]:
    """Estimate each condition's accuracy at each level: a mean over people, beside guessing."""
    found = []
    for name in names:
        for value, part in data[data["condition"] == name].groupby("level"):
            means = part.groupby("participant_id")["correct"].mean().to_numpy(dtype=float)
            item = mean_estimate(means, quantity="accuracy at level", label=name, level=level)
            found.append(replace(item, extra={**item.extra, "level": float(str(value)), "null": chance}))
    return found


def _curve(fit: Psychometric, levels: pd.Series) -> dict[str, list[float]]:
    """Return the fitted function over the range of the levels."""
    places = np.linspace(levels.min(), levels.max(), 101)
    return {"level": places.tolist(), "accuracy": fit.accuracy(places).tolist()}


def _points(data: pd.DataFrame) -> pd.DataFrame:
    return data.groupby(["condition", "level"])["correct"].agg(accuracy="mean", answers="size").reset_index()


def _method(facts: dict[str, object], how: str, level: float) -> str:
    return (
        f"Accuracy over '{facts['axis']}' is g + (1 - g - l) Phi(b0 + b1 x) with a guess rate g of 1/{facts['alternatives']} and a "
        f"lapse rate l between 0 and {MOST_LAPSES:g}, by maximum likelihood. The threshold is the level at which it is "
        f"{facts['target']:.3f}: {how}. Slope, lapse rate and goodness of fit (deviance against {DRAWS} data sets made from the fit) "
        f"are of the answers pooled, which makes the slope shallower than a person's own. Intervals are {level:.0%}, not adjusted."
    )
