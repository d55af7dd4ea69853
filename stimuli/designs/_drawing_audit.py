"""Checks a frozen set of the drawing protocol against its rules, from its tables alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ..protocol import Tables
from ..sketches import category_of, sketch_id
from ._lists_audit import dealt, spread

PLACE = {"phase", "image", "session", "session_count", "index", "count", "size", "limit_ms"}
PAYLOAD = {
    "draw": PLACE | {"pen_px", "max_points", "exemplar_ms"},
    "reveal": PLACE | {"word", "box_px", "step_px", "sample_ms", "mode", "oracle", "max_boxes"},
}


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    faults: list[str] = list(_items(tables.items, tables.options))
    items = tables.items.set_index("item_id")
    strangers = sorted(set(tables.trials["item_id"]) - set(items.index))
    if strangers or not items.index.is_unique:
        return [*faults, f"items: {strangers or 'an exemplar'} is missing or stands in the table twice."]
    scripts: dict[int, tuple[str, list[Any]]] = {}
    for cell in tables.cells.to_dict("records"):
        trials = tables.trials[tables.trials["cell"] == cell["cell"]].sort_values("position")
        rows = [{**row, "payload": json.loads(row["payload"])} for row in trials.to_dict("records")]
        found = [*_counts(rows, tables.options), *_shown(rows, items, tables.options, str(cell["condition"]))]
        script = [(row["item_id"], row["phase"]) for row in rows]
        first, before = scripts.setdefault(int(cell["list"]), (str(cell["cell"]), script))
        if before != script:
            found.append(f"shows other exemplars or another order than cell '{first}' of the same list")
        faults += [f"cell '{cell['cell']}': {fault}." for fault in found]
    return faults + list(_balance(tables))


def _items(items: pd.DataFrame, options: Mapping[str, Any]) -> Iterator[str]:
    counts = items["role"].value_counts()
    for role, planned in (("main", options["categories"]), ("practice", options["practice"])):
        if int(counts.get(role, 0)) != planned:
            yield f"items: {int(counts.get(role, 0))} of the role '{role}', planned are {planned}."
    categories = [category_of(name) for name in items["item_id"]]
    twice = [name for name, count in Counter(categories).items() if count > 1]
    if twice:
        yield f"items: category '{twice[0]}' has more than one exemplar."
    kind = "doodle-" if options["task"] == "uncover" or options["family"] == "doodles" else "glyph-"
    for row in items.itertuples():
        category = category_of(str(row.item_id))
        if not category.startswith(kind) or row.item_id != sketch_id(category, 0):
            yield f"items: '{row.item_id}' is not the first variant of a category of the family asked for."
        if row.label != (category.removeprefix("doodle-") if kind == "doodle-" else ""):
            yield f"items: '{row.item_id}' has the name '{row.label}'."
    if items["picture"].duplicated().any():
        yield f"items: picture {items.loc[items['picture'].duplicated(), 'picture'].iloc[0]} stands behind two exemplars."


def _counts(rows: list[dict[Any, Any]], options: Mapping[str, Any]) -> Iterator[str]:
    planned = {name: n for name, n in (("practice", options["practice"]), ("drawings", options["drawings"])) if n}
    blocks: dict[str, int] = dict(Counter(row["block"] for row in rows))
    if list(blocks.items()) != list(planned.items()):
        yield f"has blocks {blocks}, planned are {planned}"
    twice = [name for name, count in Counter(category_of(row["item_id"]) for row in rows).items() if count > 1]
    if twice:
        yield f"meets category '{twice[0]}' more than once"


def _shown(
    rows: list[dict[Any, Any]], items: pd.DataFrame, options: Mapping[str, Any], condition: str
) -> Iterator[str]:
    trial_type = "reveal" if condition == "uncover" else "draw"
    for row in rows:
        at, payload, item = f"trial {row['position']}", row["payload"], items.loc[row["item_id"]]
        if row["trial_type"] != trial_type:
            yield f"{at} is of the type '{row['trial_type']}', planned is '{trial_type}'"
            continue
        if set(payload) != PAYLOAD[trial_type]:
            yield f"{at} sends {sorted(set(payload) ^ PAYLOAD[trial_type])} more or less than the payload allows"
            continue
        if payload["image"] != item["picture"]:
            yield f"{at} shows another picture than its exemplar's"
        if item["role"] != ("practice" if row["phase"] == "practice" else "main"):
            yield f"{at} shows an exemplar of the role '{item['role']}' in {row['phase']}"
        if json.loads(row["answer"]) or row["is_catch"]:
            yield f"{at} expects an answer, and nothing is right or wrong"
        for name, planned in _planned(options, condition, item).items():
            if payload[name] != planned:
                yield f"{at} has {name} {payload[name]}, planned is {planned}"


def _planned(options: Mapping[str, Any], condition: str, item: pd.Series) -> dict[str, Any]:
    common = {"size": [options["size"], options["size"]]}
    if condition != "uncover":
        seen = options["exemplar_ms"] if condition == "memory" else 0
        return {**common, "limit_ms": options["limit_ms"], "exemplar_ms": seen}
    given = {name: options[name] for name in ("box_px", "step_px", "sample_ms")}
    return {
        **common,
        **given,
        "limit_ms": options["reveal_ms"],
        "word": item["label"],
        "oracle": False,
        "mode": "reveal",
    }


def _balance(tables: Tables) -> Iterator[str]:
    options = tables.options
    times = options["lists"] * options["drawings"] // options["categories"]
    step = options["categories"] // options["lists"]
    shown = tables.trials[tables.trials["phase"] == "test"].sort_values(["cell", "position"])
    for condition, rows in shown.groupby("condition"):
        yield from dealt(condition, rows, tables, times=times, met="met")
        yield from spread(condition, rows, step)
