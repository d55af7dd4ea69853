"""Distinction: which of four class explanations is that of the right class?"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bench.overlay import overlay, span
from bench.registry import LimenError, unknown

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import ItemRow, StudyFile, Texts, TrialRow
from ..render import Album, Show, check_finite, strength
from ..rows import Sheet, cells_of, opaque
from ._distinction_audit import TASK, audit
from ._panels import (
    LIGHT,
    SIGNED,
    check_quota,
    common,
    distinct,
    image_items,
    pages,
    places,
    refuse_few,
    round_robin,
)
from ._self_ratings import BEFORE, TOLD, add_rating, moments, question_items

Joint = Literal["joint", "map"]
CLASSES = 4
ROLE = "class_explanations/"
EXAMPLE = {
    "title": "Which explanation is right?",
    "run": "classes",
    "conditions": ["saliency", "grad_cam"],
    "checks": {"min_total_seconds": 45, "max_total_seconds": 3600, "min_median_rt_ms": 400},
    "bots": {"accuracy": {"saliency": [0.3], "grad_cam": [0.4]}},
    "minutes": 6,
    "rule": "A condition is the label of an explanation in a run whose plan says 'explained_classes: 4'; one that explains all classes alike is refused.",
}
DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** Computers that recognise pictures make mistakes. There are methods that colour a picture to explain \
why the computer might give an answer. We want to know whether people can tell the explanation of the right answer from those of \
other answers.

**What differed between people.** The explanations came from different methods. Some may know nothing about the machine: they are \
there for comparison. People also saw different pictures.

**Right and wrong.** In half of the questions the machine itself gave a wrong answer. Machines of this kind are often right more \
often than that."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    colours = SIGNED if options["show"] == "signed" else LIGHT
    task = (
        "A machine looks at a picture and weighs several answers. Each coloured version of the picture explains **one possible "
        f"answer**: {colours}.\n\nOnly one of the four answers is right. **Find the explanation of the right answer.** You are "
        "not told which answer the machine gave in the end. Click on it, or use the keys 1 to 4."
    )
    return pages(
        material.study,
        about="It asks whether people can tell explanations of right and wrong answers of a machine apart.",
        doing="You look at pictures with four explanations each, and choose the one of the right answer.",
        instructions=[("Four explanations, one is right", task)],
        debrief=DEBRIEF,
    )


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the roles of the run that the conditions draw on."""
    known = [role.removeprefix(ROLE) for role in offered if role.startswith(ROLE)]
    if offered and not known:
        raise LimenError(
            f"study '{study.study}', run '{study.run}': holds explanations of the predicted class only; the protocol shows those "
            f"of {CLASSES} classes, so give the plan 'explained_classes: {CLASSES}'."
        )
    for label in study.conditions:
        if label not in known:
            raise unknown(f"study '{study.study}', key 'conditions', explanations of run '{study.run}'", label, known)
    return ["images", "predictions", *(ROLE + label for label in study.conditions)]


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse an odd number of trials, since half of them are of a wrong prediction."""
    if options["trials"] % 2:
        raise LimenError(
            f"{where}, key 'design.trials': given {options['trials']}, allowed are even numbers: the model is right in one half."
        )


@design(
    version=2,
    citation="arXiv:2112.03184",
    trial_type="choice",
    question=(
        "People tell the explanation of the right class from those of other classes better than chance, also where the model "
        "is wrong.",
        "the chosen explanation is that of the true class",
        0.25,
    ),
    factors=(("condition",), ("machine",), ("participant", "item")),
    analysis=("crossed", "correct ~ condition * machine + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def distinction(
    material: Material,
    *,
    trials: Annotated[int, Field(ge=2, le=100)] = 10,
    lists: Annotated[int, Field(ge=1, le=50)] = 4,
    normalisation: Joint = "joint",
    names: bool = False,
    ratings: bool = True,
    own_score: bool = True,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=1024)] = 256,
    show: Show = "positive",
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.0,
) -> Drawn:
    """Show explanations of four classes of one image and ask for that of the right class.

    The four classes are the most probable ones; where the truth is not among them it takes the place of the last. So for
    right predictions they are the top four, and for wrong ones the top three and the truth, or the top four where the truth
    is the fourth or higher.

    As in HIVE, people rate three times how well they understand the machine: before the task, after it, and after they were
    told their own score.

    Parameters
    ----------
    material
        The bench run; its plan says 'explained_classes: 4'.
    trials
        Trials a person; in one half the model's prediction is right. An even number.
    lists
        Sets of images. No image is in two of them.
    normalisation
        'joint': the four maps of an image share one colour scale, so that their strengths can be compared; 'map': each
        has its own.
    names
        Write the name of the class under each explanation. People may then answer by the picture alone. Off by default.
    ratings
        Ask how well people feel they understand the machine, from 1 to 5, before and after the task.
    own_score
        With `ratings`: then tell people how many right explanations they found, and ask once more.
    lockout_ms
        No answer is taken before this time. The source's value is unknown.
    size
        Width of the pictures in pixels.
    show
        What is drawn of a map: its 'magnitude', its 'positive' part, or the 'signed' map.
    percentile
        Percentile of the maps that is drawn at full strength, and its complement at none.

    Raises
    ------
    LimenError
        If the run has too few images that the model gets right or wrong, or did not explain four classes of each.

    References
    ----------
    Kim, Meister, Ramaswamy, Fong, Russakovsky: HIVE, arXiv:2112.03184.
    """
    study = material.study
    check_quota(study, lists)
    sets, pool = _choose(material, trials // 2, lists)
    shown = pd.concat(sets).sort_values("index")
    album = Album()
    bare = image_items(material, album, shown, size)
    faces: dict[str, dict[str, tuple[str, ...]]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    for condition in study.conditions:
        maps, found = _read(material, condition, shown)
        classes = classes or found
        if classes != found:
            raise LimenError(
                f"study '{study.study}', condition '{condition}': explains other classes than the first one."
            )
        faces[condition] = _draw(material, album, shown, maps, (size, show, normalisation, percentile))
    items = {name: _with(item, classes[name], faces) for name, item in bare.items()}
    pool["alike"] = {condition: _alike(study, items.values(), condition) for condition in study.conditions}
    cells = cells_of(study, lists)
    rated = moments({"ratings": ratings, "own_score": own_score})
    rows: list[TrialRow] = []
    for cell in cells:
        asked = [items[name] for name in sets[cell.list - 1]["image_id"]]
        sheet = Sheet(study, cell, "choice")
        _rate(sheet, [name for name in rated if name == BEFORE], lockout_ms)
        _trials(sheet, asked, classes, faces[cell.condition], (names, lockout_ms))
        _rate(sheet, [name for name in rated if name != BEFORE], lockout_ms)
        rows += sheet.rows
    return Drawn(
        pictures=album.pictures,
        trials=rows,
        cells=cells,
        items=[*items.values(), *question_items(rated)],
        pool=pool,
        rules=(
            f"Each of {lists} lists has {trials} images of its own: {trials // 2} that the model gets right and as many that it "
            "gets wrong, drawn at random with the true classes taken in turn; copies of one picture count once.",
            "Explained are the four most probable classes; where the truth is not among them it takes the place of the fourth.",
            "The four explanations stand in random order, the right one at each place equally often in a list, within one; "
            "order and places are the same in all conditions.",
            "The four maps of an image share one colour scale."
            if normalisation == "joint"
            else "Each map has its own scale.",
            "An image stays where the explanation of the truth looks exactly like another, as two empty maps do: to leave it out "
            "would favour the method. How many there are is counted.",
            *(
                ("Before the last rating people are told how many right explanations they found.",)
                if TOLD in rated
                else ()
            ),
        ),
        conditions={
            name: {"explanation": name, "artifact": material.parents.get(ROLE + name)} for name in study.conditions
        },
    )


def _choose(material: Material, half: int, lists: int) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    images, study = distinct(material), material.study
    pool: dict[str, Any] = {"images_in_run": len(material.images), "distinct": len(images), "kinds": []}
    taken = []
    for right in (True, False):
        fitting = images[images["correct"] == right]
        what = f"images that the model gets {'right' if right else 'wrong'}"
        refuse_few(study, what, len(fitting), half * lists, "give the plan more images, or lower trials or lists")
        taken.append(round_robin(fitting, "class_name", half * lists, seeded(study.seed, "choose", right)))
        pool["kinds"].append({"model_correct": right, "available": len(fitting), "chosen": half * lists})
    sets = []
    for number in range(lists):
        part = pd.concat([table.iloc[number * half : (number + 1) * half] for table in taken])
        sets.append(part.iloc[seeded(study.seed, "order", number).permutation(len(part))])
    return sets, pool


def _read(material: Material, label: str, shown: pd.DataFrame) -> tuple[np.ndarray, dict[str, tuple[str, ...]]]:
    """Return the maps (n, 4, H, W) of the chosen images under a label, and the name of each one's class."""
    held = material.artifact(ROLE + label)
    tensors = held.tensors("maps.safetensors")
    maps, index = np.asarray(tensors["maps"]), shown["index"].to_numpy()
    if maps.ndim != 4 or maps.shape[:2] != (len(material.images), CLASSES):
        raise LimenError(
            f"study '{material.study.study}', explanation '{label}': given maps of shape {maps.shape}, allowed is "
            f"({len(material.images)}, {CLASSES}, H, W); give the plan 'explained_classes: {CLASSES}'."
        )
    words = json.loads(held.file("classes.json").read_text(encoding="utf-8"))
    numbers = np.asarray(tensors["classes"])[index]
    names = {item: tuple(words[number] for number in row) for item, row in zip(shown["image_id"], numbers, strict=True)}
    check_finite(maps[index], shown["image_id"], f"study '{material.study.study}', condition '{label}'")
    return maps[index], names


