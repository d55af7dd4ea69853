"""The reveal game: which parts of a picture do people uncover to let a class be recognised?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bench.images import picture_hash
from bench.overlay import enlarge
from bench.registry import LimenError, unknown

from ..balance import rotations, seeded, spread
from ..protocol import Drawn, Material, design
from ..records import CellRow, ItemRow, StudyFile, TrialRow
from ..render import Album
from ..rows import Sheet, cells_of
from ._clickme_audit import audit
from ._clickme_texts import texts

ORACLE, ALONE = "oracle", "alone"
Count = Annotated[int, Field(ge=1, le=1000)]
EXAMPLE = {
    "title": "Uncover it",
    "run": "demo",
    "conditions": [ORACLE],
    "design": {"images": 24, "rounds": 12},
    "checks": {"catch_accuracy": 0.6, "no_touch": True, "max_total_seconds": 3600},
    "bots": {"accuracy": {ORACLE: [0.7]}},
    "minutes": 10,
    "rule": "'oracle': a network watches and ends the round when it names\n"
    "# the class; 'alone': no network, the player says when it is enough.",
}


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> Iterable[str]:
    """Name the pictures of the run and what its network answers to them."""
    return ("images", "predictions")


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse conditions that the game does not have, and numbers that cannot be balanced."""
    for condition in study.conditions:
        if condition not in (ORACLE, ALONE):
            raise unknown(f"{where}, key 'conditions'", condition, (ORACLE, ALONE))
    if options["visible"] and options["mode"] == "click":
        raise LimenError(
            f"{where}, key 'design.visible': given true with design.mode 'click', where the picture is seen anyway; allowed is "
            "false, or the mode 'reveal'."
        )
    images, rounds, lists = options["images"], options["rounds"], options["lists"]
    if images % lists or (lists * rounds) % images or rounds > images:
        raise LimenError(
            f"{where}, key 'design': given images {images}, rounds {rounds} and lists {lists}; allowed is a number of "
            "images that is a multiple of lists, with lists x rounds a multiple of images and rounds at most images, "
            "so that each image is in equally many lists."
        )
    seen = min(_people(images, rounds, spread(study.quota, lists)))
    if seen < options["people"]:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, so that an image is seen by {seen} people of a condition; "
            f"allowed is a quota by which 'design.people' = {options['people']} see each image."
        )


def _people(images: int, rounds: int, quotas: Sequence[int]) -> list[int]:
    """Count the people of one condition who see each place of the ring of images."""
    seen = [0] * images
    for quota, start in zip(quotas, rotations(images, len(quotas)), strict=True):
        for place in range(rounds):
            seen[(start + place) % images] += quota
    return seen


