"""A person's own score on a screen that is frozen: what the screen declares, which trials count, and how it is filled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from bench.config import Frozen

PLACES = ("right", "asked")
"""Names of the placeholders: right answers, and questions that had a right answer."""
EXAMPLE_NOTE = "The numbers are an example; each person is told their own."
_PLACE = re.compile(r"\{(right|asked)\}")


class OwnScore(Frozen):
    """Which of a person's answers are counted into `{right}` of `{asked}`: those of a phase, or of one block of it."""

    phase: Literal["practice", "test"] = "test"
    """Of practice, the attempt that ended it counts."""
    block: str = ""
    """Name of the block; '' for all of the phase."""
    catch: bool = False
    """Whether attention checks count."""

    def counts(self, *, phase: str, block: str, is_catch: bool, asks: bool) -> bool:
        """Whether a trial counts: one of this phase and block that has a right answer."""
        return asks and phase == self.phase and self.block in ("", block) and (self.catch or not is_catch)


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text of a payload, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_of(part)


def placed(value: Any) -> list[str]:
    """Return the placeholders in a value's texts, in order, as often as they stand there."""
    return [name for text in texts_of(value) for name in _PLACE.findall(text)]


def place_fault(payload: Mapping[str, Any]) -> str:
    """Say why a payload (plain data) cannot tell a score as it does, '' if it can or tells none."""
    score = payload.get("score")
    told = [] if score is None else placed([panel["text"] for panel in payload.get("panels", ())])
    if len(placed(payload)) != len(told):
        return "{right} and {asked} stand in the text of a panel of a choice that declares a score, nowhere else"
    if score is not None and set(told) != set(PLACES):
        return "a declared score is told by {right} and {asked} in the text of a panel"
    return ""


def filled(payload: Mapping[str, Any], *, right: int, asked: int) -> dict[str, Any]:
    """Return the payload that a person is shown: the numbers in the texts of its panels, and nothing left to fill."""
    numbers = {"right": str(right), "asked": str(asked)}

    def said(text: str) -> str:
        return _PLACE.sub(lambda place: numbers[place[1]], text)

    panels = [{**panel, "text": said(str(panel.get("text", "")))} for panel in payload.get("panels", ())]
    return {**{name: part for name, part in payload.items() if name != "score"}, "panels": panels}


def example(payload: Mapping[str, Any], *, asked: int) -> dict[str, Any]:
    """Fill a payload with made-up numbers, and say so on its screen."""
    shown = filled(payload, right=round(0.7 * asked), asked=asked)
    return {**shown, "panels": [*shown["panels"], {"label": "Preview", "pictures": [], "text": EXAMPLE_NOTE}]}


def declared(payload: Mapping[str, Any]) -> OwnScore | None:
    """Return what a payload (plain data) declares to be told, None for nothing."""
    held = payload.get("score")
    return None if held is None else OwnScore.model_validate(held)


def counted(rule: OwnScore, trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of one cell (`answer` as JSON) that a rule counts."""
    return [
        row
        for row in trials
        if rule.counts(
            phase=row["phase"],
            block=row["block"],
            is_catch=bool(row["is_catch"]),
            asks=json.loads(row["answer"]).get("expected") is not None,
        )
    ]


def faults(trials: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the scores that one cell's trials tell; rows in the order in which they are shown.

    A score is told outside practice and training, counts at least one trial, and only trials of blocks that have ended
    before: else a person would be told of answers that are not given yet, or could give again.
    """
    for place, row in enumerate(trials):
        payload, at = json.loads(row["payload"]), f"trial {row['position']}"
        try:
            rule = declared(payload)
        except ValidationError:  # what the payload's own check tells of
            continue
        if rule is None:
            continue
        found = counted(rule, trials)
        later = [one["position"] for one in found if one in trials[place:]]
        if row["phase"] != "test":
            yield f"{at} tells a person's score in the phase '{row['phase']}', where it is not allowed"
        if not found:
            yield f"{at} tells a score over no trial that has a right answer"
        if later:
            yield f"{at} tells a score over trial {later[0]}, which is not answered by then"
        elif any((one["block"], one["session"]) == (row["block"], row["session"]) for one in found):
            yield f"{at} tells the score of its own block, which a person may have to begin again"
