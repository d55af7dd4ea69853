"""Checks a frozen set of the distinction protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..protocol import Tables
from ._panels import opaque_faults, parsed_cells, place_faults, same_scripts
from ._self_ratings import flow_faults, moments, rating_faults

TASK = "distinction"
"""Name of the block of the task."""


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    kept = tables.items[tables.items["role"] != "question"].to_dict("records")
    items = {row["item_id"]: {**row, **json.loads(row["facts"])} for row in kept}
    faults: list[str] = []
    scripts: dict[str, tuple[int, Any]] = {}
    orders: dict[tuple[int, str], list[frozenset[int]]] = {}
    lists: dict[int, set[str]] = {}
    for cell, condition, number, shown in parsed_cells(tables):
        trials = [one for one in shown if one["block"] == TASK]
        before, *after = moments(tables.options) or [""]
        planned = {before: bool(before), TASK: tables.options["trials"], **dict.fromkeys(after, 1)}
        found = [*flow_faults(shown, planned), *rating_faults(shown, TASK)]
        found += [*_halves(trials, items, tables.options), *_trials(trials, condition, items, tables.options)]
        found += [*place_faults(trials, 4), *opaque_faults(trials, list(tables.study.conditions))]
        scripts[cell] = (number, [one["item_id"] for one in trials])
        found += _same_places(trials, condition, items, number, orders)
        lists.setdefault(number, set()).update(one["item_id"] for one in trials)
        faults += [f"cell '{cell}': {fault}." for fault in found]
    counts = Counter(name for found in lists.values() for name in found)
    faults += [f"item '{name}' stands in {count} lists." for name, count in counts.items() if count > 1]
    return faults + list(same_scripts(scripts)) + list(_items(items))


def _ranks(one: Mapping[str, Any], condition: str, items: Mapping[str, Any]) -> list[frozenset[int]]:
    """Return which of its item's explanations a trial may show at each place: several where they look the same."""
    known = items[one["item_id"]]["pictures"].get(condition, [])
    shown = [name for face in one["payload"]["faces"] for name in face["pictures"]]
    return [frozenset(rank for rank, name in enumerate(known) if name == picture) for picture in shown]


def _same_places(
    trials: Sequence[Mapping[str, Any]],
    condition: str,
    items: Mapping[str, Any],
    number: int,
    orders: dict[tuple[int, str], list[frozenset[int]]],
) -> Iterator[str]:
    """Narrow down which explanation stands where in a list; each place keeps one in all of its conditions."""
    for one in trials:
        key, here = (number, one["item_id"]), _ranks(one, condition, items)
        before = orders.setdefault(key, here)
        orders[key] = [left & right for left, right in zip(before, here, strict=False)]
        if len(before) != len(here) or not _one_each(orders[key]):
            yield f"trial {one['position']} has its explanations at other places than another condition of list {number}"


def _one_each(places: Sequence[frozenset[int]]) -> bool:
    """Whether each place can have an explanation of its own."""
    return any(
        all(rank in place for rank, place in zip(order, places, strict=True))
        for order in itertools.permutations(range(len(places)))
    )


def _halves(trials: Sequence[Mapping[str, Any]], items: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    right = sum(bool(items[one["item_id"]]["model_correct"]) for one in trials)
    if 2 * right != options["trials"] or len(trials) != options["trials"]:
        yield f"has {right} predictions that are right among {len(trials)}, planned are half of {options['trials']}"
    if len({one["item_id"] for one in trials}) != len(trials):
        yield "asks about an image twice"


def _trials(
    trials: Sequence[Mapping[str, Any]], condition: str, items: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[str]:
    for one in trials:
        item, payload, at = items[one["item_id"]], one["payload"], f"trial {one['position']}"
        ranks, expected = _ranks(one, condition, items), one["answer"].get("expected")
        shown = {name for face in payload["faces"] for name in face["pictures"]}
        if frozenset() in ranks or len(ranks) != 4 or shown != set(item["pictures"].get(condition, [])):
            yield f"{at} does not show its item's four explanations, one an option"
        elif expected not in payload["options"]:
            yield f"{at} expects an answer that is not offered"
        elif (
            item["pictures"][condition][item["truth"]]
            not in payload["faces"][payload["options"].index(expected)]["pictures"]
        ):
            yield f"{at} does not expect the explanation of the true class"
        if payload["panels"] != [{"label": "Picture", "pictures": [item["picture"]], "text": ""}]:
            yield f"{at} shows more or less than its item's picture above the options"
        labels = [face["label"] for face in payload["faces"]]
        named = [{item["classes"][rank] for rank in place} if options["names"] else {""} for place in ranks]
        if any(label not in fitting for label, fitting in zip(labels, named, strict=True)):
            yield f"{at} names classes otherwise than planned"
        truth = bool(item["model_correct"])
        if (
            one["factors"].get("machine") != ("right" if truth else "wrong")
            or one["answer"].get("model_correct") is not truth
        ):
            yield f"{at} has the wrong level of the factor 'machine'"


def _items(items: Mapping[str, Any]) -> Iterator[str]:
    for name, item in items.items():
        if len(set(item["classes"])) != 4:
            yield f"item '{name}': {len(set(item['classes']))} classes are explained, planned are four different ones."
        if item["classes"][item["truth"]] != item["label"]:
            yield f"item '{name}': the explanation taken for that of the truth is of another class."
        if item["classes"][0] != item["predicted"]:
            yield f"item '{name}': the first class explained is not the predicted one."
        if bool(item["model_correct"]) != (item["label"] == item["predicted"]):
            yield f"item '{name}': whether the model is right does not follow from its classes."
