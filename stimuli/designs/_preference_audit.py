"""Checks a frozen set of the preference protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from ..protocol import Tables
from ._panels import opaque_faults, parsed_cells

Seen = tuple[str, str, str]
"""Image, left and right."""


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = {str(row["item_id"]): row for row in tables.items.to_dict("records")}
    methods = sorted(tables.options["methods"])
    faults: list[str] = []
    lists: dict[int, list[Seen]] = {}
    shown: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell, _, number, trials in parsed_cells(tables):
        script = [(one["item_id"], str(one["factors"].get("left")), str(one["factors"].get("right"))) for one in trials]
        found = [*_pairs(script, methods, tables.options["repeats"]), *_trials(trials, items)]
        found += opaque_faults(trials, methods)
        lists[number] = script
        for one, (item, left, right) in zip(trials, script, strict=True):
            for name, face in zip((left, right), one["payload"]["faces"], strict=False):
                shown[item, name].update(face["pictures"])
        faults += [f"cell '{cell}': {fault}." for fault in found]
    faults += [
        f"item '{item}' has {len(pictures)} pictures of the explanation '{name}', allowed is one."
        for (item, name), pictures in shown.items()
        if len(pictures) != 1
    ]
    return faults + list(_mirrors(lists, tables.options["lists"]))


def _pairs(script: Sequence[Seen], methods: Sequence[str], repeats: int) -> Iterator[str]:
    sides = Counter((left, right) for _, left, right in script)
    for one, other in combinations(methods, 2):
        left, right = sides.pop((one, other), 0), sides.pop((other, one), 0)
        if left + right != repeats:
            yield f"shows the pair {one} and {other} {left + right} times, planned are {repeats}"
        elif abs(left - right) > 1:
            yield f"shows {one} on the left of {other} {left} times and {right} times on the right"
    if sides:
        yield f"shows a pair that is not planned, {' and '.join(next(iter(sides)))}"
    if len({item for item, _, _ in script}) != len(script):
        yield "shows an image twice"


def _trials(trials: Sequence[Mapping[str, Any]], items: Mapping[str, Any]) -> Iterator[str]:
    for one in trials:
        item, payload, at = items[one["item_id"]], one["payload"], f"trial {one['position']}"
        if "expected" in one["answer"]:
            yield f"{at} expects an answer, where nothing is right"
        panel = payload["panels"][0]
        if panel["pictures"] != [item["picture"]] or f"**{item['predicted']}**" not in panel["text"]:
            yield f"{at} does not show its item's picture and prediction"
        if any(face["label"] or face["text"] or len(face["pictures"]) != 1 for face in payload["faces"]):
            yield f"{at} shows more or less of an option than its picture"


def _mirrors(lists: Mapping[int, list[Seen]], planned: int) -> Iterator[str]:
    if sorted(lists) != list(range(1, planned + 1)):
        yield f"there are lists {sorted(lists)}, planned are 1 to {planned}."
        return
    for number in range(1, planned, 2):
        if lists[number + 1] != [(item, right, left) for item, left, right in lists[number]]:
            yield f"list {number + 1} does not show what list {number} shows with the sides exchanged."
    for number in range(1, planned, 2):
        mine = {item for item, _, _ in lists[number]}
        for other in range(number + 2, planned, 2):
            if mine & {item for item, _, _ in lists[other]}:
                yield f"lists {number} and {other} share an image."
