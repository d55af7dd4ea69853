"""Which images of the run a study of the utility protocol shows: classes by the scenario's rule, then a seeded draw of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.registry import LimenError

from ..balance import seeded
from ..protocol import Material
from ._utility_scenarios import fits, scenario_classes
from ._utility_script import KINDS, Kind, Plan


def two_classes(material: Material, options: Mapping[str, Any]) -> tuple[tuple[str, str], list[dict[str, Any]]]:
    """Return the two classes of the study, and the pairs that the scenario's rule had to choose from.

    Raises
    ------
    LimenError
        If no pair fits, or the study file has to name the two and does not.
    """
    if options["scenario"] != "given":
        return scenario_classes(material, material.images.drop_duplicates("sha256"), options)
    given = options["classes"]
    names = sorted({*material.images["class_name"], *material.images["predicted_class"]})
    where = f"study '{material.study.study}', key 'design.classes'"
    if given is None:
        if len(names) != 2:
            raise LimenError(
                f"{where}: nothing was given and run '{material.study.run}' has {len(names)} classes "
                f"({', '.join(names[:12])}{', ...' if len(names) > 12 else ''}); name the two to be told apart, or a "
                "scenario whose rule chooses them."
            )
        return (names[0], names[1]), []
    missing = [name for name in given if name not in names]
    if missing or given[0] == given[1]:
        raise LimenError(f"{where}: given {', '.join(given)}; allowed are two different ones of {', '.join(names)}.")
    return (given[0], given[1]), []


def choose_images(
    material: Material, blocks: Plan, options: Mapping[str, Any]
) -> tuple[dict[Kind, pd.DataFrame], dict[str, Any]]:
    """Draw the images of each kind from all that qualify, by the study's seed and nothing else.

    Returns
    -------
    kind -> rows of images, and the pool they were drawn from
    """
    scenario = options["scenario"]
    classes, pairs = two_classes(material, options)
    images = material.images
    fitting = images[images["class_name"].isin(classes) & images["predicted_class"].isin(classes)]
    unique = fitting.drop_duplicates("sha256")
    pool: dict[str, Any] = {
        "scenario": scenario,
        "images_in_run": len(images),
        "of_the_two_classes": len(fitting),
        "distinct": len(unique),
        "classes": list(classes),
        "kinds": [],
    }
    if pairs:
        pool["pairs"] = pairs
    told = [fits(scenario, bool(c), str(g)) for c, g in zip(unique["correct"], unique["group"], strict=True)]
    unique = unique[told]
    found = {}
    for kind in KINDS:
        of_kind = (unique["correct"] == (kind[0] == 0)) & (unique["predicted_class"] == classes[kind[1]])
        found[kind] = unique[of_kind]
        facts = {"predicted": classes[kind[1]], "model_correct": kind[0] == 0}
        pool["kinds"].append({**facts, "available": len(found[kind]), "chosen": blocks.needs[kind]})
    _refuse_small_pool(material, pool)
    chosen = {}
    for kind, table in found.items():
        order = seeded(material.study.seed, "choose", *kind).permutation(len(table))
        chosen[kind] = table.iloc[order[: blocks.needs[kind]]]
    return chosen, pool


def _refuse_small_pool(material: Material, pool: Mapping[str, Any]) -> None:
    for correct in (False, True):
        kinds = [kind for kind in pool["kinds"] if kind["model_correct"] == correct]
        if all(kind["available"] >= kind["chosen"] for kind in kinds):
            continue
        wanted = ", ".join(f"{kind['chosen']} answered '{kind['predicted']}'" for kind in kinds)
        have = ", ".join(str(kind["available"]) for kind in kinds)
        raise LimenError(
            f"study '{material.study.study}', run '{material.study.run}': the design needs "
            f"{sum(kind['chosen'] for kind in kinds)} images that the model gets {'right' if correct else 'wrong'} "
            f"({wanted}) but the run has {sum(kind['available'] for kind in kinds)} ({have}); give the plan more "
            "images, or lower sessions, train or test, or change wrong_share."
        )
