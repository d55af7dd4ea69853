"""Checks a frozen set of the agreement protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ..protocol import Tables
from ._agreement_rows import POINTS, RISKS, TASK, TRADEOFF
from ._panels import BASELINE, parsed_cells, same_scripts
from ._self_ratings import flow_faults, moments, rating_faults


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = {str(row["item_id"]): row for row in tables.items.to_dict("records")}
    faults: list[str] = []
    scripts: dict[str, tuple[int, Any]] = {}
    lists: dict[int, set[str]] = {}
    for cell, condition, number, trials in parsed_cells(tables):
        asked = [one for one in trials if one["block"] == TASK]
        found = [*_flow(trials, tables.options), *rating_faults(trials, TASK), *_halves(asked, items, tables.options)]
        found += [*_answers(asked, items), *_panels(trials, condition, items, tables.options)]
        found += _previews(trials, items)
        scripts[cell] = (number, [one["item_id"] for one in trials])
        lists.setdefault(number, set()).update(one["item_id"] for one in asked)
        faults += [f"cell '{cell}': {fault}." for fault in found]
    return faults + list(same_scripts(scripts)) + list(_apart(tables, lists))


def _flow(trials: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Iterator[str]:
    before, *after = moments(options) or [""]
    planned = {"preview": 2 * options["preview"], before: bool(before), TASK: options["trials"]}
    yield from flow_faults(trials, {**planned, **dict.fromkeys(after, 1), TRADEOFF: len(RISKS) * options["tradeoff"]})


def _halves(asked: Sequence[Mapping[str, Any]], items: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    right = sum(bool(items[one["item_id"]]["model_correct"]) for one in asked)
    if 2 * right != options["trials"]:
        yield f"has {right} predictions that are right among {len(asked)}, planned is one half"
    if len({one["item_id"] for one in asked}) != len(asked):
        yield "asks about an image twice"


def _answers(asked: Sequence[Mapping[str, Any]], items: Mapping[str, Any]) -> Iterator[str]:
    for one in asked:
        item, answer, at = items[one["item_id"]], one["answer"], f"trial {one['position']}"
        truth = bool(item["model_correct"])
        if truth != (item["label"] == item["predicted"]):
            yield f"{at}: the item says that the model is {'right' if truth else 'wrong'}, its classes say otherwise"
        if one["payload"]["options"] != list(POINTS):
            yield f"{at} does not offer the four points in their order"
        if answer.get("expected") != (POINTS[-1] if truth else POINTS[0]) or answer.get("model_correct") is not truth:
            yield f"{at} does not expect the true side of the scale"
        if one["factors"].get("machine") != ("right" if truth else "wrong"):
            yield f"{at} has the wrong level of the factor 'machine'"


def _panels(
    trials: Sequence[Mapping[str, Any]], condition: str, items: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[str]:
    pictures = {one["item_id"]: items[one["item_id"]]["picture"] for one in trials}
    for one in trials:
        if one["block"] not in (TASK, "preview"):
            continue
        item, panels, at = items[one["item_id"]], one["payload"]["panels"], f"trial {one['position']}"
        if panels[0]["pictures"] != [item["picture"]] or f"**{item['predicted']}**" not in panels[0]["text"]:
            yield f"{at} does not show its item's picture and prediction"
        if (condition != BASELINE) != any(panel["label"] == "Explanation" for panel in panels):
            yield f"{at} shows an explanation in the baseline, or none elsewhere"
        if one["block"] == TASK and any(panel["label"] == "Truth" for panel in panels):
            yield f"{at} tells the truth"
        beside = [name for panel in panels if panel["label"].startswith("Pictures of") for name in panel["pictures"]]
        if len(beside) != options["examples"] or set(beside) & set(pictures.values()):
            yield f"{at} does not show {options['examples']} examples that are not asked about"


def _previews(trials: Sequence[Mapping[str, Any]], items: Mapping[str, Any]) -> Iterator[str]:
    shown = [one["item_id"] for one in trials if one["block"] == "preview"]
    if shown and sorted(bool(items[name]["model_correct"]) for name in shown) != [False, True]:
        yield "does not preview one right and one wrong prediction"
    if set(shown) & {one["item_id"] for one in trials if one["block"] == TASK}:
        yield "asks about an image of the preview"


def _apart(tables: Tables, lists: Mapping[int, set[str]]) -> Iterator[str]:
    counts = Counter(name for found in lists.values() for name in found)
    if len(lists) != tables.options["lists"]:
        yield f"there are {len(lists)} lists, planned are {tables.options['lists']}."
    for name, count in counts.items():
        if count > 1:
            yield f"item '{name}' stands in {count} lists."
    pictures: pd.Series = tables.items.loc[tables.items["role"] == "main", "picture"]
    if pictures.duplicated().any():
        yield "two items are the same picture."
