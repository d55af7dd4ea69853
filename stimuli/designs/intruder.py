"""Intruder: which of five crops does not belong to the concept of the other four?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import CellRow, ItemRow, StudyFile, Texts, TrialRow
from ..render import Album
from ..rows import Sheet, cells_of, opaque
from ._crops import Crops, crop_needs, read_crops
from ._intruder_audit import audit
from ._panels import check_quota, common, pages, places, refuse_few

Match = Literal["rank", "luminance"]
EXAMPLE = {
    "title": "Which one is the odd one out?",
    "run": "protocols",
    "conditions": ["neurons", "nmf"],
    "design": {"layer": "stage4"},
    "checks": {"min_total_seconds": 45, "max_total_seconds": 3600, "min_median_rt_ms": 400},
    "bots": {"accuracy": {"neurons": [0.4], "nmf": [0.6]}},
    "minutes": 6,
    "rule": "A condition is the label of a dictionary that the run fitted at design.layer.",
}
DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Computers that recognise pictures build concepts of their own. There are methods that find these \
concepts, and show pieces of pictures for each. If a concept makes sense to people, they should find the piece that does not belong.

**What differed between people.** The pieces came from different ways to look into the same computer. In each question four \
pieces were of one concept, and one of another. In some questions there may have been nothing to see: this is what we measure."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    count = options["majority"] + 1
    task = (
        f"You see {count} pieces of pictures. All but one have something in common for an image-recognising machine. "
        "**Find the one that does not belong.**\n\n"
        f"Click on it, or use the keys 1 to {count}. Some questions are hard: choose the one that you find most likely."
    )
    return pages(
        material.study,
        about="It asks whether people see what pieces of pictures have in common for a machine.",
        doing="You look at pieces of pictures, and find the one that does not belong.",
        instructions=[("Find the odd one out", task)],
        debrief=DEBRIEF,
    )


@design(
    version=2,
    citation="arXiv:2211.10154",
    trial_type="choice",
    question=(
        "In a concept that makes sense to people the crop of another concept is easy to find.",
        "the chosen crop is of another concept than the others",
        0.2,
    ),
    factors=(("condition",), (), ("participant", "item")),
    analysis=("crossed", "correct ~ condition + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=crop_needs,
    example=EXAMPLE,
)
def intruder(
    material: Material,
    *,
    layer: str = "stage4",
    trials: Annotated[int, Field(ge=1, le=100)] = 12,
    lists: Annotated[int, Field(ge=1, le=50)] = 5,
    majority: Annotated[int, Field(ge=2, le=8)] = 4,
    same_class: bool = True,
    match: Match = "rank",
    max_cosine: Annotated[float, Field(gt=0, le=1)] = 0.8,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=512)] = 192,
) -> Drawn:
    """Show crops of one concept and one crop of another, and ask which one does not belong.

    How many trials there were in the source, which checks, and how its intruders were matched are unknown: they are
    options here.

    Parameters
    ----------
    material
        The bench run.
    layer
        Layer of the network whose concepts are shown.
    trials
        Trials a person, each of another concept and class while they last.
    lists
        Orders of the same trials; the place of the intruder moves on by one from list to list.
    majority
        Crops of the one concept, beside one intruder. The published accuracy of guessing, .2, is that of 4.
    same_class
        Whether all crops of a trial are from pictures of one class, as in the source.
    match
        How the intruder is chosen among the crops of other concepts: of the same 'rank' within its concept as one of the
        majority, drawn at random; or nearest to the majority in mean 'luminance', so that brightness does not give it away.
    max_cosine
        Largest cosine between the directions of the two concepts of a trial: crops of nearly the same direction are no
        intruders. Whether the source had such a limit is unknown; 1 sets none.
    lockout_ms
        No answer is taken before this time. The source's value is unknown.
    size
        Width of a crop in pixels.

    Raises
    ------
    LimenError
        If too few concepts have enough crops.

    References
    ----------
    Fel et al.: CRAFT, arXiv:2211.10154.
    """
    study = material.study
    check_quota(study, lists)
    album = Album()
    pool: dict[str, Any] = {"kinds": []}
    asked: dict[str, list[_Set]] = {}
    conditions: dict[str, dict[str, Any]] = {}
    for condition in study.conditions:
        crops = read_crops(material, condition, layer)
        found = _sets(crops, seeded(study.seed, "sets", condition), (majority, same_class, match, max_cosine))
        what = f"concepts{' and classes' if same_class else ''} of '{condition}' with {majority} crops and an intruder"
        remedy = "raise 'crops' in the plan, or lower trials or majority, or set same_class to false"
        refuse_few(study, what, len(found), trials, remedy)
        asked[condition] = found[:trials]
        pool["kinds"].append(
            {
                "condition": condition,
                "available": len(found),
                "chosen": trials,
                "concepts": len(crops.alive),
                "pairs_too_alike": _too_alike(crops, max_cosine),
            }
        )
        conditions[condition] = {"dictionary": crops.role, "artifact": material.parents[crops.role]}
        asked[condition] = [one.kept(crops, album, size, condition) for one in asked[condition]]
    cells = cells_of(study, lists)
    rows: list[TrialRow] = []
    for cell in cells:
        rows += _trials(study, cell, asked[cell.condition], lockout_ms)
    among = " of pictures of one class" if same_class else ""
    return Drawn(
        pictures=album.pictures,
        trials=rows,
        cells=cells,
        items=[one.item for sets in asked.values() for one in sets],
        pool=pool,
        rules=(
            f"A trial shows {majority} crops of one concept and one of another{among}; all are from different pictures.",
            "Concepts and classes are taken in random order, all concepts once before any twice; among the strongest crops "
            "of a concept those of the trial are drawn at random. Concepts that are never active are left out.",
            "The other concept is drawn at random; its crop has "
            + (
                "the rank of one of the majority, drawn at random, or the nearest that is from another picture."
                if match == "rank"
                else "the mean luminance nearest to that of the majority."
            ),
            f"Two concepts whose directions have a cosine above {max_cosine:g} are never in one trial.",
            "The intruder stands at each place equally often in a list, within one, and moves on by one from list to list.",
        ),
        conditions=conditions,
    )


@dataclass(frozen=True)
class _Set:
    """A trial's crops, intruder last, as (atom, place); and what is shown of them once they are kept."""

    atom: int
    other: int
    class_name: str
    crops: tuple[tuple[int, int], ...]
    facts: Mapping[str, Any]
    pictures: tuple[str, ...] = ()
    condition: str = ""

    def kept(self, crops: Crops, album: Album, size: int, condition: str) -> _Set:
        pictures = tuple(crops.keep(album, atom, place, size) for atom, place in self.crops)
        return _Set(self.atom, self.other, self.class_name, self.crops, self.facts, pictures, condition)

    @property
    def item(self) -> ItemRow:
        facts = {"atom": self.atom, "other": self.other, **self.facts, "pictures": list(self.pictures)}
        return ItemRow(
            item_id=f"{self.condition} {self.atom} {self.class_name}".strip(),
            role="main",
            picture=self.pictures[-1],
            label=self.class_name,
            predicted="",
            probability=float("nan"),
            model_correct=False,
            group=self.condition,
            facts=json.dumps(facts, sort_keys=True),
        )


