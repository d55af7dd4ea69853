"""The files of an export, and what each row becomes in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records import columns

from ..records import ResponseRow, SessionRow
from ..study.frozen import FrozenStudy
from .apart import drawing_row, event_rows, picture_rows, round_row, text_rows
from .apart_records import DrawingRow, EventRow, PictureRow, RoundRow, TextRow
from .codebook import Column, FileKind, describe, factor_columns
from .people import PersonRows

MAIN, EXCLUDED, SESSIONS, EVENTS, PICTURES, STROKES, DRAWINGS, TEXTS, MODEL = (
    "", "excluded", "sessions", "events", "pictures", "strokes", "drawings", "texts", "model",
)  # fmt: skip
MODEL_COLUMNS = ("row_id", "participant_id", "item_id", "condition", "cell", "list", "session", "block", "position",
                 "order", "k_seen", "trial_type", "correct", "model_correct", "option_position", "expected_position",
                 "confidence", "rt_ms", "timed_out")  # fmt: skip
CATEGORIES = ("participant_id", "item_id", "condition", "cell", "block", "trial_type")
"""Columns of the model frame that are categories."""


@dataclass(frozen=True)
class Kinds:
    """Which files an export of a study has."""

    study: FrozenStudy
    with_texts: bool

    @property
    def all(self) -> tuple[FileKind, ...]:
        """Every file in the order of the codebook."""
        factors = factor_columns(self.study.factors)
        responses = (*describe(ResponseRow), *factors)
        found = [
            FileKind(MAIN, "Responses of people in the analysis", responses),
            FileKind(EXCLUDED, "Responses of excluded people, with the rule that excluded them", responses),
            FileKind(SESSIONS, "People", tuple(describe(SessionRow))),
            FileKind(
                MODEL, "Test answers for a mixed model: no catch trials, no excluded people", self._model(factors)
            ),
            FileKind(EVENTS, "What happened beside the answers", tuple(describe(EventRow))),
            FileKind(PICTURES, "Pictures as they were on the screen", tuple(describe(PictureRow))),
        ]
        types = {trial.trial_type for trials in self.study.trials.values() for trial in trials}
        if "reveal" in types:
            found.append(FileKind(STROKES, "Rounds of reveal trials", tuple(describe(RoundRow))))
        if "draw" in types:
            found.append(FileKind(DRAWINGS, "Drawings, stroke by stroke", tuple(describe(DrawingRow))))
        if self.with_texts:
            found.append(FileKind(TEXTS, "Free text, for a person to read first", tuple(describe(TextRow))))
        return tuple(found)

    def _model(self, factors: Sequence[Column]) -> tuple[Column, ...]:
        known = {column.name: column for column in describe(ResponseRow)}
        known["order"] = Column("order", "whole number", "Number of the answer among this person's, from 0.", "int")
        found = [known[name] for name in MODEL_COLUMNS] + list(factors)
        text = {*CATEGORIES, *(column.name for column in factors if column.kind == "str")}
        return tuple(
            Column(c.name, "category", c.meaning, "category") if c.name in text and c.name != "row_id" else c
            for c in found
        )

    def levels(self, participants: Sequence[str]) -> dict[str, list[str]]:
        """Return the levels of the model frame's categories, each in its own order."""
        trials = [trial for cell in self.study.trials.values() for trial in cell]
        found = {
            "participant_id": list(participants),
            "item_id": sorted({trial.item_id for trial in trials}),
            "condition": list(self.study.conditions),
            "cell": list(self.study.trials),
            "block": list(dict.fromkeys(trial.block for trial in trials)),
            "trial_type": sorted({trial.trial_type for trial in trials}),
        }
        return found | {f.name: [str(level) for level in f.levels] for f in self.study.factors}

    def rows(self, person: PersonRows, *, private: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield all rows of a person with the part they belong to."""
        session = person.session
        yield SESSIONS, as_dict(session)
        order = 0
        for answer, row in zip(person.answers, person.responses, strict=True):
            factors = self._factors(answer.trial.factors)
            whole = as_dict(row) | factors
            yield (EXCLUDED if row.excluded else MAIN), whole
            counted = row.phase == "test" and not row.is_catch and not row.repeat_of and row.correct == row.correct
            if counted and not row.excluded:
                yield MODEL, {name: whole.get(name, order) for name in MODEL_COLUMNS} | factors
                order += 1
            for picture in picture_rows(answer):
                yield PICTURES, as_dict(picture)
            if (played := round_row(person, answer)) is not None:
                yield STROKES, as_dict(played)
            if (handed := drawing_row(person, answer)) is not None:
                yield DRAWINGS, as_dict(handed)
            for text in text_rows(person, answer, private=private) if self.with_texts else ():
                yield TEXTS, as_dict(text)
        for event in event_rows(person):
            yield EVENTS, as_dict(event)

    def _factors(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {factor.name: factor.value(given) for factor in self.study.factors}


def as_dict(row: Any) -> dict[str, Any]:
    """Turn a record into a row of its table."""
    return {name: getattr(row, name) for name in columns(type(row))}
