"""The figures of a report: participants first, then whatever the quantities of each result allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from .. import figures
from ..battery.utility import default_utilities
from ..figures import Picture
from ..mixed_models.formula import parse
from ..models.participant_means import participant_means
from ..models.reaction_time import trimmed
from ..people import session_ends
from ..results import Result
from ..tables.results import is_term
from .analysis import Analysed

WITHOUT = ("participant_means", "item_means", "mixed_model", "cluster_glm", "utility", "model_split", "anova", "link")
"""Results whose figures are made here, or that have none."""
MOST = 2
"""Figures of a secondary result; all its numbers are in its tables."""


def draw(analysed: Analysed) -> dict[str, tuple[Picture, ...]]:
    """Draw the figures of each part of the page.

    Returns
    -------
    dict
        'answer', 'flow' and the name of each result -> its pictures; names of pictures are unique over all.
    """
    found = {"answer": _head(analysed), "flow": (figures.flow_chart(analysed.flow),)}
    found |= _of_utility(analysed) if analysed.utility else {}
    primary = next(iter(analysed.results))
    taken = {picture.name for pictures in found.values() for picture in pictures}
    for name, result in analysed.results.items():
        if name in WITHOUT or name in found:
            continue
        points = level_points(analysed, result)
        values = replace(result, estimates=tuple(item for item in result.estimates if not is_term(item)))
        made = figures.pictures_of(values, chance=analysed.study.chance, points=points)
        made = made if name == primary else [*_times(analysed, result), *made][:MOST]
        found[name] = tuple(picture for picture in made if picture.name not in taken)
        taken |= {picture.name for picture in made}
    if not found["answer"]:
        found["answer"], found[primary] = found.get(primary, ())[:1], found.get(primary, ())[1:]
    return found


def unique(drawn: Mapping[str, Iterable[Picture]]) -> list[Picture]:
    """List every picture once, in the order of the page."""
    return list({picture.name: picture for pictures in drawn.values() for picture in pictures}.values())


def seen(analysed: Analysed) -> bool:
    """Say whether the number of examples seen by the end of each session is known."""
    trials = analysed.study.answers()
    return session_ends(trials) != {float(s): float(s) for s in trials["session"].unique()}


def question_factor(analysed: Analysed) -> str:
    """Return the factor that the question is about: the first of the formula that has levels, else the condition."""
    formula = str(analysed.battery.primary.facts.get("formula", ""))
    trials = analysed.study.answers()
    if analysed.study.protocol == "oddone":
        return "composition"
    if formula:
        grouping = {"participant", "item", "rule", *(n for part in parse(formula).random for n in part.factors)}
        for name in parse(formula).columns[1:]:
            if name in trials.columns and name not in grouping and not pd.api.types.is_numeric_dtype(trials[name]):
                return str(name)
    return "condition"


def participants_by(analysed: Analysed, factor: str) -> Result | None:
    """Average each participant's answers at each level of a factor; None where nothing is right or wrong."""
    trials = analysed.study.answers()
    if factor not in trials.columns or not analysed.study.scored:
        return None
    trials = trials[trials[factor].notna()]
    levels = levels_of(analysed, factor)
    if trials.empty or not levels:
        return None
    return participant_means(trials.assign(condition=trials[factor].astype(str)), baseline=levels[0])


def levels_of(analysed: Analysed, factor: str) -> list[str]:
    """Return the levels of a factor that occur, the reference first."""
    trials = analysed.study.answers()
    present = sorted(trials[factor].dropna().astype(str).unique())
    if factor == "condition":
        return [name for name in analysed.study.conditions if name in present]
    first = {"basis": "neuron", "reference": "none", "machine": "right", "composition": "elementary"}.get(factor)
    return sorted(present, key=lambda name: (name != first, name))


def level_points(analysed: Analysed, result: Result) -> pd.DataFrame | None:
    """Return each participant's accuracy at each level of each factor of a crossed model, as raw points of its figures."""
    if result.points is not None or not analysed.study.scored or "formula" not in result.facts:
        return None
    tables = []
    for item in dict.fromkeys(e.quantity for e in result.estimates if e.quantity.startswith("accuracy of ")):
        factors = item.removeprefix("accuracy of ").split(" x ")
        trials = analysed.study.answers()
        if not set(factors) <= set(trials.columns):
            continue
        keys = [trials[name].astype(str) for name in factors]
        label = keys[0] if len(keys) == 1 else keys[0] + " x " + keys[1]
        means = trials.groupby([label.rename("label"), trials["participant_id"]])["correct"].mean()
        tables.append(means.rename("value").reset_index()[["label", "value"]].assign(quantity=item))
    return pd.concat(tables, ignore_index=True) if tables else None


def _times(analysed: Analysed, result: Result) -> list[Picture]:
    """Draw the answers' times that the model of response times was fitted to, by the factor of the question."""
    if result.name != "reaction_time" or not result.of("share of times left out"):
        return []
    trials, factor = analysed.study.answers(scored=True), question_factor(analysed)
    bounds = (float(result.facts["bounds_ms"][0]), float(result.facts["bounds_ms"][1]))
    kept = trials[trimmed(trials, bounds, right_only=bool(result.facts["right_only"])) == "kept"]
    kept = kept[kept[factor].notna()] if factor in kept.columns else kept.assign(**{factor: "all"})
    if kept.empty:
        return []
    points = kept[["participant_id"]].assign(label=kept[factor].astype(str), seconds=kept["rt_ms"].astype(float) / 1000)
    present = set(points["label"])
    order = [name for name in levels_of(analysed, factor) if name in present]
    return [figures.reaction_times(result, points=points, order=order, title="Response times of the answers analysed")]


def _head(analysed: Analysed) -> tuple[Picture, ...]:
    """Draw every participant's accuracy by the factor the question is about."""
    study, factor, primary = analysed.study, question_factor(analysed), analysed.battery.primary
    if len(primary.of(f"accuracy of {factor}")) > 1:
        points = level_points(analysed, primary)
        return (figures.level_means(primary, f"accuracy of {factor}", chance=study.chance, points=points),)
    means = participants_by(analysed, factor)
    if means is None or not means.of("accuracy"):
        return ()
    if analysed.utility:
        return (figures.raincloud(means, order=analysed.shown, baseline=str(study.baseline), chance=study.chance),)
    title = "Accuracy of participants" + (f" by {factor}" if len(means.of("accuracy")) > 1 else "")
    return (figures.level_means(means, "accuracy", chance=study.chance, title=title),)


def _of_utility(analysed: Analysed) -> dict[str, tuple[Picture, ...]]:
    study, results, order = analysed.study, analysed.results, analysed.shown
    base, means = str(study.baseline), results["participant_means"]
    found: dict[str, tuple[Picture, ...]] = {}
    ratios = default_utilities(results["utility"])
    if any(math.isfinite(item.value) for item in ratios):
        found["utility"] = (figures.utility_forest(ratios, order=order, baseline=base),)
    if study.answers()["session"].nunique() > 1:
        made = figures.learning_curves(means, order=order, baseline=base, chance=study.chance, seen=seen(analysed))
        found["participant_means"] = (made,)
    if results["model_split"].estimates:
        found["model_split"] = (figures.model_split_figure(results["model_split"], order=order),)
    linked = results.get("link")
    if linked is not None and linked.points is not None and len(linked.points):
        bars = {item.label: item for item in ratios}
        found["link"] = (figures.link_figure(linked, order=order, baseline=base, intervals=bars),)
    return found
