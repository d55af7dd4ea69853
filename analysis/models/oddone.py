"""Odd one out: accuracy of each rule over chance, learning within a block, and people beside networks on the same trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.registry import LimenError, registered

from ..measures.cvr import SOLVED, Interval, efficiency
from ..people import mean_estimate
from ..results import Estimate, Result, holm
from .crossed import crossed

PEOPLE, NETWORKS = "people", "networks"
NETWORK = "network"
"""Source of the rows of networks."""
COLUMNS = ("participant_id", "item_id", "rule", "composition", "problem", "correct")
CHANCE = 0.25
FORMULA = "correct ~ composition + problem + (1|participant) + (1|rule) + (1|item)"


@dataclass(frozen=True)
class _Settings:
    chance: float
    level: float
    draws: int
    seed: int


@registered("analysis", version=1, citation="arXiv:2206.05379")
def oddone(
    trials: pd.DataFrame,
    *,
    networks: pd.DataFrame | None = None,
    formula: str | None = FORMULA,
    chance: float = CHANCE,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Result:
    """Score rules, learning within a block and sample efficiency, of people and of networks, which are never pooled.

    Parameters
    ----------
    trials : DataFrame
        One row an answer: `participant_id`, `item_id`, `rule`, `composition` ('elementary' or 'composed'), `problem` (its
        number in the block, from 1), `correct` (0/1); perhaps `confidence` and `source`. Rows of the source 'network' are
        the networks', all others the people's.
    networks : DataFrame, optional
        Rows of networks from another table, with the same columns.
    formula : str, optional
        Mixed model of the people's answers, fitted by `crossed`; None leaves it out.
    chance : float
        Accuracy of guessing.
    draws, seed : int
        Of the bootstrap over rules.
    level : float
        Of the intervals, not adjusted.

    Returns
    -------
    Result
        For each kind of observer: 'accuracy of rule' and 'above chance of rule', 'accuracy difference of composition
        (over rules)', 'slope of problem (within observers)', 'AUC' and 'SES over a block', 'rules solved'; for people
        'confidence, right minus wrong' and the mixed model's estimates; with both, 'people minus networks'.

    Raises
    ------
    LimenError
        If a column is missing.
    """
    settings = _Settings(chance, level, draws, seed)
    groups = _groups(trials, networks)
    estimates: list[Estimate] = []
    for name, rows in groups.items():
        estimates += _of_observers(name, rows, settings)
    if len(groups) == 2:
        estimates += _side_by_side(groups[PEOPLE], groups[NETWORKS], level)
    flags: tuple[str, ...] = () if groups else ("undefined",)
    facts: dict[str, Any] = {name: _counts(rows) for name, rows in groups.items()}
    facts["one part alone"] = 0.5 + 0.5 * chance
    if PEOPLE in groups and formula is not None:
        fitted = crossed(groups[PEOPLE], formula=formula, chance=chance, level=level)
        estimates += [replace(one, quantity=f"{one.quantity} (mixed model)") for one in fitted.estimates]
        facts["mixed model"] = dict(fitted.facts)
        flags = tuple(dict.fromkeys([*flags, *fitted.flags]))
    return Result(
        name="oddone", title="Odd one out: rules, learning and sample efficiency", role="primary",
        method=_method(settings, formula if PEOPLE in groups else None, len(groups) == 2), estimates=tuple(estimates),
        facts=facts, points=_points(groups), flags=flags,
    )  # fmt: skip


def _groups(trials: pd.DataFrame, networks: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """Split the answers by kind of observer; rows without a right answer (descriptions) are left out."""
    for where, table in (("trials", trials), ("networks", networks)):
        lacking = [name for name in COLUMNS if table is not None and name not in table.columns]
        if lacking:
            raise LimenError(
                f"oddone analysis, {where}: column '{lacking[0]}' is missing; needed are {', '.join(COLUMNS)}."
            )
    source = trials["source"] if "source" in trials else pd.Series("", index=trials.index)
    theirs = [trials[source == NETWORK], *([] if networks is None else [networks])]
    found = {
        PEOPLE: trials[source != NETWORK],
        NETWORKS: pd.concat([part for part in theirs if len(part)] or theirs[:1]),
    }
    kept = {name: rows[rows["correct"].notna()] for name, rows in found.items()}
    return {
        name: rows.assign(correct=rows["correct"].astype(float), problem=rows["problem"].astype(int))
        for name, rows in kept.items()
        if len(rows)
    }


def _of_observers(name: str, rows: pd.DataFrame, settings: _Settings) -> list[Estimate]:
    estimates = _by_rule(name, rows, settings)
    estimates += _composition(name, rows, settings.level)
    estimates += _learning(name, rows, settings.level)
    estimates += _efficiency(name, rows, settings)
    if name == PEOPLE and "confidence" in rows and rows["confidence"].notna().any():
        estimates += _confidence(rows, settings.level)
    return estimates


def _unit(name: str) -> tuple[str, str]:
    """Return the column that is resampled for accuracies: people vary, and a network's answers vary over problems only."""
    return ("participant_id", "participants") if name == PEOPLE else ("item_id", "problems")


