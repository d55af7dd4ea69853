"""Checks a frozen set of the basis protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..balance import round_half_up
from ..protocol import Tables
from ._basis_pairs import DICTIONARY, NEURON
from ._references import ALL
from ._references_audit import Row, cells, counts, facts_of, grids, layers_dealt, picture_of, roles, rows_of, shared


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    options, facts = tables.options, facts_of(tables)
    faults = [f"item '{name}': {fault}." for name, one in facts.items() for fault in _item(one, options)]
    faults += [f"{fault}." for fault in _pairs(facts)]
    asked: dict[int, list[str]] = {}
    scripts: dict[int, Any] = {}
    for cell in cells(tables):
        rows = rows_of(tables, cell.cell)
        main = [row for row in rows if row["phase"] == "test" and not row["is_catch"]]
        kinds = options["references"] if cell.condition == ALL else (cell.condition,)
        planned = {"practice": options["practice"], "test": len(main) + options["catch"]}
        found = [*shared(rows, facts), *counts(rows, planned), *roles(facts, rows), *_shown(rows, facts)]
        found += _crossed(main, kinds)
        faults += [f"cell '{cell.cell}': {fault}." for fault in found]
        asked[cell.list] = [row["item_id"] for row in main]
        sides = [
            (row["item_id"], row["factors"]["basis"], picture_of(row, expected=True) == row["payload"]["queries"][0])
            for row in rows
        ]
        if scripts.setdefault(cell.list, sides) != sides:
            faults.append(
                f"cell '{cell.cell}': asks in another order or with other sides than its list in another condition."
            )
    layers = dict.fromkeys(one["layer"] for one in facts.values() if one["role"] == "main")
    faults += layers_dealt(facts, asked, layers, per_list=options["per_list"], planned=options["pairs"], what="pairs")
    return faults


def _item(facts: Row, options: Mapping[str, Any]) -> Iterator[str]:
    """Check what an item's pictures do to its features."""
    main = facts["role"] == "main"
    for basis, kinds in facts["questions"].items():
        for kind, asked in kinds.items():
            at = f"{basis}, {kind}"
            if (len(asked["max"]), len(asked["min"])) != (options["maximum"], options["minimum"]):
                yield f"{at}: has {len(asked['max'])} strong and {len(asked['min'])} weak references"
            if main and len(asked["queries"]) != options["query_pairs"]:
                yield f"{at}: has {len(asked['queries'])} pairs of queries, planned are {options['query_pairs']}"
            references = {one["picture"] for one in (*asked["max"], *asked["min"])}
            for pair in asked["queries"]:
                if {pair["high"]["picture"], pair["low"]["picture"]} & references:
                    yield f"{at}: a query stands among the references"
                if pair["high"]["activation"] <= max(pair["low"]["activation"], 0):
                    yield f"{at}: the strong query does not activate it more than the weak one, or not above 0"
                for end in ("high", "low"):
                    low, high = options[end]
                    if main and not low <= pair[end]["percentile"] <= high:
                        yield f"{at}: the {end} query stands at percentile {pair[end]['percentile']:.1f}"
            yield from _extremes(at, kind, asked, options)


def _extremes(at: str, kind: str, asked: Row, options: Mapping[str, Any]) -> Iterator[str]:
    """Check that own references are more extreme than the queries: all of them, or those that are not foreign."""
    highest = max(pair["high"]["activation"] for pair in asked["queries"])
    lowest = min(pair["low"]["activation"] for pair in asked["queries"])
    foreign = {
        grid: round_half_up(options["mixed_share"] * len(asked[grid])) * (kind == "mixed") for grid in ("max", "min")
    }
    strong = sum(one["activation"] >= highest for one in asked["max"])
    weak = sum(one["activation"] <= lowest for one in asked["min"])
    if strong < len(asked["max"]) - foreign["max"]:
        yield f"{at}: a strong reference activates it less than a query"
    if weak < len(asked["min"]) - foreign["min"]:
        yield f"{at}: a weak reference activates it more than a query"
    if (kind == "mixed") != (asked["other"] is not None) or (kind == "matched") != bool(asked["label"]):
        yield f"{at}: does not name what its kind of references stands for"  # fmt: skip


def _pairs(facts: Mapping[str, Row]) -> Iterator[str]:
    """Check that no feature stands in two items."""
    used = Counter(tuple(atom) for one in facts.values() for atom in one["atoms"])
    twice = [atom for atom, count in used.items() if count > 1]
    if twice:
        yield f"feature {'/'.join(map(str, twice[0]))} stands in two items"


def _shown(rows: list[Row], facts: Mapping[str, Row]) -> Iterator[str]:
    """Check that trials show what their items say."""
    for row in rows:
        at, factors, held = f"trial {row['position']}", row["factors"], facts[row["item_id"]]
        asked = held["questions"].get(factors.get("basis"), {}).get(factors.get("reference"))
        if asked is None or factors.get("layer") != held["layer"] or factors.get("atom") != asked["atom"]:
            yield f"{at} has factors {factors} that are not those of its item"
            continue
        shown = grids(row)
        for polarity in ("max", "min"):
            if sorted(shown.get(polarity, ())) != sorted(one["picture"] for one in asked[polarity]):
                yield f"{at} shows other {polarity} references than its item's"
        if not 1 <= factors.get("draw", 0) <= len(asked["queries"]):
            yield f"{at} shows a pair of queries that its item does not have"
            continue
        pair = asked["queries"][factors["draw"] - 1]
        expected = picture_of(row, expected=True)
        if not row["is_catch"] and expected != pair["high"]["picture"]:
            yield f"{at} does not expect the picture that activates its feature more"
        if picture_of(row, expected=False) != pair["low"]["picture"]:
            yield f"{at} does not offer its item's weak picture"


def _crossed(main: list[Row], kinds: Any) -> Iterator[str]:
    """Check that every item of a list is asked about in both bases, with each kind of references, once."""
    found = Counter((row["item_id"], row["factors"]["basis"], row["factors"]["reference"]) for row in main)
    names = {row["item_id"] for row in main}
    wanted = {(name, basis, kind) for name in names for basis in (NEURON, DICTIONARY) for kind in kinds}
    if set(found) != wanted or set(found.values()) != {1}:
        yield "does not ask about each of its pairs once in each basis and with each kind of references"