@design(
    version=2,
    citation="arXiv:1805.08819",
    trial_type="reveal",
    question=(
        "People agree on which parts of a picture show its class, and an explanation of a network can be compared with "
        "these parts.",
        "the network names the class from what was uncovered (condition 'oracle'); else nothing is right or wrong",
        None,
    ),
    factors=(("condition",), (), ("participant", "item")),
    analysis=("clickme", "map ~ image, split halves of participants"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def clickme(
    material: Material,
    *,
    images: Count = 48,
    rounds: Count = 24,
    lists: Annotated[int, Field(ge=1, le=48)] = 4,
    people: Annotated[int, Field(ge=1, le=1000)] = 5,
    practice: Annotated[int, Field(ge=0, le=10)] = 2,
    catch: Annotated[int, Field(ge=0, le=10)] = 2,
    catch_probability: Annotated[float, Field(ge=0, le=1)] = 0.9,
    only_correct: bool = True,
    mode: Literal["reveal", "click"] = "reveal",
    visible: bool = False,
    told: bool = False,
    size: Annotated[int, Field(ge=32, le=1024)] = 224,
    box_px: Annotated[int, Field(ge=1, le=512)] = 14,
    step_px: Annotated[int, Field(ge=1, le=512)] = 7,
    sample_ms: Annotated[int, Field(ge=10, le=1000)] = 50,
    batch: Annotated[int, Field(ge=1, le=1000)] = 10,
    limit_ms: Annotated[int, Field(ge=500, le=120000)] = 7000,
) -> Drawn:
    """Let people uncover pictures of the run, class name in view, until a network recognises them.

    The papers leave unknown how catch rounds are made, how many rounds a person plays, whether there is practice,
    which pictures were eligible, and what the player sees of the picture and of the network's answers during a round:
    `catch`, `catch_probability`, `rounds`, `practice`, `only_correct`, `visible` and `told` are our values. Here the player
    uncovers a hidden picture; with `visible` they light up parts of one that they see, and mode 'click' marks places on it.
    Who uncovers a hidden picture has to search first, so that a map also holds where people expect things to be.

    Parameters
    ----------
    material
        The bench run.
    images
        Pictures of the study, the classes equally often (within one).
    rounds
        Pictures that one person plays, catch and practice rounds not counted.
    lists
        Counterbalanced lists; each picture is in lists x rounds / images of them, at places spread over the session.
    people
        Fewest people of a condition who must see each picture for the quota to be accepted (the papers say 5 to 30).
    practice
        Rounds on other pictures before the study; they are not analysed.
    catch
        Rounds on other pictures that the network recognises well; a network watches in every condition, and the round
        counts as right when it is won.
    catch_probability
        Smallest probability of the true class by which the network recognises the whole picture of a catch round.
    only_correct
        Whether only pictures are drawn whose class the network names when it sees them whole.
    mode
        'reveal' uncovers a hidden picture, 'click' marks places on a visible one.
    visible
        Whether the player sees the whole picture, dimmed, and lights up parts of it; the network sees these alone. Unknown
        in the papers.
    told
        Whether the player reads what the network took the picture for when it was last asked. Unknown in the papers.
    size
        Width of the pictures in pixels.
    box_px
        Side of a revealed box, in pixels of the picture.
    step_px
        Largest distance between two boxes in a row, in pixels of the picture.
    sample_ms
        Milliseconds between two boxes.
    batch
        Boxes between two questions to the network.
    limit_ms
        Length of a round.

    Raises
    ------
    LimenError
        If the run has too few pictures.

    References
    ----------
    Linsley, Shiebler, Eberhardt, Serre: Learning what and where to attend, arXiv:1805.08819. Fel, Felipe, Linsley,
    Serre: Harmonizing the object recognition strategies of deep neural networks with humans, arXiv:2211.04533.
    """
    chosen, pool = _choose(material, images, practice, catch, catch_probability, only_correct)
    album = Album()
    items = {
        role: [_item(material, row, role, album, size) for row in table.to_dict("records")]
        for role, table in chosen.items()
    }
    game = {
        "mode": mode,
        "visible": visible,
        "told": told,
        "box_px": box_px,
        "step_px": step_px,
        "sample_ms": sample_ms,
        "batch": batch,
        "limit_ms": limit_ms,
        "max_boxes": min(5000, limit_ms // sample_ms + 1),
        "size": [size, album.pixels(items["main"][0].picture).shape[0]],
    }
    writer = _Writer(material.study, items, rounds, lists, game)
    cells = cells_of(material.study, lists)
    quotas = [cell.quota for cell in cells if cell.condition == material.study.conditions[0]]
    seen = _people(images, rounds, quotas)
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in writer.trials(cell)],
        cells=cells,
        items=[item for group in items.values() for item in group],
        pool={**pool, "people_per_image": [min(seen), max(seen)]},
        rules=_rules(images, lists * rounds // images, lists, only_correct, catch, catch_probability),
        conditions={name: {"oracle": name == ORACLE} for name in material.study.conditions},
    )


def _choose(
    material: Material, images: int, practice: int, catch: int, catch_probability: float, only_correct: bool
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Draw pictures by the seed: catch rounds first, since few may qualify, then the study's, then practice."""
    study = material.study
    every = material.images.drop_duplicates("sha256")
    fitting = every[every["correct"]] if only_correct else every
    clear = fitting[fitting["correct"] & (fitting["probability"] >= catch_probability)]
    _enough(study, "catch", catch, len(clear), f"are recognised with a probability of {catch_probability:g} or more")
    taken = {"catch": _balanced(clear, catch, study.seed, "catch")}
    rest = fitting.drop(index=taken["catch"].index)
    _enough(study, "images", images, len(rest), "fit and are left")
    names = sorted(rest["class_name"].unique())
    for name, share in zip(names, spread(images, len(names)), strict=True):
        _enough(study, "images", share, int((rest["class_name"] == name).sum()), f"of class '{name}' fit and are left")
    taken["main"] = _balanced(rest, images, study.seed, "main")
    rest = rest.drop(index=taken["main"].index)
    _enough(study, "practice", practice, len(rest), "fit and are left")
    taken["practice"] = _balanced(rest, practice, study.seed, "practice")
    counts = taken["main"]["class_name"].value_counts()
    kinds = [
        {
            "predicted": name,
            "model_correct": only_correct,
            "available": int((fitting["class_name"] == name).sum()),
            "chosen": int(counts.get(name, 0)),
        }
        for name in names
    ]
    pool = {"images_in_run": len(material.images), "distinct": len(every), "fitting": len(fitting), "kinds": kinds}
    return {role: taken[role] for role in ("main", "practice", "catch")}, pool | {"clear": len(clear)}


def _enough(study: StudyFile, option: str, wanted: int, there: int, what: str) -> None:
    if there < wanted:
        raise LimenError(
            f"study '{study.study}', key 'design.{option}': given {wanted} pictures, allowed are at most {there}, since in "
            f"run '{study.run}' so many {what}; lower it, or give the plan more images."
        )


def _balanced(table: pd.DataFrame, count: int, seed: int, role: str) -> pd.DataFrame:
    """Draw pictures so that every run of as many as there are classes has each class once, while they last."""
    draws = seeded(seed, "choose", role)
    names = sorted(table["class_name"].unique())
    queues = {}
    for name in names:
        members = table.index[table["class_name"] == name].to_numpy()
        queues[name] = list(members[draws.permutation(len(members))])
    chosen: list[Any] = []
    while len(chosen) < count and any(queues.values()):
        left = [name for name in names if queues[name]]
        order = [left[i] for i in draws.permutation(len(left))]
        chosen += [queues[name].pop() for name in order[: count - len(chosen)]]
    return table.loc[chosen]


def _item(material: Material, row: Mapping[Any, Any], role: str, album: Album, size: int) -> ItemRow:
    picture = material.pictures[row["index"]]
    facts = {"index": int(row["index"]), "pixels": picture_hash(picture), "side": [int(n) for n in picture.shape[:2]]}
    return ItemRow(
        item_id=row["image_id"],
        role=role,
        picture=album.add(enlarge(picture, size)),
        label=row["class_name"],
        predicted=row["predicted_class"],
        probability=float(row["probability"]),
        model_correct=bool(row["correct"]),
        group=row["group"],
        facts=json.dumps(facts, sort_keys=True),
    )


@dataclass(frozen=True)
class _Writer:
    """Writes the rounds of a cell."""

    study: StudyFile
    items: Mapping[str, Sequence[ItemRow]]
    rounds: int
    lists: int
    game: Mapping[str, Any]

    def trials(self, cell: CellRow) -> list[TrialRow]:
        """Return practice, then the list's part of the ring with the catch rounds among it."""
        sheet = Sheet(self.study, cell, "reveal")
        oracle = cell.condition == ORACLE
        for number, item in enumerate(self.items["practice"], start=1):
            payload = self._payload(item, "practice", (number, len(self.items["practice"])), oracle)
            sheet.add(payload, item=item.item_id, answer={"label": item.label}, block="practice")
        script = self._script(cell.list)
        for number, (item, is_catch) in enumerate(script, start=1):
            watched = oracle or is_catch
            payload = self._payload(item, "test", (number, len(script)), watched)
            answer: dict[str, Any] = {"label": item.label, "model_correct": item.model_correct}
            if watched:
                answer |= {"expected": "won", "definition": "the network names the class from what is uncovered"}
            sheet.add(payload, item=item.item_id, answer=answer, block="rounds", is_catch=is_catch)
        return sheet.rows

    def _script(self, number: int) -> list[tuple[ItemRow, bool]]:
        ring = self.items["main"]
        start = rotations(len(ring), self.lists)[number - 1]
        script = [(ring[(start + place) % len(ring)], False) for place in range(self.rounds)]
        catch = self.items["catch"]
        draws = seeded(self.study.seed, "catch", number)
        order = draws.permutation(len(catch))
        # One catch round in each equal part of the session, later parts first so that the places stay as drawn.
        edges = np.linspace(0, self.rounds, len(catch) + 1).astype(int)
        for part in reversed(range(len(catch))):
            place = int(draws.integers(edges[part], max(edges[part + 1], edges[part] + 1)))
            script.insert(place, (catch[order[part]], True))
        return script

    def _payload(self, item: ItemRow, phase: str, place: tuple[int, int], oracle: bool) -> dict[str, Any]:
        return {
            **self.game,
            "phase": phase,
            "image": item.picture,
            "word": item.label,
            "oracle": oracle,
            "session": 0 if phase == "practice" else 1,
            "session_count": 1,
            "index": place[0],
            "count": place[1],
        }


def _rules(
    images: int, times: int, lists: int, only_correct: bool, catch: int, catch_probability: float
) -> tuple[str, ...]:
    which = "whose class the network names" if only_correct else "of the run"
    rules = (
        f"{images} pictures are drawn at random from all {which}, classes equally often within one; copies of one "
        "picture count once.",
        f"The pictures form a ring in which classes take turns; each of {lists} lists is a stretch of it, the stretches "
        f"start at equal distances, and each picture is in {times} of the lists.",
        "All conditions of a list show the same pictures in the same order.",
        "Practice shows pictures that are not in the study.",
    )
    if not catch:
        return rules
    caught = (
        f"{catch} catch rounds, one in each equal part of the session, show other pictures that the network recognises "
        f"with a probability of {catch_probability:g} or more; they ask the network in every condition."
    )
    return (*rules, caught)