def _by_rule(name: str, rows: pd.DataFrame, settings: _Settings) -> list[Estimate]:
    """Average each rule over observers, or problems, and compare it with chance."""
    column, unit = _unit(name)
    means = rows.groupby(["rule", column], sort=True)["correct"].mean()
    found, above = [], []
    for rule, values in means.groupby(level=0, sort=True):
        made = mean_estimate(
            values.to_numpy(), quantity=f"accuracy of rule, {name}", label=str(rule), level=settings.level, unit=unit
        )
        found.append(made)
        above.append(_against(made, settings.chance, f"above chance of rule, {name}"))
    adjusted = holm(item.p for item in above)
    return found + [
        replace(item, p_adjusted=p, adjustment="Holm over rules") for item, p in zip(above, adjusted, strict=True)
    ]


def _against(made: Estimate, null: float, quantity: str) -> Estimate:
    """Subtract a null value from a mean and test it by t; without spread there is no test."""
    shifted = replace(made, quantity=quantity, value=made.value - null, low=made.low - null, high=made.high - null)
    return _tested(shifted) if made.interval else shifted


def _tested(made: Estimate) -> Estimate:
    t = made.value / made.extra["standard_error"]
    return replace(made, statistic="t", statistic_value=t, p=float(2 * stats.t.sf(abs(t), made.df[0])))


def _composition(name: str, rows: pd.DataFrame, level: float) -> list[Estimate]:
    """Compare elementary with composed rules over rules, which are what the claim is about (Welch's t)."""
    means = rows.groupby(["composition", "rule"])["correct"].mean()
    kinds = [means[means.index.get_level_values(0) == kind].to_numpy() for kind in ("elementary", "composed")]
    quantity, label = f"accuracy difference of composition over rules, {name}", "elementary - composed"
    if min(map(len, kinds)) < 2:
        return []
    value = float(kinds[0].mean() - kinds[1].mean())
    parts = [kind.var(ddof=1) / len(kind) for kind in kinds]
    n = len(kinds[0]) + len(kinds[1])
    if sum(parts) < 1e-12:
        return [Estimate(quantity=quantity, label=label, value=value, n=n, unit="rules", flags=("no_spread",))]
    error = float(np.sqrt(sum(parts)))
    df = float(sum(parts) ** 2 / sum(part**2 / (len(kind) - 1) for part, kind in zip(parts, kinds, strict=True)))
    half, t = float(stats.t.ppf((1 + level) / 2, df)) * error, value / error
    return [
        Estimate(
            quantity=quantity, label=label, value=value, low=value - half, high=value + half, level=level,
            interval="Welch's t", statistic="t", statistic_value=t, df=(df,), p=float(2 * stats.t.sf(abs(t), df)),
            n=n, unit="rules", extra={"standard_error": error},
        )
    ]  # fmt: skip


def _learning(name: str, rows: pd.DataFrame, level: float) -> list[Estimate]:
    """Fit a line of accuracy over the number of the problem to each observer's blocks, and average the slopes.

    Within a block only: what differs between rules or between blocks cannot enter the slope.
    """
    blocks = rows.groupby(["participant_id", "rule"])
    x = rows["problem"] - blocks["problem"].transform("mean")
    y = rows["correct"] - blocks["correct"].transform("mean")
    sums = pd.DataFrame({"person": rows["participant_id"], "xy": x * y, "xx": x * x}).groupby("person").sum()
    sums = sums[sums["xx"] > 0]
    if sums.empty:
        return []
    slopes = (sums["xy"] / sums["xx"]).to_numpy()
    unit = "participants" if name == PEOPLE else "sessions"
    made = mean_estimate(
        slopes,
        quantity=f"slope of problem within observers, {name}",
        label="accuracy for one problem",
        level=level,
        unit=unit,
    )
    return [_tested(made) if made.interval else made]


def _efficiency(name: str, rows: pd.DataFrame, settings: _Settings) -> list[Estimate]:
    """Score the curve of accuracy over the problems of a block, its number taken as the number of samples seen."""
    curves = rows.groupby(["rule", "problem"])["correct"].mean().unstack("problem").dropna()
    if curves.empty:
        return []
    sizes = [int(number) for number in curves.columns]
    scores = efficiency(curves.to_numpy(), sizes, draws=settings.draws, seed=settings.seed, level=settings.level)
    whole = curves.mean(axis=1).to_numpy()[:, None]
    solved = efficiency(whole, [1], draws=settings.draws, seed=settings.seed, level=settings.level).solved[0]
    count = Interval(
        value=solved.value * solved.n, low=solved.low * solved.n, high=solved.high * solved.n, n=solved.n,
        samples=solved.samples * solved.n,
    )  # fmt: skip
    label = f"problems {sizes[0]} to {sizes[-1]}"
    return [
        _from(scores.auc, f"AUC over a block, {name}", label, settings.level),
        _from(scores.ses, f"SES over a block, {name}", label, settings.level),
        _from(count, f"rules solved, {name}", f"accuracy of at least {SOLVED:.0%}", settings.level),
    ]


