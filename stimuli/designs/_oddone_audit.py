"""Checks a frozen set of the odd-one-out protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from ..protocol import Tables
from ..rows import opaque
from ..rules.catalogue import RULES
from ._oddone_rows import FIRST, kind_of
from ._oddone_script import PLACES, choose_rules

Rows = list[dict[Any, Any]]


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = {str(row["item_id"]): row for row in tables.items.to_dict("records")}
    faults = [*_items(items, tables.options)]
    blocks: dict[str, list[tuple[int, Rows]]] = defaultdict(list)
    for cell in tables.cells["cell"]:
        trials = tables.trials[tables.trials["cell"] == cell].sort_values("position")
        rows: Rows = [
            {**row, **{name: json.loads(row[name]) for name in ("payload", "answer", "factors")}}
            for row in trials.to_dict("records")
        ]
        found = [*_schedule(rows, tables.options), *_mixture(rows, tables)]
        for row in rows:
            found += [f"trial {row['position']} {fault}" for fault in _trial(tables, row, items)]
        for session in range(1, tables.options["sessions"] + 1):
            mine = [row for row in rows if row["session"] == session and row["payload"].get("options")]
            found += [f"block {session} {fault}" for fault in _block(mine)]
            if mine:
                blocks[str(mine[0]["factors"].get("rule"))].append((session, mine))
        faults += [f"cell '{cell}': {fault}." for fault in found]
    return faults + _latin(blocks, tables)


def _items(items: dict[str, Any], options: Any) -> Iterator[str]:
    """Problems are whole, of their rule, and share no picture."""
    seen: Counter[str] = Counter()
    broken: dict[str, Counter[str]] = defaultdict(Counter)
    for name, item in items.items():
        if item["role"] == "rule":
            continue
        facts = json.loads(item["facts"])
        seen.update(facts["pictures"])
        if len(facts["pictures"]) != PLACES or facts["odd"] not in facts["pictures"] or item["picture"] != facts["odd"]:
            yield f"item '{name}': its odd one is not among its {PLACES} pictures, or is not the item's picture."
        if item["role"] == "main":
            broken[item["label"]][facts["broken"]] += 1
            if item["group"] != kind_of(item["label"]) or facts["rule"] != item["label"]:
                yield f"item '{name}': is not of the rule and kind that it says."
    twice = [name for name, count in seen.items() if count > 1]
    if twice:
        yield f"picture {twice[0]} stands in {seen[twice[0]]} places of the items."
    for rule, counts in broken.items():
        if set(counts) - set(RULES[rule].parts):
            yield f"rule '{rule}': an odd one breaks {sorted(set(counts) - set(RULES[rule].parts))[0]}, no part of it."
        spread = [counts[part] for part in RULES[rule].parts]
        # A run of four holds each part twice; what is left over of it may hold two of one part.
        if max(spread) - min(spread) > (2 if sum(spread) % PLACES else 0) and len(spread) > 1:
            yield f"rule '{rule}': its parts are broken {dict(counts)} times, which is not balanced."
        if sum(spread) != options["problems"]:
            yield f"rule '{rule}': has {sum(spread)} problems, planned are {options['problems']}."


def _schedule(rows: Rows, options: Any) -> Iterator[str]:
    planned = {"practice": options["practice"]} if options["practice"] else {}
    for session in range(1, options["sessions"] + 1):
        planned[f"rule {session}"] = options["problems"] + int(options["describe"])
    given = dict(Counter(row["block"] for row in rows))
    if list(given.items()) != list(planned.items()):
        yield f"has blocks {given}, planned are {planned}"
    for before, after in itertools.pairwise(rows):
        if before["session"] > after["session"]:
            yield f"goes back a block at trial {after['position']}"
    ends = [row["position"] for row, after in zip(rows, [*rows[1:], None], strict=True)
            if row["session"] and (after is None or after["session"] != row["session"])]  # fmt: skip
    asked = [row["position"] for row in rows if not row["payload"].get("options")]
    if asked != (ends if options["describe"] else []):
        yield "does not ask for the rule at the end of each block, and there only, as planned"


def _mixture(rows: Rows, tables: Tables) -> Iterator[str]:
    """Each list meets elementary and composed rules in the proportion of the study, within one."""
    mine = {row["factors"]["rule"] for row in rows if row["phase"] == "test"}
    everything = tables.items.loc[tables.items["role"] == "main"].drop_duplicates("label")
    share = float((everything["group"] == "composed").mean())
    composed = sum(RULES[rule].is_composed for rule in mine)
    if abs(composed - share * len(mine)) >= 1.0 + 1e-9:
        yield f"has {composed} composed rules among {len(mine)}, which is not the study's proportion"


def _trial(tables: Tables, row: dict[Any, Any], items: dict[str, Any]) -> Iterator[str]:
    payload, factors = row["payload"], row["factors"]
    item = items[row["item_id"]]
    first = payload.get("index") == 1 and row["phase"] == "test" and bool(payload.get("options"))
    if (payload.get("panels") or []) != ([{"text": FIRST}] if first else []):
        yield "does not tell of a new rule at the start of a block, and there only"
    if row["phase"] == "test" and (factors.get("rule"), factors.get("composition")) != (item["label"], item["group"]):
        yield "is of another rule or kind than its item"
    if not payload.get("options"):
        if row["answer"]:
            yield "asks for a description and has a right answer"
        return
    if row["phase"] == "practice" and item["role"] != "practice":
        yield "shows a problem of the study in practice"
    facts = json.loads(item["facts"])
    shown = [face["pictures"] for face in payload["faces"]]
    if sorted(name for names in shown for name in names) != sorted(facts["pictures"]):
        yield "shows other pictures than its item's"
        return
    expected = payload["options"].index(row["answer"]["expected"]) if row["answer"].get("expected") else -1
    if expected < 0 or shown[expected] != [facts["odd"]]:
        yield "does not expect the odd one"
    if payload["options"] != [opaque(tables.study, row["cell"], row["position"], k) for k in range(PLACES)]:
        yield "has options that are not opaque"
    if not (payload.get("confidence") or {}).get("slider"):
        yield "does not ask for a confidence from 0 to 100"
    if payload.get("feedback") != (tables.options["feedback"] or row["phase"] == "practice"):
        yield "tells the answer, or does not, against the plan"
    if row["phase"] == "test" and factors.get("broken") != facts["broken"]:
        yield "says that its odd one breaks another part"


def _block(rows: Rows) -> Iterator[str]:
    rules = {row["factors"].get("rule") for row in rows}
    if len(rules) != 1:
        yield f"mixes the rules {sorted(map(str, rules))}"
    if len({row["item_id"] for row in rows}) != len(rows):
        yield "shows a problem twice"
    if [row["factors"].get("problem") for row in rows] != list(range(1, len(rows) + 1)):
        yield "does not number its problems from 1"
    places = Counter(place_of(row) for row in rows)
    counts = [places[place] for place in range(PLACES)]
    if max(counts) - min(counts) > (1 if sum(counts) % PLACES else 0):
        yield f"has the odd one {counts} times in the four places"


def place_of(row: dict[Any, Any]) -> int:
    """Return the displayed place of the expected option, -1 if there is none."""
    options, expected = row["payload"]["options"], row["answer"].get("expected")
    return options.index(expected) if expected in options else -1


def _latin(blocks: dict[str, list[tuple[int, Rows]]], tables: Tables) -> list[str]:
    """Over the lists each rule stands once in each block, and each problem in as many places of its block as there are lists."""
    faults = []
    sessions, problems = tables.options["sessions"], tables.options["problems"]
    ring = choose_rules(tables.options["rules"], tables.options["composed"], tables.study.seed)
    if set(blocks) != set(ring):
        faults.append(
            f"the rules {sorted(set(blocks) ^ set(ring))} are shown and not planned, or planned and not shown."
        )
    conditions = len(tables.study.conditions)
    for rule, found in blocks.items():
        stands = sorted(session for session, _ in found)
        if stands != sorted(list(range(1, sessions + 1)) * conditions):
            faults.append(f"rule '{rule}': stands in the blocks {stands} over the lists, not once in each.")
        numbers: dict[str, set[int]] = defaultdict(set)
        places: dict[str, set[int]] = defaultdict(set)
        for _, rows in found:
            for row in rows:
                numbers[row["item_id"]].add(row["factors"].get("problem"))
                places[row["item_id"]].add(place_of(row))
        if any(len(given) < min(sessions, problems) for given in numbers.values()):
            faults.append(f"rule '{rule}': a problem has the same number in two lists.")
        if any(len(given) < min(sessions, PLACES) for given in places.values()):
            faults.append(f"rule '{rule}': the odd one of a problem does not move from list to list.")
    return faults
