"""The order of a study of two bases: items, lists, blocks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..balance import seeded
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..rows import cells_of
from ._basis_draw import Bases, Chosen, Extra
from ._basis_pairs import DICTIONARY, NEURON, facts, told
from ._references import ALL, Asked, Gallery, Writer, deal, spaced


@dataclass(frozen=True)
class Held:
    """The items of a study: rows of the table, and what is known of each."""

    rows: list[ItemRow]
    facts: Mapping[str, Mapping[str, Any]]
    main: Mapping[str, list[str]]
    """Layer -> its pairs, in the order of the deal."""
    practice: list[str]
    catch: list[str]


def items(
    found: Mapping[str, Bases], chosen: Mapping[str, Chosen], spare: list[Extra], practice: int, gallery: Gallery
) -> Held:
    """Describe every pair, and every feature of practice and catch trials."""
    known: dict[str, dict[str, Any]] = {}
    roles: dict[str, str] = {}
    main: dict[str, list[str]] = {}
    for layer, one in chosen.items():
        main[layer] = [f"{layer} pair {number:02d}" for number in range(1, len(one.pairs) + 1)]
        for name, pair, stratum in zip(main[layer], one.pairs, one.strata, strict=True):
            said = facts(pair, found[layer], gallery, stratum)
            known[name] = {**said, "atoms": [[NEURON, layer, pair.unit], [DICTIONARY, layer, pair.direction]]}
            roles[name] = "main"
    for number, extra in enumerate(spare):
        role = "practice" if number < practice else "catch"
        name = f"{role} {number + 1 - (0 if role == 'practice' else practice):02d}"
        shown = told(extra.question, found[extra.layer][extra.basis], gallery)
        known[name] = {"layer": extra.layer, "basis": extra.basis, "questions": {extra.basis: {"free": shown}},
                       "atoms": [[extra.basis, extra.layer, extra.question.atom]]}  # fmt: skip
        roles[name] = role
    rows = [_row(name, roles[name], known[name]) for name in known]
    of = {role: [name for name in known if roles[name] == role] for role in ("practice", "catch")}
    return Held(rows, known, main, of["practice"], of["catch"])


def _row(name: str, role: str, known: Mapping[str, Any]) -> ItemRow:
    first = next(iter(next(iter(known["questions"].values())).values()))
    return ItemRow(
        item_id=name,
        role=role,
        picture=first["queries"][0]["high"]["picture"],
        label="",
        predicted="",
        probability=float("nan"),
        model_correct=False,
        group=str(known["layer"]),
        facts=json.dumps(known, sort_keys=True),
    )


@dataclass(frozen=True)
class Script:
    """Writes the trials of every cell."""

    study: StudyFile
    writer: Writer
    held: Held
    kinds: tuple[str, ...]
    per_list: int
    lists: int
    practice: int
    catch: int
    labels: tuple[str, str]

    def write(self) -> tuple[list[CellRow], list[TrialRow]]:
        """Return the cells and their trials."""
        cells = cells_of(self.study, self.lists)
        turns = self._turns()
        return cells, [row for cell in cells for row in self._cell(cell, turns[cell.list - 1])]

    def _turns(self) -> list[list[tuple[str, int]]]:
        """Return for each list its items, each with the draw of its queries."""
        where = f"study '{self.study.study}', key 'design.per_list'"
        seen: Counter[str] = Counter()
        found: list[list[tuple[str, int]]] = [[] for _ in range(self.lists)]
        for names in self.held.main.values():
            for number, turn in enumerate(deal(len(names), self.lists, self.per_list, where)):
                for name in (names[i] for i in turn):
                    found[number].append((name, seen[name]))
                    seen[name] += 1
        return found

    def _cell(self, cell: CellRow, turn: list[tuple[str, int]]) -> list[TrialRow]:
        kinds = self.kinds if cell.condition == ALL else (cell.condition,)
        draws = seeded(self.study.seed, "order", cell.list)
        main = [
            self._asked(item, basis, kind, seen)
            for item, seen in turn
            for basis in (NEURON, DICTIONARY)
            for kind in kinds
        ]
        mixed = [main[i] for i in draws.permutation(len(main))]
        catches = [self._caught(name) for name in self.held.catch]
        sheet = self.writer.sheet(cell)
        if self.practice:
            self.writer.block(sheet, "practice", [self._extra(name) for name in self.held.practice], practice=True)
        self.writer.block(sheet, "test", spaced(mixed, catches, draws))
        return sheet.rows  # fmt: skip

    def _asked(self, item: str, basis: str, kind: str, seen: int) -> Asked:
        known = self.held.facts[item]
        asked = known["questions"][basis][kind]
        draw = seen % len(asked["queries"])
        factors = {"basis": basis, "layer": known["layer"], "reference": kind, "atom": asked["atom"], "draw": draw + 1}
        order = seeded(self.study.seed, "grid", item, basis, kind, draw)
        return Asked(
            item=item,
            high=asked["queries"][draw]["high"]["picture"],
            low=asked["queries"][draw]["low"]["picture"],
            maximum=_places(asked["max"], order.permutation(len(asked["max"]))),
            minimum=_places(asked["min"], order.permutation(len(asked["min"]))),
            factors=factors,
            labels=self.labels,
        )

    def _extra(self, item: str) -> Asked:
        return self._asked(item, self.held.facts[item]["basis"], "free", 0)

    def _caught(self, item: str) -> Asked:
        """Ask about a picture that stands among the references."""
        asked = self._extra(item)
        place = int(seeded(self.study.seed, "catch", item).integers(len(asked.maximum)))
        return Asked(
            item=item, high=asked.maximum[place], low=asked.low, maximum=asked.maximum, minimum=asked.minimum,
            factors=asked.factors, is_catch=True, labels=self.labels,
        )  # fmt: skip


def _places(shown: list[dict[str, Any]], order: Any) -> tuple[str, ...]:
    """Name the pictures of a grid in a drawn order, so that rank does not tell anything."""
    return tuple(str(shown[int(i)]["picture"]) for i in order)
