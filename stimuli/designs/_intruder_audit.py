"""Checks a frozen set of the intruder protocol against the protocol's own rules, from its tables alone."""

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
    spots: dict[tuple[str, str], dict[int, int]] = {}
    for cell, condition, number, trials in parsed_cells(tables):
        found = [*_trials(trials, condition, items, options), *place_faults(trials, options["majority"] + 1)]
        found += opaque_faults(trials, list(tables.study.conditions))
        asked = [one["item_id"] for one in trials]
        if len(asked) != options["trials"] or len(set(asked)) != len(asked):
            found.append(
                f"asks {len(asked)} trials of {len(set(asked))} sets, planned are {options['trials']} different ones"
            )
        for one in trials:
            if one["answer"].get("expected") in one["payload"]["options"]:
                place = one["payload"]["options"].index(one["answer"]["expected"])
                spots.setdefault((condition, one["item_id"]), {})[number] = place
        faults += [f"cell '{cell}': {fault}." for fault in found]
    return faults + list(_turns(spots, options)) + list(_items(items, options))


def _trials(
    trials: Sequence[Mapping[str, Any]], condition: str, items: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[str]:
    for one in trials:
        item, payload, at = items[one["item_id"]], one["payload"], f"trial {one['position']}"
        if item["group"] != condition:
            yield f"{at} shows concepts of condition '{item['group']}'"
        shown = [name for face in payload["faces"] for name in face["pictures"]]
        if sorted(shown) != sorted(item["pictures"]) or len(payload["faces"]) != options["majority"] + 1:
            yield f"{at} does not show its item's crops, one an option"
        expected = one["answer"].get("expected")
        if expected not in payload["options"] or shown[payload["options"].index(expected)] != item["pictures"][-1]:
            yield f"{at} does not expect the crop of the other concept"
        if payload.get("panels") or any(face["label"] or face["text"] for face in payload["faces"]):
            yield f"{at} shows more than the crops"


def _turns(spots: Mapping[tuple[str, str], Mapping[int, int]], options: Mapping[str, Any]) -> Iterator[str]:
    count = options["majority"] + 1
    for (condition, item), places in spots.items():
        first = (places[min(places)] - min(places)) % count
        if any((place - number) % count != first for number, place in places.items()):
            yield f"condition '{condition}', item '{item}': the intruder does not move on by one from list to list."


def _items(items: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    for name, item in items.items():
        if item["atom"] == item["other"]:
            yield f"item '{name}': the intruder is of the same concept."
        if item["cosine"] > options["max_cosine"] + 1e-4:
            yield f"item '{name}': the directions of its concepts have a cosine of {item['cosine']:g}, allowed is {options['max_cosine']:g}."
        if len(set(item["sources"])) != options["majority"] + 1:
            yield f"item '{name}': two crops are from one picture."
        if bool(item["label"]) != options["same_class"]:
            yield f"item '{name}': says {'a class' if item['label'] else 'no class'}, planned is the other."
        if len(set(item["pictures"])) != len(item["pictures"]):
            yield f"item '{name}': two crops look the same."