Rule = tuple[int, bool, Match, float]
"""Options `majority`, `same_class`, `match` and `max_cosine`."""


def _too_alike(crops: Crops, limit: float) -> int:
    """Count the pairs of active concepts whose directions are nearer than allowed."""
    alive = list(crops.alive)
    return int((np.triu(crops.cosines[np.ix_(alive, alive)], k=1) > limit).sum())


def _sets(crops: Crops, draw: np.random.Generator, rule: Rule) -> list[_Set]:
    """Form one trial of each concept and class that has the crops, in random order, concepts in turn."""
    same_class = rule[1]
    names = sorted(set(crops.classes.ravel())) if same_class else [""]
    found: list[list[_Set]] = []
    for atom in crops.alive:
        mine = []
        for name in (names[i] for i in draw.permutation(len(names))):
            one = _one(crops, draw, atom, name, rule)
            if one is not None:
                mine.append(one)
        found.append(mine)
    order = draw.permutation(len(found))
    rounds = max((len(mine) for mine in found), default=0)
    return [found[i][turn] for turn in range(rounds) for i in order if turn < len(found[i])]


def _fitting(crops: Crops, atom: int, name: str) -> list[int]:
    """List the crops of a concept from pictures of a class ('' = any), one a picture, strongest first."""
    seen: set[int] = set()
    found = []
    for place, source in enumerate(crops.source[atom]):
        if int(source) not in seen and (not name or crops.classes[atom, place] == name):
            seen.add(int(source))
            found.append(place)
    return found


