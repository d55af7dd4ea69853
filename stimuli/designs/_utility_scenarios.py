"""The scenarios of the utility protocol: which two classes of a network and an image set the study is about, and why.

Each rule reads the run alone: true and predicted classes, groups, and the pictures. What it was decided on is kept
with the stimulus set, so that an audit decides it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.registry import LimenError

from ..protocol import Material
from ..records import StudyFile

Scenario = Literal["given", "bias", "confusable", "expert_strategy"]
CONGRUENT, CONFLICT = "congruent", "conflict"
"""Groups of an image set: the cue stands for the true class, or for the other one."""
LETTERS = ("A", "B")
MOST = 64
"""Classes at most where every pair is looked at."""
SIDE = 8
"""Side of the thumbnails by which the likeness of two classes is told."""
RULES: Mapping[Scenario, str] = {
    "given": "The two classes are those of the study file, or of the run where it has two.",
    "bias": "Of all pairs of classes, the one with the largest gap between the shares of congruent and of conflict images "
    "that the model gets right; the gap is {bias_gap:g} or more. Shown are only images whose answer the cue accounts for: "
    "congruent ones that the model gets right and conflict ones that it gets wrong.",
    "confusable": "Of all pairs of classes, the one that the model confuses most: answers exchanged between the two, as a "
    "share of the images of both.",
    "expert_strategy": "Of all pairs of classes of whose images the model gets {expert_accuracy:g} or more right, the one that "
    "a naive look tells apart worst: the share of images that lie nearer to the mean thumbnail of their own class than to "
    "that of the other one (8 x 8 pixels, the image itself left out of its mean).",
}


def check_scenario(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse options that the scenario decides, or that contradict it."""
    scenario = options.get("scenario", "given")
    if scenario != "given" and options.get("classes"):
        raise LimenError(
            f"{where}, key 'design.classes': given {', '.join(options['classes'])}; in the scenario '{scenario}' a rule "
            "chooses the classes, so allowed is none, or the scenario 'given'."
        )
    if scenario == "expert_strategy" and options["wrong_share"] > 0:
        raise LimenError(
            f"{where}, key 'design.wrong_share': given {options['wrong_share']:g}; allowed in the scenario "
            "'expert_strategy' is 0, since the model is right there and people's knowledge does not help."
        )


def evidence(material: Material, images: pd.DataFrame, scenario: Scenario) -> list[dict[str, Any]]:
    """Return what a scenario is decided on: a flat row a pair of classes, by name.

    Parameters
    ----------
    material
        The run.
    images
        Its distinct images, columns of `ImageRow` and `PredictionRow`.
    scenario
        Which rule will read the rows.

    Returns
    -------
    list of dict
        `first`, `second`, `images` of the two classes, `right` of them, `exchanged` (the one answered as the other; for
        'confusable' only pairs that exchange any are listed);
        for 'bias' also `congruent`, `congruent_right`, `conflict`, `conflict_right`; for 'expert_strategy' `naive`.

    Raises
    ------
    LimenError
        If there are more classes than every pair of them can be looked at.
    """
    names = sorted(set(images["class_name"]))
    if scenario != "confusable" and len(names) > MOST:
        raise LimenError(
            f"study '{material.study.study}', key 'design.scenario': given '{scenario}' and a run with images of {len(names)} "
            f"classes, allowed are {MOST} at most; explain fewer classes, or name two in the scenario 'given'."
        )
    counts = pd.crosstab(images["class_name"], images["predicted_class"]).reindex(columns=names, fill_value=0)
    matrix = counts.reindex(index=names).to_numpy()
    totals = images["class_name"].value_counts().reindex(names).to_numpy()
    found = []
    for i, j in itertools.combinations(range(len(names)), 2):
        exchanged = int(matrix[i, j] + matrix[j, i])
        if exchanged or scenario != "confusable":
            known = {
                "first": names[i],
                "second": names[j],
                "images": int(totals[i] + totals[j]),
                "right": int(matrix[i, i] + matrix[j, j]),
                "exchanged": exchanged,
            }
            found.append(known | _pair(material, images, (names[i], names[j]), scenario))
    return found


