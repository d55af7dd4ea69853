"""HIVE's self-ratings of understanding: before the task, after it, and after one was told one's own score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..records import ItemRow
from ..rows import Sheet

BEFORE, AFTER, TOLD = "rating before", "rating after", "rating told"
LEVELS = ("1", "2", "3", "4", "5")
QUESTION = "How well do you understand how the machine comes to its answers?"
TELLS = "**{right}** of your **{asked}** answers were right."
NOTHING = "none"
"""Level of the factor `machine` where the question is not about a prediction."""


def moments(options: Mapping[str, Any]) -> list[str]:
    """Name the ratings that the options of a design ask for, in their order."""
    after = [AFTER, TOLD] if options["own_score"] else [AFTER]
    return [BEFORE, *after] if options["ratings"] else []


def question_items(names: Sequence[str]) -> list[ItemRow]:
    """Return questions that are not about an image as items."""
    return [
        ItemRow(
            item_id=name,
            role="question",
            picture="",
            label="",
            predicted="",
            probability=float("nan"),
            model_correct=False,
            group="",
        )
        for name in names
    ]


def add_rating(sheet: Sheet, moment: str, *, shared: Mapping[str, Any], task: str) -> None:
    """Ask for a rating from 1 to 5.

    Parameters
    ----------
    sheet
        The trials of a cell so far.
    moment
        One of `BEFORE`, `AFTER`, `TOLD`.
    shared
        What all payloads of the design say.
    task
        Name of the block whose score is told before the last rating.
    """
    payload = {
        **shared,
        "question": QUESTION,
        "panels": [],
        "options": list(LEVELS),
        "faces": [{"label": level, "text": ""} for level in LEVELS],
        "layout": "scale",
        "low": "not at all",
        "high": "completely",
    }
    if moment == TOLD:
        payload["panels"] = [{"label": "Your score", "pictures": [], "text": TELLS}]
        payload["score"] = {"phase": "test", "block": task, "catch": False}
    sheet.add(payload, item=moment, answer={}, block=moment, factors={"machine": NOTHING})


def flow_faults(trials: Sequence[Mapping[str, Any]], expected: Mapping[str, int]) -> Iterator[str]:
    """Check that a cell has the blocks of its plan, in their order and with their numbers of trials."""
    planned = {name: int(count) for name, count in expected.items() if count}
    blocks = dict(Counter(one["block"] for one in trials))
    if list(blocks.items()) != list(planned.items()):
        yield f"has blocks {blocks}, planned are {planned}"


def rating_faults(trials: Sequence[Mapping[str, Any]], task: str) -> Iterator[str]:
    """Check that ratings offer the scale and have no right answer, and that the last one tells the score of the task alone."""
    for one in trials:
        if one["block"] not in (BEFORE, AFTER, TOLD):
            continue
        payload, at = one["payload"], f"trial {one['position']}"
        if payload["options"] != list(LEVELS) or payload["question"] != QUESTION or one["answer"]:
            yield f"{at} does not ask for a rating from 1 to 5"
        if one["factors"] != {"machine": NOTHING}:
            yield f"{at} has the wrong level of the factor 'machine'"
        score = payload.get("score")
        if (score is not None) != (one["block"] == TOLD):
            yield f"{at} tells a score before the last rating, or none there"
        elif score is not None and score != {"phase": "test", "block": task, "catch": False}:
            yield f"{at} tells another score than that of the block '{task}'"
