"""Checks a frozen set of the utility protocol against the protocol's own rules, from its tables alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..balance import round_half_up, spread
from ..protocol import Tables
from ._utility_audit_scenario import audit_scenario
from ._utility_conditions import BASELINE
from ._utility_scenarios import shown_classes

PAYLOAD = {
    "phase",
    "image",
    "explanation",
    "predicted",
    "options",
    "reservoir",
    "feedback",
    "lockout_ms",
    "session",
    "session_count",
    "index",
    "count",
}


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold."""
    items = tables.items.set_index("item_id")
    if tables.options.get("answers") == "letters":
        read = shown_classes(tables.pool["classes"], "letters")
        told = items["predicted"].map(lambda name: read.get(name, name))
        items = items.assign(predicted=items["predicted"].where(items["role"] == "practice", told))
    faults: list[str] = []
    scripts: dict[int, tuple[str, list[Any]]] = {}
    for cell, number in zip(tables.cells["cell"], tables.cells["list"], strict=True):
        trials = tables.trials[tables.trials["cell"] == cell].sort_values("position")
        rows: list[dict[Any, Any]] = trials.to_dict("records")
        rows = [{**row, "payload": json.loads(row["payload"])} for row in rows]
        found = [*_counts(rows, tables.options), *_leaks(rows), *_reservoir(rows), *_answers(rows, items)]
        found += [*_roles(rows), *_shares(trials, items, tables.options), *_balance(rows, items)]
        script = [(row["item_id"], row["phase"], row["is_catch"], row["payload"]["options"]) for row in rows]
        first, shown = scripts.setdefault(int(number), (cell, script))
        if shown != script:
            found.append(f"shows other images, another order or other sides than cell '{first}' of the same list")
        faults += [f"cell '{cell}': {fault}." for fault in found]
    return [*faults, *_quotas(tables), *audit_scenario(tables)]


def _counts(rows: list[dict[Any, Any]], options: Any) -> Iterator[str]:
    planned = {"practice": options["practice"]} if options["practice"] else {}
    for session in range(1, options["sessions"] + 1):
        planned[f"session {session} train"] = options["train"]
        planned[f"session {session} test"] = options["test"] + options["catch"]
    blocks: dict[str, int] = dict(Counter(row["block"] for row in rows))
    if list(blocks.items()) != list(planned.items()):
        yield f"has blocks {blocks}, planned are {planned}"


def _leaks(rows: list[dict[Any, Any]]) -> Iterator[str]:
    for row in rows:
        payload = row["payload"]
        if set(payload) != PAYLOAD:
            yield f"trial {row['position']} sends {sorted(set(payload) ^ PAYLOAD)} more or less than the payload allows"
        if row["phase"] != "train" and (payload["explanation"] or payload["predicted"]):
            yield f"trial {row['position']} ({row['phase']}) sends an explanation or the model's answer"
        if row["phase"] == "train" and row["condition"] == BASELINE and payload["explanation"]:
            yield f"trial {row['position']} sends an explanation in the baseline"
        if row["phase"] == "train" and row["condition"] != BASELINE and not payload["explanation"]:
            yield f"trial {row['position']} lacks its explanation"


def _reservoir(rows: list[dict[Any, Any]]) -> Iterator[str]:
    seen: list[dict[Any, Any]] = []
    for row in rows:
        payload = row["payload"]
        if row["phase"] == "train":
            seen.append({name: payload[name] for name in ("image", "explanation", "predicted")})
        if row["phase"] == "test" and (payload["reservoir"] != seen or row["k_seen"] != len(seen)):
            yield f"trial {row['position']}: the reservoir is not the {len(seen)} training examples seen so far"


def _answers(rows: list[dict[Any, Any]], items: pd.DataFrame) -> Iterator[str]:
    for row in rows:
        answer, item = json.loads(row["answer"]), items.loc[row["item_id"]]
        if row["payload"]["image"] != item["picture"]:
            yield f"trial {row['position']} shows another picture than its item's"
        if row["phase"] == "train":
            if answer or row["payload"]["predicted"] != item["predicted"]:
                yield f"trial {row['position']} does not tell the model's answer, or asks for one"
        elif answer.get("expected") != item["predicted"] or item["predicted"] not in row["payload"]["options"]:
            yield f"trial {row['position']} does not expect the model's answer"


def _roles(rows: list[dict[Any, Any]]) -> Iterator[str]:
    of: dict[str, list[str]] = {"practice": [], "train": [], "test": [], "catch": []}
    for row in rows:
        of["catch" if row["is_catch"] else row["phase"]].append(row["payload"]["image"])
    examples = [
        example["image"] for row in rows if row["phase"] == "practice" for example in row["payload"]["reservoir"]
    ]
    main = of["train"] + of["test"]
    if len(set(main)) != len(main):
        yield "shows a picture in training and at test, or twice, outside catch trials"
    if set(of["practice"] + examples) & set(main):
        yield "shows a picture of practice in training or at test"
    if set(of["catch"]) - set(of["train"]):
        yield "asks a catch trial about a picture that is not in training"


def _shares(trials: pd.DataFrame, items: pd.DataFrame, options: Any) -> Iterator[str]:
    asked = trials[(trials["phase"] != "practice") & ~trials["is_catch"]]
    for name, part in (("all images", asked), ("test images", asked[asked["phase"] == "test"])):
        wrong = int((~items.loc[part["item_id"], "model_correct"].astype(bool)).sum())
        planned = round_half_up(options["wrong_share"] * len(part))
        if wrong != planned:
            yield f"has {wrong} model-wrong images among {len(part)} {name}, planned are {planned}"


def _balance(rows: list[dict[Any, Any]], items: pd.DataFrame) -> Iterator[str]:
    for block in dict.fromkeys(row["block"] for row in rows):
        part = [row for row in rows if row["block"] == block]
        answers = Counter(items.loc[row["item_id"], "predicted"] for row in part if not row["is_catch"])
        counts = [*answers.values(), 0, 0][:2]
        if part[0]["phase"] != "practice" and abs(counts[0] - counts[1]) > 1:
            yield f"block '{block}' has predicted classes {dict(answers)}, which differ by more than one"
        if part[0]["phase"] == "train":
            continue
        left = sum(row["payload"]["options"][0] == items.loc[row["item_id"], "predicted"] for row in part)
        if abs(2 * left - len(part)) > 1:
            yield f"block '{block}' has {left} of {len(part)} expected answers on the left"


def _quotas(tables: Tables) -> list[str]:
    faults = []
    for condition in tables.study.conditions:
        given = sorted(tables.cells.loc[tables.cells["condition"] == condition, "quota"])
        if given != sorted(spread(tables.study.quota, tables.options["lists"])):
            faults.append(f"condition '{condition}': its cells have quotas {given}, together not {tables.study.quota}.")
    return faults
