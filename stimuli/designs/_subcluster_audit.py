"""Checks a frozen set of the binary-fit protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..protocol import Tables
from ._panels import opaque_faults, parsed_cells, place_faults


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = {row["item_id"]: {**row, **json.loads(row["facts"])} for row in tables.items.to_dict("records")}
    options, faults = tables.options, list[str]()
    scripts: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for cell, condition, number, trials in parsed_cells(tables):
        found = [*_trials(trials, condition, items), *place_faults(trials, 2)]
        found += opaque_faults(trials, list(tables.study.conditions))
        asked = [one["item_id"] for one in trials]
        if len(asked) != options["trials"] or len(set(asked)) != len(asked):
            found.append(f"asks {len(asked)} trials of {len(set(asked))} sub-concepts, planned are {options['trials']}")
        scripts[condition, number] = [
            (one["item_id"], one["payload"]["options"].index(one["answer"]["expected"]))
            for one in trials
            if one["answer"].get("expected") in one["payload"]["options"]
        ]
        faults += [f"cell '{cell}': {fault}." for fault in found]
    return faults + list(_mirrors(scripts)) + list(_items(items, options))


def _trials(trials: Sequence[Mapping[str, Any]], condition: str, items: Mapping[str, Any]) -> Iterator[str]:
    for one in trials:
        item, payload, at = items[one["item_id"]], one["payload"], f"trial {one['position']}"
        if item["group"] != condition:
            yield f"{at} shows concepts of condition '{item['group']}'"
        if payload["panels"] != [{"label": "Piece", "pictures": item["query"], "text": ""}]:
            yield f"{at} does not show its item's crop, and nothing else, above the groups"
        shown = [face["pictures"] for face in payload["faces"]]
        if sorted(shown) != sorted([item["fine"], item["whole"]]):
            yield f"{at} does not show its item's two groups"
        if any(face["label"] or face["text"] for face in payload["faces"]):
            yield f"{at} says something of a group"
        expected = one["answer"].get("expected")
        if expected not in payload["options"] or shown[payload["options"].index(expected)] != item["fine"]:
            yield f"{at} does not expect the sub-concept"


def _mirrors(scripts: Mapping[tuple[str, int], list[tuple[str, int]]]) -> Iterator[str]:
    for (condition, number), script in scripts.items():
        if number % 2 and scripts.get((condition, number + 1)) != [(item, 1 - place) for item, place in script]:
            yield f"condition '{condition}': list {number + 1} does not show list {number} with the sides exchanged."


def _items(items: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    count = options["references"]
    for name, item in items.items():
        own, fine, whole = item["members"][0], item["members"][1 : count + 1], item["members"][count + 1 :]
        if (len(item["fine"]), len(item["whole"])) != (count, count) or len(item["members"]) != 2 * count + 1:
            yield f"item '{name}': the groups do not have {count} crops each."
        if own != item["cluster"] or set(fine) != {item["cluster"]}:
            yield f"item '{name}': a crop of the first group is of another sub-concept."
        if not set(whole) - {item["cluster"]}:
            yield f"item '{name}': the group of the whole concept is of one sub-concept."
        if len(set(item["sources"])) != len(item["sources"]):
            yield f"item '{name}': two crops are from one picture."
        everything = [*item["query"], *item["fine"], *item["whole"]]
        if len(set(everything)) != len(everything):
            yield f"item '{name}': a crop is shown twice."
