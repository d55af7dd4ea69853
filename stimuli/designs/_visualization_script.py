"""The order of a feature-visualisation study: items, lists, blocks, and what stands beside each question."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from bench.registry import LimenError

from ..balance import seeded
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..rows import Sheet, cells_of
from ._references import ALL, Asked, Codes, Gallery, Writer, deal, spaced
from ._visualization_draw import Layout, Unit, Units, strong_in

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """The items of a study: rows of the table, and what is known of each."""

    rows: list[ItemRow]
    facts: Mapping[str, Facts]
    main: Mapping[str, list[str]]
    """Layer -> its units, in the order of the deal."""
    spare: list[str]
    """Units of practice and catch trials, layers in turn."""


def items(found: Mapping[str, Units], gallery: Gallery, layout: Layout, blur: float | None) -> Held:
    """Describe every unit; `blur` is the share of the width that references are blurred by, None for not at all."""
    known: dict[str, Facts] = {}
    main: dict[str, list[str]] = {}
    queues: list[list[str]] = []
    for layer, units in found.items():
        main[layer] = [f"{layer} unit {number:02d}" for number in range(1, len(units.main) + 1)]
        queues.append([f"{layer} spare {number:02d}" for number in range(1, len(units.spare) + 1)])
        for name, unit in zip([*main[layer], *queues[-1]], [*units.main, *units.spare], strict=True):
            known[name] = _facts(units.codes, unit, gallery, layout, blur)
    spare = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    used = {name for names in main.values() for name in names}
    rows = [_row(name, "main" if name in used else "practice", one) for name, one in known.items()]
    return Held(rows, known, main, spare)


def _facts(codes: Codes, unit: Unit, gallery: Gallery, layout: Layout, blur: float | None) -> dict[str, Any]:
    order = codes.order(layout.seed, unit.atom)
    rank = {int(row): number for number, row in enumerate(order)}

    def told(row: int) -> dict[str, Any]:
        picture = gallery.natural(int(codes.index[row]))
        return {
            "picture": picture,
            "activation": float(codes.peak[row, unit.atom]),
            "percentile": 100.0 * (len(order) - 1 - rank[row]) / (len(order) - 1),
            "blurred": None if blur is None else _blurred(gallery, picture, blur),
        }

    return {
        "layer": codes.layer,
        "atoms": [[codes.basis, codes.layer, unit.atom]],
        "stratum": unit.stratum,
        "complexity": codes.known(unit.atom),
        "peak": float(codes.peak[:, unit.atom].max()),
        "batches": [
            {part: [told(row) for row in rows] for part, rows in batch.items()} | covered
            for batch, covered in zip(unit.batches, _covered(unit, gallery), strict=True)
        ],
        "made": {
            polarity: [gallery.made(pixels) for pixels in pictures[: layout.references]]
            for polarity, pictures in unit.made.items()
        },
    }


def _covered(unit: Unit, gallery: Gallery) -> list[dict[str, Any]]:
    """Return what stands in place of each batch's queries in the occlusion task; nothing in the other."""
    if not unit.pairs:
        return [{} for _ in unit.batches]
    return [pair.told(gallery, gallery.pixels(pair.index)) for pair in unit.pairs]


def _blurred(gallery: Gallery, name: str, blur: float) -> str:
    with Image.open(io.BytesIO(gallery.album.pictures[name])) as picture:
        soft = picture.convert("RGB").filter(ImageFilter.GaussianBlur(blur * picture.width))
    return gallery.album.add(np.asarray(soft, dtype=np.uint8))


def _row(name: str, role: str, known: Facts) -> ItemRow:
    return ItemRow(
        item_id=name,
        role=role,
        picture=known["batches"][1]["high"][0]["picture"],
        label="",
        predicted="",
        probability=float("nan"),
        model_correct=False,
        group=str(known["layer"]),
        facts=json.dumps(known, sort_keys=True),
    )


