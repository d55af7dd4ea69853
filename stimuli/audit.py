"""The rules that hold for the trials of every protocol, checked from a stimulus set's tables alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.registry import LimenError

from . import own_score
from .protocol import Tables
from .trials import parse_payload


def audit(tables: Tables) -> list[str]:
    """Return one sentence for each broken rule, [] if all hold.

    Positions run from 0; ids are unique and opaque; each payload is one of its trial type; what is expected is among
    the options; training asks nothing and tests tell nothing; factors do not bear the name of a column; a person's own
    score is told where it is allowed and nowhere else; each condition of the study has cells, and their quotas add up.
    """
    faults = [f"cell '{cell}': {fault}." for cell in tables.cells["cell"] for fault in _cell(tables, str(cell))]
    ids = tables.trials["trial_id"]
    if ids.duplicated().any():
        faults.append(f"trial id '{ids[ids.duplicated()].iloc[0]}' is given twice.")
    unknown = sorted(set(tables.trials["item_id"]) - set(tables.items["item_id"]))
    if unknown:
        faults.append(f"item '{unknown[0]}' is shown but is not among the items.")
    return faults + _pages(tables) + _quotas(tables)


def _cell(tables: Tables, cell: str) -> Iterator[str]:
    rows = tables.trials[tables.trials["cell"] == cell].sort_values("position")
    if not len(rows):
        yield "has no trials"
    if list(rows["position"]) != list(range(len(rows))):
        yield "has positions that do not run from 0 without a gap"
    yield from own_score.faults([{str(k): v for k, v in row.items()} for row in rows.to_dict("records")])
    names: set[tuple[str, ...]] = set()
    for row in rows.to_dict("records"):
        yield from _trial({str(name): value for name, value in row.items()})
        if row["phase"] == "test":
            names.add(tuple(sorted(json.loads(row["factors"]))))
    if len(names) > 1:
        yield "has test trials with different factors"


def _trial(row: dict[str, Any]) -> Iterator[str]:
    at = f"trial {row['position']}"
    try:
        payload = parse_payload(row["trial_type"], row["payload"], where=at)
    except LimenError as error:
        yield str(error).rstrip(".")
        return
    answer = json.loads(row["answer"])
    expected = answer.get("expected")
    if payload.phase != row["phase"]:
        yield f"{at} says it is of phase '{payload.phase}', and is of '{row['phase']}'"
    if len(set(payload.options)) != len(payload.options):
        yield f"{at} offers an answer twice"
    if row["phase"] == "train" and answer:
        yield f"{at} is training and asks for an answer"
    if expected is not None and payload.options and expected not in payload.options:
        yield f"{at} expects an answer that is not offered"
    if row["phase"] == "test" and payload.feedback and row["is_catch"]:
        yield f"{at} is a catch trial that tells the answer"


def _pages(tables: Tables) -> list[str]:
    texts = None if tables.study.texts is None else tables.study.texts.model_dump()
    return ["texts: a page holds {right} or {asked}, which only a trial can tell."] if own_score.placed(texts) else []


def _quotas(tables: Tables) -> list[str]:
    given = tables.cells.groupby("condition")["quota"].sum()
    faults = []
    for condition in tables.study.conditions:
        if condition not in given.index:
            faults.append(f"condition '{condition}': has no cells.")
        elif int(given[condition]) != tables.study.quota:
            faults.append(
                f"condition '{condition}': its cells have quotas of {int(given[condition])} together, not {tables.study.quota}."
            )
    return faults
