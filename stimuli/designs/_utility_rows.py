"""Writes the rows of a cell of the utility protocol: what the browser may see, and what only the server may know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..balance import seeded, sides
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..rows import Sheet
from ._utility_draw import Shown
from ._utility_practice import CLASSES as PRACTICE_CLASSES
from ._utility_practice import Machine
from ._utility_regions import FACTOR, learnt
from ._utility_script import Script, Step

DEFINITION = "the class the model answered"


@dataclass(frozen=True)
class Writer:
    """Puts a condition's explanations on a list's script.

    Attributes
    ----------
    study : StudyFile
    script : Script
    shown : Shown
        The items, and their explanations by condition.
    machine : Machine
        The practice machine.
    classes : class -> what the participant reads
    lockout_ms : int
    """

    study: StudyFile
    script: Script
    shown: Shown
    machine: Machine
    classes: Mapping[str, str]
    lockout_ms: int

    @property
    def items(self) -> Mapping[str, ItemRow]:
        """Item id -> item."""
        return self.shown.items

    def trials(self, cell: CellRow) -> list[TrialRow]:
        """Return all trials of one cell in the order they are shown."""
        sheet = Sheet(self.study, cell, "predict")
        explanations = self.shown.explanations.get(cell.condition, {})
        self._practice(sheet)
        for step in self.script.steps(cell.list):
            item, block = self.items[step.item], f"session {step.session} {step.phase}"
            if step.phase == "train":
                train = self._train(step, explanations)
                sheet.add(train, item=item.item_id, answer={}, block=block, k_seen=len(step.seen))
                continue
            test, catch = self._test(step, explanations), step.is_catch
            answer, factors = self._expected(item), self._factors(step, cell.condition)
            sheet.add(
                test,
                item=item.item_id,
                answer=answer,
                block=block,
                is_catch=catch,
                k_seen=len(step.seen),
                factors=factors,
            )
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
            "predicted": self.classes[item.predicted],
        }

    def _factors(self, step: Step, condition: str) -> dict[str, float]:
        if not self.shown.masses:
            return {}
        return {FACTOR: learnt(step.seen, self.shown.masses.get(condition, {}))}

    def _expected(self, item: ItemRow) -> dict[str, Any]:
        return {**_answer(item), "expected": self.classes[item.predicted]}

    def _test(self, step: Step, explanations: Mapping[str, str]) -> dict[str, Any]:
        item = self.items[step.item]
        return {
            **self._common("test", step.session, step.index, step.count),
            "image": item.picture,
            "options": _options(tuple(self.classes.values()), self.classes[item.predicted], step.left),
            "reservoir": [
                {
                    **_example(self.items[seen], explanations.get(seen)),
                    "predicted": self.classes[self.items[seen].predicted],
                }
                for seen in step.seen
            ],
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