def beside(known: Facts, batch: int, kind: str, scheme: str, polarity: str) -> list[str]:
    """Return the references of one grid, the most extreme first; [] where the kind or the scheme shows none."""
    if kind == "none" or (polarity == "min" and not scheme.startswith("min")):
        return []
    count = strong_in(scheme)
    natural = [one["blurred" if kind == "blurred" else "picture"] for one in known["batches"][batch][polarity]]
    if kind in {"natural", "blurred"}:
        return [str(name) for name in natural[:count]]
    made = list(known["made"][polarity])
    half = (count + 1) // 2 if kind == "mixed" else 0
    return [*natural[:half], *made[: count - half]]


@dataclass(frozen=True)
class Plan:
    """What a participant sees, in numbers."""

    kinds: tuple[str, ...]
    schemes: tuple[str, ...]
    per_list: int
    lists: int
    practice: int
    catch: int
    repeats: int
    feedback: bool
    labels: tuple[str, str]
    base_label: str = ""


def blocks(condition: str, kinds: Sequence[str], number: int) -> list[str]:
    """Return the kinds of references of a list's blocks: none first, the others turned by the list."""
    if condition != ALL:
        return [condition]
    shown = [kind for kind in kinds if kind != "none"]
    turn = (number - 1) % len(shown) if shown else 0
    return [*(["none"] if "none" in kinds else []), *shown[turn:], *shown[:turn]]


def name_of(condition: str, kind: str) -> str:
    """Return the name of a block."""
    return f"test {kind}" if condition == ALL else "test"


@dataclass(frozen=True)
class Turn:
    """A unit in a list: its item, its number within its layer, and how many lists before asked about it."""

    item: str
    number: int
    seen: int


