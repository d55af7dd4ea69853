"""Writes the rows of a cell of the utility protocol: what the browser may see, and what only the server may know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..balance import seeded, sides
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..rows import Sheet
from ._utility_practice import CLASSES as PRACTICE_CLASSES
from ._utility_practice import Machine
from ._utility_script import Script, Step

DEFINITION = "the class the model answered"


@dataclass(frozen=True)
class Writer:
    """Puts a condition's explanations on a list's script.

    Attributes
    ----------
    study : StudyFile
    script : Script
    items : item id -> item
    machine : Machine
        The practice machine.
    classes : the two class names
    lockout_ms : int
    """

    study: StudyFile
    script: Script
    items: Mapping[str, ItemRow]
    machine: Machine
    classes: tuple[str, ...]
    lockout_ms: int

    def trials(self, cell: CellRow, explanations: Mapping[str, str]) -> list[TrialRow]:
        """Return all trials of one cell in the order they are shown; `explanations` maps item ids to pictures."""
        sheet = Sheet(self.study, cell, "predict")
        self._practice(sheet)
        for step in self.script.steps(cell.list):
            item, block = self.items[step.item], f"session {step.session} {step.phase}"
            if step.phase == "train":
                train = self._train(step, explanations)
                sheet.add(train, item=item.item_id, answer={}, block=block, k_seen=len(step.seen))
                continue
            test, catch = self._test(step, explanations), step.is_catch
            sheet.add(test, item=item.item_id, answer=_answer(item), block=block, is_catch=catch, k_seen=len(step.seen))
        return sheet.rows

    def _practice(self, sheet: Sheet) -> None:
        cell = sheet.cell
        asked = self.machine.questions
        order = seeded(self.script.seed, "practice order", cell.list).permutation(len(asked))
        items = [asked[i] for i in order]
        left = sides([item.predicted for item in items], seeded(self.script.seed, "practice sides", cell.list))
        examples = [_example(item, None) for item in self.machine.examples]
        for index, (item, is_left) in enumerate(zip(items, left, strict=True)):
            payload = {
                **self._common("practice", 0, index + 1, len(items)),
                "image": item.picture,
                "options": _options(PRACTICE_CLASSES, item.predicted, is_left),
                "reservoir": examples,
                "feedback": True,
            }
            sheet.add(payload, item=item.item_id, answer=_answer(item), block="practice")

    def _train(self, step: Step, explanations: Mapping[str, str]) -> dict[str, Any]:
        item = self.items[step.item]
        return {
            **self._common("train", step.session, step.index, step.count),
            "image": item.picture,
            "explanation": explanations.get(step.item),
            "predicted": item.predicted,
        }

    def _test(self, step: Step, explanations: Mapping[str, str]) -> dict[str, Any]:
        item = self.items[step.item]
        return {
            **self._common("test", step.session, step.index, step.count),
            "image": item.picture,
            "options": _options(self.classes, item.predicted, step.left),
            "reservoir": [_example(self.items[seen], explanations.get(seen)) for seen in step.seen],
        }

    def _common(self, phase: str, session: int, index: int, count: int) -> dict[str, Any]:
        return {
            "phase": phase,
            "explanation": None,
            "predicted": None,
            "options": [],
            "reservoir": [],
            "feedback": False,
            "lockout_ms": self.lockout_ms,
            "session": session,
            "session_count": self.script.plan.sessions,
            "index": index,
            "count": count,
        }


def _options(classes: Sequence[str], expected: str, left: bool) -> list[str]:
    other = next(name for name in classes if name != expected)
    return [expected, other] if left else [other, expected]


def _example(item: ItemRow, explanation: str | None) -> dict[str, Any]:
    return {"image": item.picture, "explanation": explanation, "predicted": item.predicted}


def _answer(item: ItemRow) -> dict[str, Any]:
    return {
        "expected": item.predicted,
        "definition": DEFINITION,
        "model_correct": item.model_correct,
        "label": item.label,
        "group": item.group,
    }
