"""Checks a frozen set of the reveal game against its rules, from its tables alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ..protocol import Tables
from ._lists_audit import dealt, spread

GAME = ("mode", "visible", "told", "box_px", "step_px", "sample_ms", "batch", "limit_ms")
PAYLOAD = {*GAME, "max_boxes", "size", "phase", "image", "word", "oracle", "session", "session_count", "index", "count"}


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = tables.items.set_index("item_id")
    faults: list[str] = list(_items(tables, items))
    scripts: dict[int, tuple[str, list[Any]]] = {}
    for cell in tables.cells.to_dict("records"):
        trials = tables.trials[tables.trials["cell"] == cell["cell"]].sort_values("position")
        rows = [{**row, "payload": json.loads(row["payload"])} for row in trials.to_dict("records")]
        found = [*_counts(rows, tables.options), *_rounds(rows, items, tables.options), *_roles(rows, items)]
        found += [*_oracle(rows, str(cell["condition"])), *_places(rows, tables.options)]
        script = [(row["item_id"], row["phase"], row["is_catch"]) for row in rows]
        first, shown = scripts.setdefault(int(cell["list"]), (str(cell["cell"]), script))
        if shown != script:
            found.append(f"shows other pictures or another order than cell '{first}' of the same list")
        faults += [f"cell '{cell['cell']}': {fault}." for fault in found]
    return faults + list(_balance(tables))


def _items(tables: Tables, items: pd.DataFrame) -> Iterator[str]:
    options = tables.options
    main = items[items["role"] == "main"]
    shares = main["label"].value_counts()
    if len(main) != options["images"]:
        yield f"items: {len(main)} pictures of the study, planned are {options['images']}."
    if len(shares) and shares.max() - shares.min() > 1:
        yield f"items: classes are shown {dict(shares)} times, planned is equally often within one."
    if items["picture"].duplicated().any():
        yield f"items: picture {items.loc[items['picture'].duplicated(), 'picture'].iloc[0]} stands behind two items."
    if options["only_correct"] and not items["model_correct"].all():
        yield f"items: '{items.index[~items['model_correct'].astype(bool)][0]}' is a picture that the network gets wrong."
    clear = items[items["role"] == "catch"]
    weak = clear[(clear["probability"] < options["catch_probability"]) | ~clear["model_correct"].astype(bool)]
    if len(weak):
        yield f"items: catch picture '{weak.index[0]}' is not recognised with {options['catch_probability']:g} or more."


def _counts(rows: list[dict[Any, Any]], options: Mapping[str, Any]) -> Iterator[str]:
    planned = {"practice": options["practice"], "rounds": options["rounds"] + options["catch"]}
    planned = {name: count for name, count in planned.items() if count}
    blocks: dict[str, int] = dict(Counter(row["block"] for row in rows))
    if list(blocks.items()) != list(planned.items()):
        yield f"has blocks {blocks}, planned are {planned}"
    twice = [item for item, count in Counter(row["item_id"] for row in rows).items() if count > 1]
    if twice:
        yield f"shows '{twice[0]}' more than once"


def _rounds(rows: list[dict[Any, Any]], items: pd.DataFrame, options: Mapping[str, Any]) -> Iterator[str]:
    for row in rows:
        payload, item = row["payload"], items.loc[row["item_id"]]
        at = f"trial {row['position']}"
        if set(payload) != PAYLOAD:
            yield f"{at} sends {sorted(set(payload) ^ PAYLOAD)} more or less than the payload allows"
            continue
        if payload["image"] != item["picture"]:
            yield f"{at} shows another picture than its item's"
        if payload["word"] != item["label"]:
            yield f"{at} names '{payload['word']}', the picture is of '{item['label']}'"
        for name in GAME:
            if payload[name] != options[name]:
                yield f"{at} has {name} {payload[name]}, planned is {options[name]}"


def _roles(rows: list[dict[Any, Any]], items: pd.DataFrame) -> Iterator[str]:
    for row in rows:
        due = "practice" if row["phase"] == "practice" else "catch" if row["is_catch"] else "main"
        role = items.loc[row["item_id"], "role"]
        if role != due:
            yield f"trial {row['position']} is a {due} round on a picture of the role '{role}'"


def _oracle(rows: list[dict[Any, Any]], condition: str) -> Iterator[str]:
    for row in rows:
        due = condition == "oracle" or bool(row["is_catch"])
        if row["payload"].get("oracle") is not due:
            yield f"trial {row['position']} {'asks no' if due else 'asks the'} network"
        expected = json.loads(row["answer"]).get("expected")
        if row["phase"] == "test" and (expected == "won") is not due:
            yield f"trial {row['position']} expects '{expected}'"


def _places(rows: list[dict[Any, Any]], options: Mapping[str, Any]) -> Iterator[str]:
    """One catch round in each equal part of the session."""
    parts: list[int] = []
    played = 0
    for row in rows:
        if row["phase"] != "test":
            continue
        if row["is_catch"]:
            parts.append(played)
        else:
            played += 1
    for part, at in enumerate(parts):
        low, high = (options["rounds"] * (part + step) // options["catch"] for step in (0, 1))
        if not low <= at <= max(high, low):
            yield f"catch round {part + 1} comes after {at} rounds, planned is {low} to {high}"


def _balance(tables: Tables) -> Iterator[str]:
    options = tables.options
    times = options["lists"] * options["rounds"] // options["images"]
    shown = tables.trials[(tables.trials["phase"] == "test") & ~tables.trials["is_catch"].astype(bool)]
    for condition, rows in shown.groupby("condition"):
        yield from dealt(condition, rows, tables, times=times, met="seen")
        yield from _spread(condition, rows, tables)


def _spread(condition: Any, rows: pd.DataFrame, tables: Tables) -> Iterator[str]:
    """Places are spread over the session, and classes stay even."""
    ordered = rows.sort_values(["cell", "position"])
    yield from spread(condition, ordered, tables.options["images"] // tables.options["lists"])
    label = ordered["item_id"].map(tables.items.drop_duplicates("item_id").set_index("item_id")["label"])
    classes = tables.items.loc[tables.items["role"] == "main", "label"].unique()
    # A stretch may begin and end within a turn of the classes; the ring's last turn is short where they do not divide it.
    within = 2 if tables.options["images"] % max(len(classes), 1) == 0 else 3
    for cell, words in label.groupby(ordered["cell"]):
        counts = words.value_counts().reindex(classes, fill_value=0)
        if counts.max() - counts.min() > within:
            yield f"cell '{cell}': classes are shown {counts.to_dict()} times in one list, planned is evenly within {within}."
