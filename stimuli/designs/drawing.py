"""One-shot drawing: is a new example recognised, and do examples differ? And which parts of a sketch matter?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.images import picture_hash
from bench.registry import LimenError, unknown

from ..balance import rotations, seeded, spread
from ..protocol import Drawn, Material, design
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..render import Album
from ..rows import Sheet, cells_of
from ..sketches import DOODLES, doodle_name, glyph_name, picture, sketch, sketch_id
from ._drawing_audit import audit
from ._drawing_texts import texts

VIEW, MEMORY, UNCOVER = "view", "memory", "uncover"
Family = Literal["glyphs", "doodles"]
PEN = 0.025
"""Width of the exemplar's lines and of the pen, as a share of the canvas."""
EXAMPLE = {
    "title": "Draw another one",
    "run": None,
    "conditions": [VIEW, MEMORY],
    "checks": {"quiz_attempts": 3, "min_instruction_seconds": 10, "max_total_seconds": 3600},
    "bots": {"accuracy": {VIEW: [0.95], MEMORY: [0.75]}},
    "minutes": 10,
    "rule": "'view': the example stays beside the canvas; 'memory': it goes\n"
    "# before the canvas comes. With design.task 'uncover' the one condition is 'uncover'.",
}


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> Iterable[str]:
    """Need nothing of a run: sketches are made by rule."""
    return ()


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse conditions that the task does not have, and numbers that cannot be balanced."""
    allowed = (VIEW, MEMORY) if options["task"] == "draw" else (UNCOVER,)
    for condition in study.conditions:
        if condition not in allowed:
            raise unknown(f"{where}, key 'conditions' with design.task '{options['task']}'", condition, allowed)
    categories, drawings, lists = options["categories"], options["drawings"], options["lists"]
    if categories % lists or (lists * drawings) % categories or drawings > categories:
        raise LimenError(
            f"{where}, key 'design': given categories {categories}, drawings {drawings} and lists {lists}; allowed is a number "
            "of categories that is a multiple of lists, with lists x drawings a multiple of categories and drawings at most "
            "categories, so that each category is in equally many lists."
        )
    if family_of(options) == "doodles" and categories + options["practice"] > len(DOODLES):
        raise LimenError(
            f"{where}, key 'design.categories': given {categories} and {options['practice']} for practice, allowed are "
            f"{len(DOODLES)} together, the things there are."
        )
    seen = min(people_of(categories, drawings, spread(study.quota, lists)))
    if seen < options["people"]:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, so that a category is met by {seen} people of a condition; allowed "
            f"is a quota by which 'design.people' = {options['people']} meet each category."
        )


def family_of(options: Mapping[str, Any]) -> Family:
    """Return the family of the sketches: what is uncovered has a name, whatever is drawn."""
    family: Family = "doodles" if options["task"] == "uncover" else options["family"]
    return family


def people_of(categories: int, drawings: int, quotas: Sequence[int]) -> list[int]:
    """Count the people of one condition who meet each place of the ring of categories."""
    met = [0] * categories
    for quota, start in zip(quotas, rotations(categories, len(quotas)), strict=True):
        for place in range(drawings):
            met[(start + place) % categories] += quota
    return met


@design(
    version=1,
    citation="arXiv:2205.10370",
    trial_type="draw",
    question=(
        "After seeing one example people make new ones that are recognised and yet differ; models are compared with them "
        "in the plane of diversity and recognisability.",
        "nothing is right or wrong; a frozen critic says afterwards which category a drawing belongs to",
        None,
    ),
    factors=(("condition",), (), ("participant", "item")),
    analysis=("drawing", "recognisability, diversity ~ condition, over participants and categories"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def drawing(
    material: Material,
    *,
    task: Literal["draw", "uncover"] = "draw",
    family: Family = "glyphs",
    categories: Annotated[int, Field(ge=4, le=200)] = 20,
    drawings: Annotated[int, Field(ge=1, le=200)] = 10,
    lists: Annotated[int, Field(ge=1, le=50)] = 4,
    people: Annotated[int, Field(ge=2, le=1000)] = 5,
    practice: Annotated[int, Field(ge=0, le=6)] = 1,
    exemplar_ms: Annotated[int, Field(ge=100, le=60_000)] = 2000,
    limit_ms: Annotated[int, Field(ge=1000, le=600_000)] = 60_000,
    size: Annotated[int, Field(ge=64, le=1024)] = 240,
    box_px: Annotated[int, Field(ge=1, le=512)] = 14,
    step_px: Annotated[int, Field(ge=1, le=512)] = 7,
    sample_ms: Annotated[int, Field(ge=10, le=1000)] = 50,
    reveal_ms: Annotated[int, Field(ge=500, le=120_000)] = 7000,
) -> Drawn:
    """Let people draw one more of what a single example shows, or uncover the parts of a sketch that matter.

    Each participant draws each of some categories once, so that the drawings of a category are of different people, as
    those of Omniglot are. The first paper compares models with drawings that were collected before, the second does not
    tell how its sketches were uncovered: how long an example is seen, how many drawings a person makes, the time for
    one, practice, and the size of the canvas are unknown, and `exemplar_ms`, `drawings`, `limit_ms`, `practice` and
    `size` are our values. The papers draw on Omniglot and QuickDraw; the sketches here are made by rule
    (`stimuli.sketches`), so that the id of an exemplar is enough to make it again, with any number of others of its
    category for a critic. There are no catch trials: a drawing that is no attempt is seen in its recognisability.

    Parameters
    ----------
    material
        The study; no bench run is needed.
    task
        'draw' another example, or 'uncover' a named sketch where it shows what it is.
    family
        'glyphs', signs that nobody knows, or 'doodles', things that everybody can name. What is uncovered are doodles.
    categories
        Categories of the study, with one exemplar each.
    drawings
        Drawings (or rounds) of one person, practice not counted; no category twice.
    lists
        Counterbalanced lists; each category is in lists x drawings / categories of them, at places spread over the session.
    people
        Fewest people of a condition who must meet each category for the quota to be accepted; diversity needs several.
    practice
        Drawings of other categories before the study; they are not analysed.
    exemplar_ms
        How long the example is seen in the condition 'memory', before the canvas opens.
    limit_ms
        Time for one drawing.
    size
        Width and height of the canvas and of the pictures, in their own pixels.
    box_px, step_px, sample_ms, reveal_ms
        Side of an uncovered box, largest distance between two, milliseconds between two, and length of a round.

    Raises
    ------
    LimenError
        If numbers cannot be balanced.

    References
    ----------
    Boutin, Singhal, Thomas, Serre: Diversity vs. recognizability: human-like generalization in one-shot generative models,
    arXiv:2205.10370. Boutin, Fel, Singhal, Mukherji, Nagaraj, Colin, Serre: Diffusion models as artists: are we closing
    the gap between humans and machines?, arXiv:2301.11722.
    """
    study = material.study
    album = Album()
    shown = family_of({"task": task, "family": family})
    names = category_names(shown, categories + practice, study.seed)
    items = [_item(place, "main" if place[0] < categories else "practice", album, size) for place in enumerate(names)]
    game: dict[str, Any] = {"size": [size, size]}
    if task == "draw":
        game |= {"pen_px": max(1, round(PEN * size)), "limit_ms": limit_ms, "max_points": 1500}
    else:
        game |= {"box_px": box_px, "step_px": step_px, "sample_ms": sample_ms, "limit_ms": reveal_ms}
        game |= {"mode": "reveal", "oracle": False, "max_boxes": min(5000, reveal_ms // sample_ms + 1)}
    writer = _Writer(study, items[:categories], items[categories:], drawings, lists, game, exemplar_ms)
    cells = cells_of(study, lists)
    met = people_of(categories, drawings, spread(study.quota, lists))
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in writer.trials(cell)],
        cells=cells,
        items=items,
        pool={
            "kinds": [{"family": shown, "available": len(DOODLES) if shown == "doodles" else None, "chosen": categories}],
            "people_per_category": [min(met), max(met)],
        },
        rules=_rules(task, shown, categories, lists * drawings // categories, lists),
        conditions={name: {"task": task, "family": shown} for name in study.conditions},
    )  # fmt: skip


def category_names(family: Family, count: int, seed: int) -> list[str]:
    """Return the categories of a study by its seed: signs of an alphabet of its own, or things in a drawn order."""
    if family == "glyphs":
        return [glyph_name(seed, number) for number in range(count)]
    order = seeded(seed, "doodles").permutation(len(DOODLES))
    return [doodle_name(DOODLES[place]) for place in order[:count]]


def exemplar_picture(item_id: str, size: int) -> Any:
    """Draw an exemplar as it is shown, uint8 (size, size, 3)."""
    return picture(sketch(item_id), size, PEN)


def _item(place: tuple[int, str], role: str, album: Album, size: int) -> ItemRow:
    index, category = place
    name = sketch_id(category, 0)
    pixels = exemplar_picture(name, size)
    word = category.removeprefix("doodle-") if category.startswith("doodle-") else ""
    facts = {"category": category, "index": index, "pixels": picture_hash(pixels), "side": [size, size]}
    return ItemRow(
        item_id=name,
        role=role,
        picture=album.add(pixels),
        label=word,
        predicted="",
        probability=float("nan"),
        model_correct=False,
        group=category,
        facts=json.dumps(facts, sort_keys=True),
    )


@dataclass(frozen=True)
class _Writer:
    """Writes the trials of a cell."""

    study: StudyFile
    ring: Sequence[ItemRow]
    practice: Sequence[ItemRow]
    drawings: int
    lists: int
    game: Mapping[str, Any]
    exemplar_ms: int

    def trials(self, cell: CellRow) -> list[TrialRow]:
        """Return practice, then the list's stretch of the ring."""
        sheet = Sheet(self.study, cell, "reveal" if cell.condition == UNCOVER else "draw")
        start = rotations(len(self.ring), self.lists)[cell.list - 1]
        shown = [self.ring[(start + place) % len(self.ring)] for place in range(self.drawings)]
        for block, phase, items in (("practice", "practice", self.practice), ("drawings", "test", shown)):
            for number, item in enumerate(items, start=1):
                payload = self._payload(item, cell.condition) | {
                    "phase": phase,
                    "session": 0 if phase == "practice" else 1,
                    "session_count": 1,
                    "index": number,
                    "count": len(items),
                }
                sheet.add(payload, item=item.item_id, answer={}, block=block)
        return sheet.rows

    def _payload(self, item: ItemRow, condition: str) -> dict[str, Any]:
        if condition == UNCOVER:
            return {**self.game, "image": item.picture, "word": item.label}
        return {**self.game, "image": item.picture, "exemplar_ms": self.exemplar_ms if condition == MEMORY else 0}


def _rules(task: str, family: Family, categories: int, times: int, lists: int) -> tuple[str, ...]:
    what = (
        "signs made up by the seed" if family == "glyphs" else f"things drawn at random of the {len(DOODLES)} there are"
    )
    return (
        f"{categories} categories are {what}; the exemplar of each is its first variant, made by rule.",
        f"The categories form a ring; each of {lists} lists is a stretch of it, the stretches start at equal distances, and each "
        f"category is in {times} of the lists.",
        "Nobody meets a category twice, and all conditions of a list show the same exemplars in the same order.",
        "Practice shows categories that are not in the study.",
        *(
            ["The example is all that is shown: no name, and nothing else of its category."]
            if task == "draw"
            else ["The name of the thing stands above the covered sketch; no network looks on."]
        ),
    )
