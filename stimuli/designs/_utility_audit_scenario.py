"""Checks the scenario of a frozen utility set: the classes follow from the rule, crops and regions are what they are said to be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..protocol import Tables
from ._utility_conditions import BASELINE
from ._utility_regions import FACTOR
from ._utility_scenarios import choose, fits


def audit_scenario(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule of the scenario, the concepts and the region, [] if all hold."""
    items = {str(row["item_id"]): row for row in tables.items.to_dict("records") if row["role"] == "main"}
    facts = {name: json.loads(row["facts"]) for name, row in items.items()}
    return [*_classes(tables, items), *_concepts(tables, facts), *_shown(tables, facts)]


def _classes(tables: Tables, items: Mapping[str, Mapping[Any, Any]]) -> Iterator[str]:
    options, pool = tables.options, tables.pool
    scenario = options.get("scenario", "given")
    if scenario != "given":
        derived = choose(pool.get("pairs", ()), scenario, options)
        if derived is None or list(derived) != list(pool.get("classes", ())):
            said = ", ".join(pool.get("classes", ())) or "none"
            yield f"scenario '{scenario}': the classes are {said}, its rule gives {', '.join(derived) if derived else 'none'}."
    two = set(pool.get("classes", ())) or {str(row["predicted"]) for row in items.values()}
    for name, row in items.items():
        if not {row["label"], row["predicted"]} <= two:
            yield f"item '{name}' is of class '{row['label']}', answered '{row['predicted']}', not of {', '.join(sorted(two))}."
        if bool(row["model_correct"]) != (row["label"] == row["predicted"]):
            yield f"item '{name}' is marked as {'right' if row['model_correct'] else 'wrong'} and is not."
        if not fits(scenario, bool(row["model_correct"]), str(row["group"])):
            yield f"scenario '{scenario}': the cue does not account for the answer to item '{name}' (group '{row['group']}')."


def _concepts(tables: Tables, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    concepts, crops = tables.options.get("concepts"), tables.options.get("crops")
    for name, held in facts.items():
        for condition, numbers in held.get("concepts", {}).items():
            if len(set(numbers)) != concepts:
                yield f"item '{name}', condition '{condition}': shows concepts {numbers}, not {concepts} different ones."
            for sources in held["crops_of"][condition]:
                if len(set(sources)) != crops:
                    yield f"item '{name}', condition '{condition}': has crops of {sources}, not of {crops} different images."
                if taken := set(sources) & set(facts):
                    yield f"item '{name}', condition '{condition}': a crop is cut from '{min(taken)}', an image of the study."


def _shown(tables: Tables, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Follow each cell: the explanation is its item's, and the region's column is what was seen so far."""
    recorded = any("region_mass" in held for held in facts.values())
    if recorded != ("region" in tables.pool):
        yield "the explanations' share of the region is recorded, or the region is named, without the other."
    trials = tables.trials.sort_values(["cell", "position"])
    seen: dict[str, list[str]] = {}
    for row in trials.to_dict("records"):
        cell, condition, item = str(row["cell"]), str(row["condition"]), str(row["item_id"])
        if row["phase"] == "train":
            seen.setdefault(cell, []).append(item)
            shown = json.loads(row["payload"])["explanation"]
            if shown != facts.get(item, {}).get("explanations", {}).get(condition):
                yield f"cell '{cell}': trial {row['position']} shows another explanation than its item's under '{condition}'."
        if row["phase"] == "test":
            told = json.loads(row["factors"]).get(FACTOR)
            values = [facts[one]["region_mass"].get(condition) for one in seen.get(cell, ())] if recorded else []
            known = [value for value in values if value is not None]
            expected = (float(np.mean(known)) if known else 0.0) if recorded else None
            if (told is None) != (expected is None) or abs((told or 0) - (expected or 0)) > 1e-5:
                yield f"cell '{cell}': trial {row['position']} has {FACTOR} {told}, its examples give {expected}."
            if recorded and condition != BASELINE and not known:
                yield f"cell '{cell}': trial {row['position']} has explanations without a share of the region."