def _pair(material: Material, images: pd.DataFrame, pair: tuple[str, str], scenario: Scenario) -> dict[str, Any]:
    """Return what one scenario alone asks of a pair."""
    if scenario == "confusable":
        return {}
    of_two, row = images[images["class_name"].isin(pair)], dict[str, Any]()
    if scenario == "bias":
        for group in (CONGRUENT, CONFLICT):
            part = of_two[of_two["group"] == group]
            row |= {group: len(part), f"{group}_right": int(part["correct"].sum())}
    if scenario == "expert_strategy":
        row["naive"] = _naive(
            material.pictures[of_two["index"].to_numpy()], (of_two["class_name"] == pair[1]).to_numpy()
        )
    return row


def choose(rows: Sequence[Mapping[str, Any]], scenario: Scenario, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Choose the pair of classes by the scenario's rule, ties by name; None if no pair fits.

    Parameters
    ----------
    rows
        As `evidence` gives them.
    scenario
        'bias', 'confusable' or 'expert_strategy'.
    options
        The design's: `bias_gap`, `expert_accuracy`.
    """
    ranked = [(-score, row["first"], row["second"]) for row in rows for score in _score(row, scenario, options)]
    return min(ranked)[1:] if ranked else None


def _score(row: Mapping[str, Any], scenario: Scenario, options: Mapping[str, Any]) -> Iterator[float]:
    """Yield how well a pair fits, nothing if it does not."""
    if scenario == "confusable" and row["exchanged"]:
        yield row["exchanged"] / row["images"]
    if scenario == "bias" and row[CONGRUENT] and row[CONFLICT]:
        gap = row["congruent_right"] / row[CONGRUENT] - row["conflict_right"] / row[CONFLICT]
        if gap >= options["bias_gap"]:
            yield gap
    expert = scenario == "expert_strategy" and row["naive"] is not None
    if expert and row["right"] / row["images"] >= options["expert_accuracy"]:
        yield -row["naive"]


def scenario_classes(
    material: Material, images: pd.DataFrame, options: Mapping[str, Any]
) -> tuple[tuple[str, str], list[dict[str, Any]]]:
    """Return the two classes of a scenario that has a rule, and what it was decided on.

    Raises
    ------
    LimenError
        If no pair of classes of the run fits.
    """
    scenario: Scenario = options["scenario"]
    rows = evidence(material, images, scenario)
    pair = choose(rows, scenario, options)
    if pair is None:
        raise LimenError(
            f"study '{material.study.study}', key 'design.scenario': given '{scenario}', and no pair of classes of run "
            f"'{material.study.run}' fits ({len(rows)} looked at); allowed is one with {_wanted(scenario, options)}."
        )
    return pair, rows


def _wanted(scenario: Scenario, options: Mapping[str, Any]) -> str:
    if scenario == "bias":
        return (
            f"images of the groups '{CONGRUENT}' and '{CONFLICT}' and shares that the model gets right which differ by "
            f"bias_gap = {options['bias_gap']:g} or more"
        )
    if scenario == "confusable":
        return "images of one class that the model answers as the other"
    return f"two images of each class or more, of which the model gets expert_accuracy = {options['expert_accuracy']:g} right"


def fits(scenario: Scenario, correct: bool, group: str) -> bool:
    """Tell whether an image may be shown in a scenario: under 'bias' the cue must account for the answer."""
    return scenario != "bias" or group == (CONGRUENT if correct else CONFLICT)


def shown_classes(classes: Sequence[str], answers: str) -> dict[str, str]:
    """Map each class to what the participant reads: its name, or a letter."""
    return dict(zip(classes, LETTERS if answers == "letters" else classes, strict=True))


def _naive(pictures: np.ndarray, second: np.ndarray) -> float | None:
    """Return the share of pictures nearer to the mean thumbnail of their own class; None with fewer than two of either."""
    counts = np.array([(~second).sum(), second.sum()])
    if counts.min() < 2:
        return None
    height, width = (np.linspace(0, size, SIDE + 1).astype(int) for size in pictures.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(pictures.astype(np.float64), height[:-1], axis=1), width[:-1], axis=2)
    thumbs = (sums / (np.diff(height)[:, None] * np.diff(width))[None, :, :, None]).reshape(len(pictures), -1)
    own = second.astype(int)
    totals = np.stack([thumbs[own == k].sum(axis=0) for k in (0, 1)])
    mine = (totals[own] - thumbs) / (counts[own] - 1)[:, None]
    others = totals[1 - own] / counts[1 - own][:, None]
    nearer = ((thumbs - mine) ** 2).sum(axis=1) < ((thumbs - others) ** 2).sum(axis=1)
    return float(nearer.mean())
