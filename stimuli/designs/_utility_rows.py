"""Writes the rows of a cell of the utility protocol: what the browser may see, and what only the server may know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.store import sha256_bytes

from ..balance import seeded, sides
from ..records import CellRow, ItemRow, StudyFile, TrialRow
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
        rows = self._practice(cell)
        for step in self.script.steps(cell.list):
            payload = self._train(step, explanations) if step.phase == "train" else self._test(step, explanations)
            rows.append(self._row(cell, len(rows), self.items[step.item], payload, step))
        return rows

    def _practice(self, cell: CellRow) -> list[TrialRow]:
        asked = self.machine.questions
        order = seeded(self.script.seed, "practice order", cell.list).permutation(len(asked))
        items = [asked[i] for i in order]
        left = sides([item.predicted for item in items], seeded(self.script.seed, "practice sides", cell.list))
        examples = [_example(item, None) for item in self.machine.examples]
        rows = []
        for index, (item, is_left) in enumerate(zip(items, left, strict=True)):
            payload = {
                **self._common("practice", 0, index + 1, len(items)),
                "image": item.picture,
                "options": _options(PRACTICE_CLASSES, item.predicted, is_left),
                "reservoir": examples,
                "feedback": True,
            }
            rows.append(self._row(cell, index, item, payload))
        return rows

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

    def _row(
        self, cell: CellRow, position: int, item: ItemRow, payload: Mapping[str, Any], step: Step | None = None
    ) -> TrialRow:
        phase, session = payload["phase"], payload["session"]
        identity = f"{self.study.study}/{self.study.version}/{self.study.seed}/{cell.cell}/{position}"
        return TrialRow(
            cell=cell.cell,
            condition=cell.condition,
            list=cell.list,
            position=position,
            block=f"session {session} {phase}" if session else phase,
            session=session,
            phase=phase,
            trial_type="predict",
            trial_id=f"t{sha256_bytes(identity.encode())[:16]}",
            item_id=item.item_id,
            is_catch=step is not None and step.is_catch,
            k_seen=len(step.seen) if step else 0,
            payload=json.dumps(payload, sort_keys=True, ensure_ascii=False),
            answer=json.dumps({} if phase == "train" else _answer(item), sort_keys=True, ensure_ascii=False),
        )


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
