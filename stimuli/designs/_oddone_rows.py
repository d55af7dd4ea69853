"""Writing the trials of the odd-one-out protocol: practice, problems with confidence, and the description of the rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..render import Album
from ..rows import Sheet, opaque
from ..rules.catalogue import RULES
from ..rules.problems import problem
from ._oddone_practice import Question
from ._oddone_script import PLACES, rule_order, turns

QUESTION = "Which picture is the odd one out?"
FIRST = "A new rule starts here. It holds until you are told that it changes."
DESCRIBE = (
    "What was the rule of the last pictures? Please describe it in your own words, or write that you do not know."
)
DESCRIBED = 500
"""Longest description, in characters."""
CONFIDENCE = {"slider": True, "low": "I guessed", "high": "I am certain"}
LETTERS = ("A", "B", "C", "D")
CORRECT = "the picture that does not follow the rule that the three others follow"


@dataclass(frozen=True)
class Shown:
    """One problem of the study: its item, and its pictures with the place of the odd one as the generator made them."""

    item: ItemRow
    pictures: tuple[str, ...]
    odd: int
    broken: str


def draw_problems(album: Album, rule: str, count: int, size: int, seed: int) -> list[Shown]:
    """Draw a rule's problems."""
    found = []
    for index in range(count):
        made = problem(rule, index, "people", seed, size=size)
        names = tuple(album.add(picture) for picture in made.pictures)
        facts = {"rule": rule, "index": index, "broken": made.broken, "pictures": list(names), "odd": names[made.odd]}
        item = ItemRow(
            item_id=f"{rule}-{index + 1:03d}",
            role="main",
            picture=names[made.odd],
            label=rule,
            predicted="",
            probability=float("nan"),
            model_correct=False,
            group=kind_of(rule),
            facts=json.dumps(facts, sort_keys=True),
        )
        found.append(Shown(item, names, made.odd, made.broken))
    return found


def kind_of(rule: str) -> str:
    """Return whether a rule is 'elementary' or 'composed'."""
    return "composed" if RULES[rule].is_composed else "elementary"


def description_item(rule: str, shown: Shown) -> ItemRow:
    """Return the item of a rule's description at the end of its block."""
    return ItemRow(
        item_id=f"rule-{rule}",
        role="rule",
        picture=shown.item.picture,
        label=rule,
        predicted="",
        probability=float("nan"),
        model_correct=False,
        group=kind_of(rule),
    )


@dataclass(frozen=True)
class Writer:
    """Writes a cell's trials; see the options of `oddone` for what the fields mean."""

    study: StudyFile
    ring: Sequence[str]
    problems: Mapping[str, Sequence[Shown]]
    practice: Sequence[Question]
    sessions: int
    feedback: bool
    describe: bool
    lockout_ms: int

    def trials(self, cell: CellRow) -> list[TrialRow]:
        """Return the trials of a cell, in the order they are shown."""
        sheet = Sheet(self.study, cell, "choice")
        for number, question in enumerate(self.practice, start=1):
            line = {"phase": "practice", "index": number, "count": len(self.practice)}
            self._problem(sheet, question.item.item_id, question.pictures, question.odd, "practice", line, {})
        for session, rule in enumerate(rule_order(self.ring, cell.list - 1, self.sessions), start=1):
            self._block(sheet, session, rule)
        return sheet.rows

    def _block(self, sheet: Sheet, session: int, rule: str) -> None:
        problems = self.problems[rule]
        turn = turns(rule, len(problems), self.sessions, self.study.seed)[session - 1]
        facts = {"rule": rule, "composition": kind_of(rule)}
        line = {"phase": "test", "session": session, "session_count": self.sessions, "count": len(problems)}
        for number, index in enumerate(turn.order, start=1):
            shown = problems[index]
            pictures = tuple(shown.pictures[(place - turn.places) % PLACES] for place in range(PLACES))
            odd = (shown.odd + turn.places) % PLACES
            factors = {**facts, "problem": number, "broken": shown.broken}
            mine = {**line, "index": number, "panels": [{"text": FIRST}] if number == 1 else []}
            self._problem(sheet, shown.item.item_id, pictures, odd, f"rule {session}", mine, factors)
        if self.describe:
            entry = {"label": DESCRIBE, "kind": "text", "required": True, "max_length": DESCRIBED}
            payload = {**line, "count": 0, "question": "What was the rule?", "options": [], "faces": [], "entry": entry,
                       "lockout_ms": self.lockout_ms}  # fmt: skip
            factors = {**facts, "problem": 0, "broken": "none"}
            sheet.add(payload, item=f"rule-{rule}", answer={}, block=f"rule {session}", factors=factors)

    def _problem(
        self,
        sheet: Sheet,
        item: str,
        pictures: Sequence[str],
        odd: int,
        block: str,
        line: Mapping[str, Any],
        factors: Mapping[str, Any],
    ) -> None:
        options = [opaque(self.study, sheet.cell.cell, len(sheet.rows), place) for place in range(PLACES)]
        payload = {
            **line,
            "question": QUESTION,
            "options": options,
            "faces": [{"label": LETTERS[place], "pictures": [name]} for place, name in enumerate(pictures)],
            "layout": "row",
            "confidence": CONFIDENCE,
            "feedback": self.feedback or line["phase"] == "practice",
            "lockout_ms": self.lockout_ms,
        }
        answer = {"expected": options[odd], "definition": CORRECT}
        sheet.add(payload, item=item, answer=answer, block=block, factors=factors)