def _draw(
    material: Material, album: Album, shown: pd.DataFrame, maps: np.ndarray, look: tuple[int, Show, Joint, float]
) -> dict[str, tuple[str, ...]]:
    size, show, scope, percentile = look
    signed = show == "signed"
    found = {}
    for name, index, raw in zip(shown["image_id"], shown["index"], maps, strict=True):
        drawn = strength(raw, show)
        ends = [span(drawn if scope == "joint" else one, percentile, signed=signed) for one in drawn]
        found[name] = tuple(
            album.add(overlay(material.pictures[index], one, end, size, signed=signed))
            for one, end in zip(drawn, ends, strict=True)
        )
    return found


def _with(item: ItemRow, classes: tuple[str, ...], faces: Mapping[str, Mapping[str, tuple[str, ...]]]) -> ItemRow:
    pictures = {condition: list(of[item.item_id]) for condition, of in faces.items()}
    facts = {"classes": list(classes), "truth": classes.index(item.label), "pictures": pictures}
    return ItemRow(**{**vars(item), "facts": json.dumps(facts, sort_keys=True)})


def _alike(study: StudyFile, items: Collection[ItemRow], condition: str) -> int:
    """Count the images on which the explanation of the truth looks exactly like another: nobody can find it but by luck."""
    found = 0
    for item in items:
        facts = json.loads(item.facts)
        pictures = facts["pictures"][condition]
        found += pictures.count(pictures[facts["truth"]]) > 1
    if found == len(items):
        raise LimenError(
            f"study '{study.study}', key 'conditions': given '{condition}', which explains all classes of an image alike; allowed "
            "are explanations that depend on the class."
        )
    return found


