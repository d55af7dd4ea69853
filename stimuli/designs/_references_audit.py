"""Rules that all studies with reference grids share, checked from the tables of a set alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.registry import LimenError

from ..protocol import Tables
from ..records import CellRow
from ._references import deal

Row = dict[str, Any]
OPAQUE = re.compile(r"^[0-9a-f]{16}$")
PAYLOAD = {
    "phase", "question", "options", "references", "queries", "arrangement", "confidence", "feedback", "lockout_ms",
    "session", "index", "count",
}  # fmt: skip


def rows_of(tables: Tables, cell: str) -> list[Row]:
    """Return the trials of a cell in their order, with payload, answer and factors read."""
    trials = tables.trials[tables.trials["cell"] == cell].sort_values("position")
    return [
        {str(name): json.loads(value) if name in {"payload", "answer", "factors"} else value for name, value in row.items()}
        for row in trials.to_dict("records")
    ]  # fmt: skip


def facts_of(tables: Tables) -> dict[str, Row]:
    """Return the facts of each item, with its role."""
    return {
        str(row["item_id"]): {"role": row["role"], **json.loads(row["facts"])}
        for row in tables.items.to_dict("records")
    }


def grids(row: Row) -> dict[str, list[str]]:
    """Return the pictures of each grid of a trial, by polarity."""
    return {grid["polarity"]: grid["pictures"] for grid in row["payload"]["references"]}


def cells(tables: Tables) -> list[CellRow]:
    """Return the cells of a set."""
    return [CellRow(**{str(k): v for k, v in row.items()}) for row in tables.cells.to_dict("records")]


def shared(rows: list[Row], facts: Mapping[str, Row]) -> Iterator[str]:
    """Check what is sent, that queries do not stand among the references, and sides."""
    for row in rows:
        at, payload = f"trial {row['position']}", row["payload"]
        if set(payload) != PAYLOAD:
            yield f"{at} sends {sorted(set(payload) ^ PAYLOAD)} more or less than the payload allows"
            continue
        if not all(OPAQUE.match(option) for option in payload["options"]):
            yield f"{at} has options whose names could tell the answer"
            continue
        if row["answer"].get("expected") not in payload["options"]:
            yield f"{at} does not expect one of its two pictures"
            continue
        if payload["feedback"] and row["phase"] == "test" and row["is_catch"]:
            yield f"{at} tells the answer to a catch trial"
        if not payload["feedback"] and row["phase"] == "practice":
            yield f"{at} is practice and does not tell the answer"
        yield from _overlap(at, row)
        if row["phase"] == "test" and (facts[row["item_id"]]["role"] == "main") == bool(row["is_catch"]):
            yield f"{at} takes item '{row['item_id']}' for another role than its own"
    yield from _sides(rows)
    screens = {(row["payload"].get("question"), row["payload"].get("arrangement"), row["payload"].get("lockout_ms"),
                json.dumps(row["payload"].get("confidence"))) for row in rows}  # fmt: skip
    if len(screens) > 1:
        yield "has trials that differ in question, arrangement, lock-out or confidence"


def _overlap(at: str, row: Row) -> Iterator[str]:
    shown = [name for pictures in grids(row).values() for name in pictures]
    high = picture_of(row, expected=True)
    low = picture_of(row, expected=False)
    if high == low:
        yield f"{at} offers one picture twice"
    if len(set(shown)) != len(shown):
        yield f"{at} shows a reference twice"
    if row["is_catch"]:
        if high not in (*grids(row).get("max", ()), *grids(row).get("base", ())):
            yield f"{at} is a catch trial whose expected picture is not among the strong references"
        if low in grids(row).get("max", ()):
            yield f"{at} is a catch trial whose other picture is among the strong references too"
    elif {high, low} & set(shown):
        yield f"{at} has a query among its references"


def picture_of(row: Row, *, expected: bool) -> str:
    """Return the picture of the expected option, or of the other one; '' where what is expected is not offered."""
    if row["answer"].get("expected") not in row["payload"]["options"]:
        return ""
    index = row["payload"]["options"].index(row["answer"]["expected"])
    return str(row["payload"]["queries"][index if expected else 1 - index])


def _sides(rows: list[Row]) -> Iterator[str]:
    for block in dict.fromkeys(row["block"] for row in rows):
        part = [row for row in rows if row["block"] == block]
        left = sum(row["answer"].get("expected") == row["payload"]["options"][0] for row in part)
        if abs(2 * left - len(part)) > 1:
            yield f"block '{block}' has {left} of {len(part)} expected pictures first"


def counts(rows: list[Row], planned: Mapping[str, int]) -> Iterator[str]:
    """Check the blocks of a cell, in their order."""
    blocks = dict(Counter(row["block"] for row in rows))
    if list(blocks.items()) != [(name, count) for name, count in planned.items() if count]:
        yield f"has blocks {blocks}, planned are {dict(planned)}"


def roles(facts: Mapping[str, Row], rows: list[Row]) -> Iterator[str]:
    """Check that practice and catch trials are about atoms that no main trial is about."""
    of: dict[bool, set[Any]] = {True: set(), False: set()}
    for row in rows:
        held = facts[row["item_id"]]
        of[held["role"] == "main"].update(map(tuple, held["atoms"]))
    both = of[True] & of[False]
    if both:
        yield f"asks about {'/'.join(map(str, sorted(both, key=str)[0]))} in main trials and in practice or catch trials"


def round_robin(asked: Mapping[int, list[str]], per_list: int) -> list[str]:
    """Check that the lists deal the items (by list, in the order of the deal) of one layer round robin.

    Parameters
    ----------
    asked
        List -> the items it asks about.
    per_list
        Planned in each list.
    """
    items = sorted({item for shown in asked.values() for item in shown})
    faults = [
        f"list {number}: asks about {len(set(shown))} items of a layer, planned are {per_list}."
        for number, shown in asked.items()
        if len(set(shown)) != per_list
    ]
    if faults:
        return faults
    try:
        dealt = deal(len(items), len(asked), per_list, "round robin")
    except LimenError as error:
        return [str(error)]
    for number, turn in zip(sorted(asked), dealt, strict=True):
        if set(asked[number]) != {items[i] for i in turn}:
            faults.append(f"list {number}: does not ask about the items of its turn of the round robin.")
    return faults


def layers_dealt(
    facts: Mapping[str, Row], asked: Mapping[int, list[str]], layers: Iterable[str], *, per_list: int, planned: int,
    what: str,
) -> Iterator[str]:  # fmt: skip
    """Check of each layer that its main items are dealt round robin, all of them, as many as planned.

    Parameters
    ----------
    facts
        Item -> its facts.
    asked
        List -> the items it asks about, of all layers.
    per_list, planned
        Items of a layer in a list, and in all lists.
    what
        What the items are called, in the plural.
    """
    for layer in layers:
        mine = {n: [i for i in names if facts[i]["layer"] == layer] for n, names in asked.items()}
        yield from round_robin(mine, per_list)
        shown = {item for names in mine.values() for item in names}
        held = {name for name, one in facts.items() if one["role"] == "main" and one["layer"] == layer}
        if shown != held or len(held) != planned:
            yield f"layer '{layer}': {len(shown)} of {len(held)} {what} are asked about, planned are {planned}."
