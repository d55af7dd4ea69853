"""Checks a frozen set of the visualization protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..protocol import Tables
from ._references_audit import Row, cells, counts, facts_of, grids, layers_dealt, picture_of, roles, rows_of, shared
from ._visualization_draw import references_in
from ._visualization_occlusion import item_faults
from ._visualization_script import beside, blocks, name_of


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    options, facts = tables.options, facts_of(tables)
    faults = [f"item '{name}': {fault}." for name, one in facts.items() for fault in _item(one, options)]
    twice = [atom for atom, n in Counter(tuple(a) for one in facts.values() for a in one["atoms"]).items() if n > 1]
    faults += [f"feature {'/'.join(map(str, atom))} stands in two items." for atom in twice]
    asked: dict[int, list[str]] = {}
    orders: dict[int, Any] = {}
    for cell in cells(tables):
        rows = rows_of(tables, cell.cell)
        main = [row for row in rows if _is_main(row)]
        kinds = blocks(cell.condition, options["kinds"], cell.list)
        found = [*shared(rows, facts), *roles(facts, rows), *_shown(rows, facts), *_repeats(rows)]
        found += [*counts(rows, _planned(cell.condition, kinds, len(main), options)), *_crossed(main, kinds)]
        faults += [f"cell '{cell.cell}': {fault}." for fault in found]
        asked[cell.list] = [row["item_id"] for row in main]
        order = [(row["item_id"], row["factors"]["batch"]) for row in main]
        if orders.setdefault(cell.list, order) != order:
            faults.append(
                f"cell '{cell.cell}': asks in another order or about other batches than its list in another condition."
            )
    layers = dict.fromkeys(one["layer"] for one in facts.values())
    faults += layers_dealt(facts, asked, layers, per_list=options["per_list"], planned=options["units"], what="units")
    return faults


def _is_main(row: Row) -> bool:
    return bool(row["phase"] == "test" and not row["is_catch"] and not row["factors"].get("repeated"))


def _planned(condition: str, kinds: list[str], main: int, options: Mapping[str, Any]) -> dict[str, int]:
    each = main // len(kinds)
    planned = {"practice": options["practice"]}
    planned |= {name_of(condition, kind): each + (0 if kind == "none" else options["catch"]) for kind in kinds}
    return {**planned, "repeated": options["repeats"]}


def _item(facts: Row, options: Mapping[str, Any]) -> Iterator[str]:
    """Check the batches of a unit: disjoint, of the planned size, and apart in activation."""
    size, batches = references_in(options["schemes"]), facts["batches"]
    if len(batches) != options["batches"] + 1:
        yield f"has {len(batches)} batches, planned are {options['batches'] + 1}"
    for end, part in (("high", "max"), ("low", "min")):
        pictures = [one["picture"] for batch in batches for one in (*batch[end], *batch[part])]
        if len(set(pictures)) != len(pictures):
            yield f"has a picture twice in its batches ({end})"
        if any((len(batch[end]), len(batch[part])) != (1, size) for batch in batches):
            yield f"has a batch without 1 query and {size} references ({end})"
    if options["task"] == "occlusion":
        yield from item_faults(batches, options["effect"])
        return
    strong = [one["activation"] for batch in batches for one in (*batch["high"], *batch["max"])]
    weak = [one["activation"] for batch in batches for one in (*batch["low"], *batch["min"])]
    if min(strong) <= max(0, *weak):
        yield "has a strong picture that does not activate it more than every weak one, or not above 0"
    for number, batch in enumerate(batches[1:], start=1):
        high, low = batch["high"][0], batch["low"][0]
        top = max(one["activation"] for one in batch["max"])
        bottom = min(one["activation"] for one in batch["min"])
        if options["hardness"] == 100 and (high["activation"] < top or low["activation"] > bottom):
            yield f"batch {number}: a query is not the most extreme picture of its batch"
        if options["hardness"] < 100 and (
            high["activation"] > min(one["activation"] for one in batch["max"])
            or low["activation"] < max(one["activation"] for one in batch["min"])
        ):
            yield f"batch {number}: a harder query is more extreme than a reference"


def _shown(rows: list[Row], facts: Mapping[str, Row]) -> Iterator[str]:
    """Check that trials show what their items say."""
    for row in rows:
        at, factors, held = f"trial {row['position']}", row["factors"], facts[row["item_id"]]
        kind, batch = factors.get("reference"), factors.get("batch")
        if factors.get("layer") != held["layer"] or factors.get("atom") != held["atoms"][0][2]:
            yield f"{at} has factors {factors} that are not those of its item"
            continue
        spare = row["is_catch"] or row["phase"] == "practice"
        if (batch == 0) != spare or not 0 <= batch < len(held["batches"]):
            yield f"{at} shows batch {batch}, and batch 0 is for practice and catch trials only"
            continue
        shown = grids(row)
        for polarity in ("max", "min"):
            if sorted(shown.get(polarity, ())) != sorted(beside(held, batch, kind, factors["scheme"], polarity)):
                yield f"{at} shows other {polarity} references than its unit, batch, kind and grid give"
        pair = held["batches"][batch]
        if shown.get("base", []) != ([pair["base"]["picture"]] if "base" in pair else []):
            yield f"{at} shows another favourite picture than its batch gives"
        if row["is_catch"]:
            if "base" in pair and [picture_of(row, expected=is_it) for is_it in (True, False)] != [
                pair["base"]["picture"], pair["low"][0]["picture"],
            ]:  # fmt: skip
                yield f"{at} is a catch trial that does not offer its favourite picture, uncovered, beside the copy that changes it most"
            continue
        if picture_of(row, expected=True) != pair["high"][0]["picture"]:
            yield f"{at} does not expect the picture that activates its unit more"
        if picture_of(row, expected=False) != pair["low"][0]["picture"]:
            yield f"{at} does not offer its batch's weak query"


def _crossed(main: list[Row], kinds: list[str]) -> Iterator[str]:
    """Check that every unit of a list is asked about once with each kind, with other pictures each time."""
    found = Counter((row["item_id"], row["factors"]["reference"]) for row in main)
    names = {row["item_id"] for row in main}
    if set(found) != {(name, kind) for name in names for kind in kinds} or set(found.values()) != {1}:
        yield "does not ask about each of its units once with each kind of references"
    elif len({(row["item_id"], row["factors"]["batch"]) for row in main}) != len(main):
        yield "asks about a unit twice with the same pictures"
    for row in main:
        if row["block"] != name_of(row["condition"], row["factors"]["reference"]):
            yield f"trial {row['position']} stands in another block than its kind of references"


def _repeats(rows: list[Row]) -> Iterator[str]:
    """Check that repeated questions are main questions of this cell with the sides exchanged."""
    first = {row["trial_id"]: row for row in rows if _is_main(row)}
    for row in rows:
        if row["phase"] != "test" or not row["factors"].get("repeated"):
            if "repeat_of" in row["answer"]:
                yield f"trial {row['position']} repeats another one outside the repeated questions"
            continue
        before = first.get(row["answer"].get("repeat_of", ""))
        if before is None or row["payload"]["queries"] != before["payload"]["queries"][::-1]:
            yield f"trial {row['position']} does not repeat a question of its cell with the sides exchanged"
        elif grids(row) != grids(before):
            yield f"trial {row['position']} repeats a question with other references"