@dataclass(frozen=True)
class Script:
    """Writes the trials of every cell."""

    study: StudyFile
    writer: Writer
    held: Held
    plan: Plan

    def write(self) -> tuple[list[CellRow], list[TrialRow]]:
        """Return the cells and their trials.

        Raises
        ------
        LimenError
            If more questions are to be repeated than there are.
        """
        cells = cells_of(self.study, self.plan.lists)
        turns = self._turns()
        return cells, [row for cell in cells for row in self._cell(cell, turns[cell.list - 1])]

    def _turns(self) -> list[list[Turn]]:
        where = f"study '{self.study.study}', key 'design.per_list'"
        seen: Counter[str] = Counter()
        found: list[list[Turn]] = [[] for _ in range(self.plan.lists)]
        for names in self.held.main.values():
            for number, turn in enumerate(deal(len(names), self.plan.lists, self.plan.per_list, where)):
                for place in turn:
                    found[number].append(Turn(names[place], place, seen[names[place]]))
                    seen[names[place]] += 1
        return found

    def _cell(self, cell: CellRow, turns: list[Turn]) -> list[TrialRow]:
        sheet = self.writer.sheet(cell)
        kinds = blocks(cell.condition, self.plan.kinds, cell.list)
        if self.plan.practice:
            spare = [self.held.spare[i % len(self.held.spare)] for i in range(self.plan.practice)]
            asked = [self._spare(item, kinds[i % len(kinds)], i) for i, item in enumerate(spare)]
            self.writer.block(sheet, "practice", asked, practice=True)
        shown: list[tuple[Asked, TrialRow]] = []
        for place, kind in enumerate(kinds):
            # The same order in each condition, whatever its kinds are.
            draws = seeded(self.study.seed, "order", cell.list, place)
            main = [self._asked(turns[i], kind) for i in draws.permutation(len(turns))]
            whole = spaced(main, [] if kind == "none" else self._catches(kind, place), draws)
            rows = self.writer.block(sheet, name_of(cell.condition, kind), whole, feedback=self.plan.feedback)
            shown += [(one, row) for one, row in zip(whole, rows, strict=True) if not one.is_catch]
        if self.plan.repeats:
            self._repeat(sheet, shown)
        return sheet.rows

    def _asked(self, turn: Turn, kind: str) -> Asked:
        batches = len(self.held.facts[turn.item]["batches"]) - 1
        place = self.plan.kinds.index(kind) if self.study.conditions == (ALL,) else 0
        # Beside the step of each list another one a whole turn of the batches, so that grids and batches cross.
        scheme = self.plan.schemes[(turn.number + turn.seen + turn.seen // batches) % len(self.plan.schemes)]
        return self._beside(turn.item, 1 + (turn.seen + place) % batches, kind, scheme)

    def _beside(self, item: str, batch: int, kind: str, scheme: str) -> Asked:
        known = self.held.facts[item]
        grids = {}
        for polarity in ("max", "min"):
            names = beside(known, batch, kind, scheme, polarity)
            order = seeded(self.study.seed, "grid", item, batch, kind, polarity).permutation(len(names))
            grids[polarity] = tuple(names[i] for i in order)
        factors = {"reference": kind, "scheme": "none" if kind == "none" else scheme, "layer": known["layer"],
                   "atom": known["atoms"][0][2], "batch": batch, "repeated": False}  # fmt: skip
        shown = known["batches"][batch]
        return Asked(
            item=item, high=shown["high"][0]["picture"], low=shown["low"][0]["picture"], maximum=grids["max"],
            minimum=grids["min"], factors=factors, labels=self.plan.labels,
            base=(shown["base"]["picture"], self.plan.base_label) if "base" in shown else ("", ""),
        )  # fmt: skip

    def _spare(self, item: str, kind: str, number: int) -> Asked:
        return self._beside(item, 0, kind, self.plan.schemes[number % len(self.plan.schemes)])

    def _catches(self, kind: str, block: int) -> list[Asked]:
        """Ask about pictures that stand among the references."""
        found = []
        for number in range(self.plan.catch):
            item = self.held.spare[(self.plan.practice + block * self.plan.catch + number) % len(self.held.spare)]
            one = self._spare(item, kind, number)
            draws = seeded(self.study.seed, "catch", item, kind, number)
            # Of a covered pair the favourite itself is the expected picture: nothing of it is covered.
            high = one.base[0] or one.maximum[int(draws.integers(len(one.maximum)))]
            low = one.minimum[int(draws.integers(len(one.minimum)))] if one.minimum else one.low
            found.append(replace(one, high=high, low=low, is_catch=True))
        return found

    def _repeat(self, sheet: Sheet, shown: Sequence[tuple[Asked, TrialRow]]) -> None:
        if self.plan.repeats > len(shown):
            raise LimenError(
                f"study '{self.study.study}', key 'design.repeats': given {self.plan.repeats}, allowed is at most "
                f"{len(shown)}, the questions of one participant."
            )
        order = seeded(self.study.seed, "repeat", sheet.cell.list).permutation(len(shown))
        halves: tuple[list[int], list[int]] = ([], [])
        for place in order:
            halves[_left(shown[place][1])].append(int(place))
        first = self.plan.repeats // 2
        taken = [*halves[0][:first], *halves[1][: self.plan.repeats - first]]
        taken += [place for place in map(int, order) if place not in taken][: self.plan.repeats - len(taken)]
        taken = [place for place in map(int, order) if place in taken]
        asked = [
            replace(one, factors={**one.factors, "repeated": True})
            for one in (shown[place][0] for place in taken)
        ]  # fmt: skip
        rows = [shown[place][1] for place in taken]
        self.writer.block(
            sheet,
            "repeated",
            asked,
            feedback=self.plan.feedback,
            left=[not _left(row) for row in rows],
            repeats=[row.trial_id for row in rows],
        )


def _left(row: TrialRow) -> bool:
    """Whether the expected picture stands first."""
    return bool(json.loads(row.payload)["options"][0] == json.loads(row.answer)["expected"])
