"""Agreement: can people tell from an explanation whether the model's prediction is right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from bench.registry import LimenError, unknown

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import ItemRow, StudyFile, Texts
from ..render import Album, Scope, Show
from ..rows import cells_of
from . import _agreement_texts
from ._agreement_audit import audit
from ._agreement_rows import Writer
from ._panels import (
    BASELINE,
    EXPLANATIONS,
    Look,
    check_quota,
    distinct,
    draw_maps,
    explanation_roles,
    image_items,
    refuse_few,
    round_robin,
)
from ._self_ratings import TOLD, moments

Lists = Annotated[int, Field(ge=1, le=50)]
CONDITIONS = ("baseline", "random", "grad_cam")
EXAMPLE = {
    "title": "Is the machine right?",
    "run": "protocols",
    "conditions": list(CONDITIONS),
    "checks": {"min_total_seconds": 60, "max_total_seconds": 3600, "min_median_rt_ms": 400},
    "bots": {"accuracy": {name: [0.6] for name in CONDITIONS}},
    "minutes": 8,
    "rule": "'baseline' shows no explanation, any other is the label of an explanation in the run.",
}


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    return _agreement_texts.texts(material.study, options)


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the roles of the run that the conditions draw on."""
    labels = [name for name in study.conditions if name != BASELINE]
    known = [role.removeprefix(EXPLANATIONS) for role in offered if role.startswith(EXPLANATIONS)]
    for label in labels:
        if label not in known:
            where = f"study '{study.study}', key 'conditions', explanations of run '{study.run}'"
            raise unknown(where, label, [BASELINE, *known])
    return explanation_roles(study, labels, offered, "conditions")


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
        "People who see an explanation of a prediction tell right from wrong predictions better than chance, also where the "
        "model is wrong.",
        "the answer is on the side of the scale that says whether the prediction is right",
        0.5,
    ),
    factors=(("condition",), ("machine",), ("participant", "item")),
    analysis=("agreement", "correct ~ condition * machine + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def agreement(
    material: Material,
    *,
    trials: Annotated[int, Field(ge=2, le=100)] = 10,
    lists: Lists = 4,
    preview: bool = True,
    examples: Annotated[int, Field(ge=0, le=9)] = 0,
    ratings: bool = True,
    own_score: bool = True,
    tradeoff: bool = False,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=1024)] = 320,
    show: Show = "magnitude",
    normalisation: Scope = "image",
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.0,
) -> Drawn:
    """Ask on a scale of four points whether the model's prediction is right, for as many right as wrong predictions.

    As in HIVE, people rate three times how well they understand the machine: before the task, after it, and after they were
    told their own score. Which checks HIVE had is unknown: none of a trial is built in.

    Parameters
    ----------
    material
        The bench run.
    trials
        Trials a person; in one half the model's prediction is right. An even number.
    lists
        Sets of images. No image is in two of them; the source had ten sets.
    preview
        Show one right and one wrong prediction first, each with the truth and, as in the task, its explanation.
    examples
        Pictures of the predicted class (of the truth of the picture itself) beside the prediction; the source's variant has 3.
    ratings
        Ask how well people feel they understand the machine, from 1 to 5, before and after the task.
    own_score
        With `ratings`: then tell people how many predictions they judged correctly, and ask once more.
    tradeoff
        Ask at the end for the smallest accuracy of a machine without explanations that people would rather use, at low,
        medium and high risk.
    lockout_ms
        No answer is taken before this time. The source's value is unknown.
    size
        Width of the pictures in pixels.
    show
        What is drawn of a map: its 'magnitude', its 'positive' part, or the 'signed' map.
    normalisation
        What shares one colour scale: each 'image', a 'condition', or the whole study ('global').
    percentile
        Percentile of the map that is drawn at full strength, and its complement at none.

    Raises
    ------
    LimenError
        If the run has too few images that the model gets right or wrong.

    References
    ----------
    Kim, Meister, Ramaswamy, Fong, Russakovsky: HIVE, arXiv:2112.03184.
    """
    study = material.study
    check_quota(study, lists)
    sets, previews, pool = _choose(material, trials // 2, lists, preview)
    shown = pd.concat([*sets, previews]).sort_values("index")
    album = Album()
    labels = [name for name in study.conditions if name != BASELINE]
    look = Look(size, show, normalisation, percentile)
    maps = draw_maps(material, album, shown, labels, look)
    items = image_items(material, album, shown, size)
    beside, more = _examples(material, album, shown, examples, size)
    asked_for = moments({"ratings": ratings, "own_score": own_score})
    writer = Writer(study, items, beside, asked_for, tradeoff, lockout_ms)
    cells = cells_of(study, lists)
    rows = []
    for cell in cells:
        asked = list(sets[cell.list - 1]["image_id"])
        rows += writer.trials(cell, list(previews["image_id"]), asked, maps.get(cell.condition, {}))
    return Drawn(
        pictures=album.pictures,
        trials=rows,
        cells=cells,
        items=[*items.values(), *more, *writer.questions],
        pool=pool,
        rules=_rules(trials, lists, examples, told=TOLD in asked_for),
        conditions={
            name: {
                "explanation": None if name == BASELINE else name,
                "artifact": material.parents.get(EXPLANATIONS + name),
            }
            for name in study.conditions
        },
    )


def _choose(
    material: Material, half: int, lists: int, preview: bool
) -> tuple[list[pd.DataFrame], pd.DataFrame, dict[str, Any]]:
    """Draw for each list as many right as wrong predictions, the predicted classes in turn."""
    images, seed = distinct(material), material.study.seed
    pool: dict[str, Any] = {"images_in_run": len(material.images), "distinct": len(images), "kinds": []}
    taken: dict[bool, pd.DataFrame] = {}
    for right in (True, False):
        fitting = images[images["correct"] == right]
        wanted = half * lists + int(preview)
        what = f"images that the model gets {'right' if right else 'wrong'}"
        refuse_few(material.study, what, len(fitting), wanted, "give the plan more images, or lower trials or lists")
        taken[right] = round_robin(fitting, "predicted_class", wanted, seeded(seed, "choose", right))
        pool["kinds"].append({"model_correct": right, "available": len(fitting), "chosen": wanted})
    sets = []
    for number in range(lists):
        part = pd.concat([table.iloc[number * half : (number + 1) * half] for table in taken.values()])
        sets.append(part.iloc[seeded(seed, "order", number).permutation(len(part))])
    left = pd.concat([table.iloc[half * lists :] for table in taken.values()])
    return sets, left, pool


def _examples(
    material: Material, album: Album, shown: pd.DataFrame, count: int, size: int
) -> tuple[dict[str, tuple[str, ...]], list[ItemRow]]:
    """Draw for each class pictures of that class which are not among the questions: class -> pictures."""
    beside: dict[str, tuple[str, ...]] = {}
    more: list[ItemRow] = []
    if not count:
        return beside, more
    rest = distinct(material)
    rest = rest[~rest["image_id"].isin(shown["image_id"])]
    for name in sorted(shown["predicted_class"].unique()):
        fitting = rest[rest["class_name"] == name]
        remedy = "give the plan more images, or lower trials, lists or examples"
        refuse_few(material.study, f"further images of class '{name}' as examples", len(fitting), count, remedy)
        order = seeded(material.study.seed, "examples", name).permutation(len(fitting))[:count]
        found = image_items(material, album, fitting.iloc[order], size)
        beside[name] = tuple(item.picture for item in found.values())
        more += [ItemRow(**{**vars(item), "role": "example"}) for item in found.values()]
    return beside, more


def _rules(trials: int, lists: int, examples: int, *, told: bool) -> tuple[str, ...]:
    rules = (
        f"Each of {lists} lists has {trials} images of its own: {trials // 2} that the model gets right and as many that it gets "
        "wrong, drawn at random from all images of the run with the predicted classes taken in turn; copies of one picture "
        "count once.",
        "The order of a list is random, and the same in all conditions.",
        "An answer is right if it is on the side of the scale on which the truth lies (1 and 2: wrong; 3 and 4: right).",
        "Images of the preview are in no list.",
    )
    beside = (
        f"Beside each prediction stand {examples} images whose true class is the predicted one; none is asked about.",
    )
    scored = (
        "Before the last rating people are told how many of the predictions they judged correctly, by the same rule.",
    )
    return rules + (beside if examples else ()) + (scored if told else ())