def _one(crops: Crops, draw: np.random.Generator, atom: int, name: str, rule: Rule) -> _Set | None:
    majority, _, match, limit = rule
    fitting = _fitting(crops, atom, name)
    if len(fitting) < majority:
        return None
    chosen = sorted(int(fitting[i]) for i in draw.permutation(len(fitting))[:majority])
    taken = {int(crops.source[atom, place]) for place in chosen}
    # A picture among this concept's own crops shows the concept as well, and would be no intruder.
    own = {int(source) for source in crops.source[atom]} | taken
    rank = float(chosen[int(draw.integers(majority))])
    light = float(np.mean([crops.pictures[atom, place].mean() for place in chosen]))
    for other in (crops.alive[i] for i in draw.permutation(len(crops.alive))):
        offered = [place for place in _fitting(crops, other, name) if int(crops.source[other, place]) not in own]
        cosine = float(crops.cosines[atom, other])
        if other == atom or not offered or cosine > limit:
            continue

        def far(place: int, other: int = other) -> float:
            return abs(place - rank) if match == "rank" else abs(float(crops.pictures[other, place].mean()) - light)

        best = min(offered, key=far)
        sources = [int(crops.source[atom, place]) for place in chosen] + [int(crops.source[other, best])]
        facts = {"ranks": [*chosen, best], "sources": sources, "distance": far(best), "cosine": round(cosine, 4)}
        return _Set(atom, other, name, (*((atom, place) for place in chosen), (other, best)), facts)
    return None


def _trials(study: StudyFile, cell: CellRow, sets: Sequence[_Set], lockout_ms: int) -> list[TrialRow]:
    count = len(sets[0].pictures)
    draw = seeded(study.seed, "order", cell.condition, cell.list)
    start = places(len(sets), count, seeded(study.seed, "places", cell.condition))
    sheet = Sheet(study, cell, "choice")
    for index, which in enumerate(draw.permutation(len(sets)), start=1):
        one = sets[which]
        place = (start[which] + cell.list - 1) % count
        rest = [one.pictures[i] for i in draw.permutation(count - 1)]
        shown = [*rest[:place], one.pictures[-1], *rest[place:]]
        ids = [opaque(study, cell.cell, index - 1, k) for k in range(count)]
        payload = {
            **common(study, session=1, sessions=1, index=index, count=len(sets), lockout_ms=lockout_ms),
            "question": "Which one does not belong?",
            "panels": [],
            "options": ids,
            "faces": [{"label": "", "pictures": [name], "text": ""} for name in shown],
            "layout": "row",
        }
        answer = {"expected": ids[place], "definition": "the crop of another concept", "label": one.class_name}
        sheet.add(payload, item=one.item.item_id, answer=answer, block="intruder", factors={})
    return sheet.rows