def _from(score: Interval, quantity: str, label: str, level: float) -> Estimate:
    interval = "" if np.isnan(score.low) else "percentile bootstrap over rules"
    return Estimate(quantity=quantity, label=label, value=score.value, low=score.low, high=score.high, level=level,
                    interval=interval, n=score.n, unit="rules")  # fmt: skip


def _confidence(rows: pd.DataFrame, level: float) -> list[Estimate]:
    """Average each person's confidence, and its difference between right and wrong answers."""
    per = rows.groupby(["participant_id", "correct"])["confidence"].mean().unstack("correct")
    found = [
        mean_estimate(values.dropna().to_numpy(), quantity="confidence, people", label=str(kind), level=level)
        for kind, values in rows.groupby(["composition", "participant_id"])["confidence"].mean().groupby(level=0)
    ]
    if {0.0, 1.0} <= set(per.columns):
        gaps = (per[1.0] - per[0.0]).dropna().to_numpy()
        made = mean_estimate(gaps, quantity="confidence, right minus wrong, people", label="all rules", level=level)
        found.append(_tested(made) if made.interval else made)
    return found


def _side_by_side(people: pd.DataFrame, networks: pd.DataFrame, level: float) -> list[Estimate]:
    """Compare people with networks on the problems that both answered: per rule over problems, and overall over rules."""
    paired = pd.concat(
        {
            name: rows.groupby(["rule", "item_id"])["correct"].mean()
            for name, rows in ((PEOPLE, people), (NETWORKS, networks))
        },
        axis=1,
    ).dropna()
    gaps = paired[PEOPLE] - paired[NETWORKS]
    found = []
    for rule, values in gaps.groupby(level=0, sort=True):
        made = mean_estimate(
            values.to_numpy(), quantity="people minus networks", label=str(rule), level=level, unit="problems"
        )
        found.append(_tested(made) if made.interval else made)
    adjusted = holm(item.p for item in found)
    found = [replace(item, p_adjusted=p, adjustment="Holm over rules") for item, p in zip(found, adjusted, strict=True)]
    means = gaps.groupby(level=0).mean().to_numpy()
    whole = mean_estimate(
        means, quantity="people minus networks over rules", label="all rules", level=level, unit="rules"
    )
    return [*found, _tested(whole) if whole.interval else whole, *_alike(paired, level)]


def _alike(paired: pd.DataFrame, level: float) -> list[Estimate]:
    """Correlate over rules: are rules that are hard for people hard for networks?"""
    means = paired.groupby(level=0).mean()
    if len(means) < 4 or (means.std(ddof=1) < 1e-12).any():
        return []
    rho = stats.spearmanr(means[PEOPLE], means[NETWORKS])
    z = np.arctanh(np.clip(rho.statistic, -1 + 1e-12, 1 - 1e-12))
    half = float(stats.norm.ppf((1 + level) / 2)) * np.sqrt(1.06 / (len(means) - 3))
    return [
        Estimate(
            quantity="difficulty of rules, people and networks", label="Spearman rho", value=float(rho.statistic),
            level=level,
            low=float(np.tanh(z - half)), high=float(np.tanh(z + half)), interval="Fisher z", statistic="rho",
            statistic_value=float(rho.statistic), p=float(rho.pvalue), n=len(means), unit="rules",
        )
    ]  # fmt: skip


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    named: Iterable[tuple[str, str]] = (("observers", "participant_id"), ("rules", "rule"), ("problems", "item_id"))
    return {name: int(rows[column].nunique()) for name, column in named} | {"answers": len(rows)}


def _points(groups: dict[str, pd.DataFrame]) -> pd.DataFrame | None:
    """Return accuracy by observers, rule and number of the problem: the learning curves."""
    tables: Sequence[pd.DataFrame] = [
        rows.groupby(["composition", "rule", "problem"])["correct"].agg(accuracy="mean", answers="size").reset_index().assign(observers=name)
        for name, rows in groups.items()
    ]  # fmt: skip
    return pd.concat(tables, ignore_index=True) if tables else None


def _method(settings: _Settings, formula: str | None, both: bool) -> str:
    said = (
        "Accuracy of a rule is the mean over participants (of a network, over problems) with a t interval, tested against "
        f"{settings.chance:g} and adjusted by Holm's rule over rules. Elementary and composed rules are compared over rules by "
        "Welch's t. The slope of learning is of accuracy on the number of the problem within an observer's blocks, averaged over "
        "observers (t). AUC is the plain mean and SES the mean weighted by 1 / (1 + ln n) of the rules' curves over the n-th "
        f"problem of a block; a rule is solved from an accuracy of {SOLVED:.0%}. Their intervals are percentile bootstrap intervals "
        f"that resample the rules ({settings.draws} draws). Who finds only one part of a composed rule is right in "
        f"{0.5 + 0.5 * settings.chance:.1%} of its problems. Intervals are {settings.level:.0%}, not adjusted."
    )
    if both:
        said += " People and networks are compared on the problems that both answered, paired by problem; they are never pooled."
    if formula:
        said += f" The mixed model of the people's answers is {formula}; see the analysis 'crossed'."
    return said
