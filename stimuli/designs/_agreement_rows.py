"""Writes the trials of a cell of the agreement protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..rows import Sheet
from ._self_ratings import AFTER, BEFORE, NOTHING, TOLD, add_rating, question_items

POINTS = ("1", "2", "3", "4")
FACES = (
    "confident it is wrong",
    "somewhat confident it is wrong",
    "somewhat confident it is right",
    "confident it is right",
)
TASK, TRADEOFF = "agreement", "trade-off"
RISKS = ("low", "medium", "high")
DEFINITION = "the side of the scale that is true; its end is written here"


@dataclass(frozen=True)
class Writer:
    """Puts a condition's explanations on a list of images.

    Attributes
    ----------
    items : image id -> item
    examples : class -> pictures beside a prediction of it
    ratings : which self-ratings are asked for
    tradeoff : whether a trade-off is asked for
    """

    study: StudyFile
    items: Mapping[str, ItemRow]
    examples: Mapping[str, tuple[str, ...]]
    ratings: Sequence[str]
    tradeoff: bool
    lockout_ms: int

    @property
    def questions(self) -> list[ItemRow]:
        """The questions that are not about an image, as items."""
        tradeoffs = [f"{TRADEOFF} {risk}" for risk in RISKS] if self.tradeoff else []
        return question_items([*self.ratings, *tradeoffs])

    def trials(
        self, cell: CellRow, previews: Sequence[str], asked: Sequence[str], maps: Mapping[str, str]
    ) -> list[TrialRow]:
        """Return all trials of one cell in the order they are shown; `maps` is image id -> picture of its explanation."""
        sheet = Sheet(self.study, cell, "choice")
        for index, image in enumerate(previews, start=1):
            self._preview(sheet, self.items[image], maps, index, len(previews))
        self._rate(sheet, BEFORE)
        for index, image in enumerate(asked, start=1):
            item = self.items[image]
            payload = {
                **self._shared("test", index, len(asked)),
                "question": "Is the machine's answer right?",
                "panels": self._panels(item, maps),
                "options": list(POINTS),
                "faces": [{"label": point, "text": text} for point, text in zip(POINTS, FACES, strict=True)],
                "layout": "row",
            }
            answer = {
                "expected": POINTS[-1] if item.model_correct else POINTS[0],
                "accepted": list(POINTS[2:] if item.model_correct else POINTS[:2]),
                "definition": DEFINITION,
                "model_correct": item.model_correct,
                "label": item.label,
                "group": item.group,
            }
            machine = "right" if item.model_correct else "wrong"
            sheet.add(payload, item=image, answer=answer, block=TASK, factors={"machine": machine})
        self._rate(sheet, AFTER, TOLD)
        if self.tradeoff:
            for risk in RISKS:
                self._tradeoff(sheet, risk)
        return sheet.rows

    def _panels(self, item: ItemRow, maps: Mapping[str, str]) -> list[dict[str, Any]]:
        panels: list[dict[str, Any]] = [
            {"label": "Picture", "pictures": [item.picture], "text": f"The machine answers: **{item.predicted}**"}
        ]
        if item.item_id in maps:
            panels.append({"label": "Explanation", "pictures": [maps[item.item_id]], "text": ""})
        if self.examples:
            beside = list(self.examples[item.predicted])
            panels.append({"label": f"Pictures of class {item.predicted}", "pictures": beside, "text": ""})
        return panels

    def _preview(self, sheet: Sheet, item: ItemRow, maps: Mapping[str, str], index: int, count: int) -> None:
        truth = (
            "The machine is **right**" if item.model_correct else f"The machine is **wrong**: this is **{item.label}**"
        )
        payload = {
            **self._shared("practice", index, count),
            "question": "An example",
            "panels": [*self._panels(item, maps), {"label": "Truth", "pictures": [], "text": truth}],
            "options": ["next"],
            "faces": [{"label": "Go on", "text": ""}],
            "layout": "list",
        }
        sheet.add(payload, item=item.item_id, answer={}, block="preview")

    def _rate(self, sheet: Sheet, *moments: str) -> None:
        for moment in moments:
            if moment in self.ratings:
                add_rating(sheet, moment, shared=self._shared("test", 0, 0), task=TASK)

    def _tradeoff(self, sheet: Sheet, risk: str) -> None:
        payload = {
            **self._shared("test", 0, 0),
            "question": f"Think of a task of {risk} risk. The machine you saw explains its answers. How often, out of 100, would "
            "another machine have to be right for you to use it instead, although it explains nothing?",
            "panels": [],
            "options": [],
            "faces": [],
            "layout": "row",
            "entry": {
                "label": "Right answers out of 100",
                "kind": "number",
                "required": True,
                "minimum": 0,
                "maximum": 100,
            },
        }
        sheet.add(payload, item=f"{TRADEOFF} {risk}", answer={}, block=TRADEOFF, factors={"machine": NOTHING})

    def _shared(self, phase: str, index: int, count: int) -> dict[str, Any]:
        return {
            "phase": phase,
            "session": 0 if phase == "practice" else 1,
            "session_count": 1,
            "index": index,
            "count": count,
            "lockout_ms": self.lockout_ms,
        }