def _rate(sheet: Sheet, names: Sequence[str], lockout_ms: int) -> None:
    shared = common(sheet.study, session=1, sessions=1, index=0, count=0, lockout_ms=lockout_ms)
    for name in names:
        add_rating(sheet, name, shared=shared, task=TASK)


def _trials(
    sheet: Sheet,
    asked: Sequence[ItemRow],
    classes: Mapping[str, tuple[str, ...]],
    faces: Mapping[str, tuple[str, ...]],
    said: tuple[bool, int],
) -> None:
    study, cell = sheet.study, sheet.cell
    draw = seeded(study.seed, "places", cell.list)
    for index, (item, place) in enumerate(zip(asked, places(len(asked), CLASSES, draw), strict=True), start=1):
        truth = classes[item.item_id].index(item.label)
        rest = [int(rank) for rank in draw.permutation(CLASSES) if rank != truth]
        order = [*rest[:place], truth, *rest[place:]]
        ids = [opaque(study, cell.cell, index - 1, k) for k in range(CLASSES)]
        payload = {
            **common(study, session=1, sessions=1, index=index, count=len(asked), lockout_ms=said[1]),
            "question": "Which one explains the right answer?",
            "panels": [{"label": "Picture", "pictures": [item.picture], "text": ""}],
            "options": ids,
            "faces": [
                {
                    "label": classes[item.item_id][rank] if said[0] else "",
                    "pictures": [faces[item.item_id][rank]],
                    "text": "",
                }
                for rank in order
            ],
            "layout": "row",
        }
        answer = {
            "expected": ids[place],
            "definition": "the explanation of the true class",
            "model_correct": item.model_correct,
            "label": item.label,
            "group": item.group,
        }
        machine = "right" if item.model_correct else "wrong"
        sheet.add(payload, item=item.item_id, answer=answer, block=TASK, factors={"machine": machine})
