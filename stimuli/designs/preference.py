"""Preference: which of two explanations of the same image do people prefer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from bench.registry import LimenError

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import CellRow, ItemRow, StudyFile, Texts, TrialRow
from ..render import Album, Scope, Show
from ..rows import Sheet, cells_of, opaque
from ._panels import (
    EXPLANATIONS,
    LIGHT,
    SIGNED,
    Look,
    check_quota,
    common,
    distinct,
    draw_maps,
    explanation_roles,
    image_items,
    pages,
    refuse_few,
    refuse_odd_lists,
    round_robin,
)
from ._preference_audit import audit

EXAMPLE = {
    "title": "Which explanation do you prefer?",
    "run": "protocols",
    "conditions": ["pairs"],
    "design": {"methods": ["random", "saliency", "grad_cam"]},
    "checks": {
        "min_total_seconds": 45,
        "max_total_seconds": 3600,
        "min_median_rt_ms": 300,
        "max_same_side_share": 0.95,
    },
    "bots": {"accuracy": {"pairs": [0.5]}},
    "minutes": 6,
    "rule": "Everyone sees all pairs: one condition, of any name.",
}
DEBRIEF = """\
Thank you. This was the last question.

**What this study is about.** There are many methods that colour a picture to explain what an image-recognising computer used. We \
want to know which of them people prefer. A preferred explanation need not be a true one: this is why we ask both questions in \
different studies.

**What you saw.** Each trial showed two explanations of the same answer, made by different methods. Some methods may know nothing \
about the machine: they are there for comparison. Every two methods met equally often. People saw different pictures."""


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    colours = SIGNED if options["show"] == "signed" else LIGHT
    task = (
        "A machine says what is on a picture. Two coloured versions of the picture each explain the machine's answer: "
        f"{colours}.\n\n**{options['ask']}** There is no right or wrong answer. You can click, or use the left and right arrow keys."
    )
    return pages(
        material.study,
        about="It asks which explanations of an image-recognising machine people prefer.",
        doing="You look at pictures with two explanations each, and choose one of the two.",
        instructions=[("Two explanations", task)],
        debrief=DEBRIEF,
    )


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the roles of the run that the methods draw on."""
    return explanation_roles(study, options["methods"], offered, "design.methods")


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse more than one condition, a method given twice, and lists that cannot mirror each other."""
    if len(study.conditions) != 1:
        raise LimenError(
            f"{where}, key 'conditions': given {', '.join(study.conditions)}; allowed is one, since all people see all pairs."
        )
    methods = options["methods"]
    if len(set(methods)) != len(methods):
        raise LimenError(f"{where}, key 'design.methods': given {', '.join(methods)}; each method may stand once.")
    refuse_odd_lists(options, where)


@design(
    version=1,
    citation="doi:10.1093/biomet/39.3-4.324",
    trial_type="choice",
    question=("Some explanations are preferred over others.", "nothing is right or wrong", None),
    factors=((), ("left", "right"), ("participant", "item")),
    analysis=("preference", "choice ~ strength(left) - strength(right) + order, clustered by participant"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def preference(
    material: Material,
    *,
    methods: Annotated[tuple[str, ...], Field(min_length=2, max_length=8)] = ("saliency", "grad_cam"),
    repeats: Annotated[int, Field(ge=1, le=20)] = 2,
    lists: Annotated[int, Field(ge=2, le=50)] = 4,
    ask: Annotated[str, Field(min_length=5, max_length=200)] = "Which one explains the machine's answer better?",
    wrong_share: Annotated[float, Field(ge=0, le=1)] | None = None,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=1024)] = 320,
    show: Show = "magnitude",
    normalisation: Scope = "image",
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.0,
) -> Drawn:
    """Show two explanations of one image side by side and ask which one is preferred; every pair equally often.

    Parameters
    ----------
    material
        The bench run.
    methods
        Labels of the explanations to compare, two to eight.
    repeats
        How often a person sees each pair, each time of another image.
    lists
        Lists of images, an even number: of every two, the second shows the same pairs with the sides exchanged.
    ask
        The question. What is preferred depends on it.
    wrong_share
        Share of images that the model gets wrong, rounded down; by default as they come.
    lockout_ms
        No answer is taken before this time.
    size
        Width of the pictures in pixels.
    show
        What is drawn of a map: its 'magnitude', its 'positive' part, or the 'signed' map.
    normalisation
        What shares one colour scale: each 'image', a 'condition' (here a method), or the whole study ('global').
    percentile
        Percentile of the map that is drawn at full strength, and its complement at none.

    Raises
    ------
    LimenError
        If the run has too few images.

    References
    ----------
    Bradley and Terry 1952, doi:10.1093/biomet/39.3-4.324.
    """
    study = material.study
    check_quota(study, lists)
    pairs = list(combinations(sorted(methods), 2))
    count = len(pairs) * repeats
    chosen, pool = _choose(material, count * (lists // 2), wrong_share)
    album = Album()
    items = image_items(material, album, chosen, size)
    maps = draw_maps(material, album, chosen, methods, Look(size, show, normalisation, percentile))
    ids = list(chosen["image_id"])
    cells = cells_of(study, lists)
    rows: list[TrialRow] = []
    for cell in cells:
        block = (cell.list - 1) // 2
        script = _script(study, pairs, repeats, ids[block * count : (block + 1) * count], cell.list)
        rows += _trials(
            study, cell, [(items[image], left, right) for image, left, right in script], maps, (ask, lockout_ms)
        )
    pool["pairs"] = [list(pair) for pair in pairs]
    return Drawn(
        pictures=album.pictures,
        trials=rows,
        cells=cells,
        items=list(items.values()),
        pool=pool,
        rules=(
            f"Each person sees each of {len(pairs)} pairs of methods {repeats} times, each time of another image.",
            f"Every two lists have {count} images of their own, drawn at random from all images of the run; copies of one "
            "picture count once.",
            "In a list each method of a pair stands on the left as often as on the right, within one; the second of two lists "
            "exchanges all sides and has the same order.",
        ),
        conditions={
            study.conditions[0]: {"methods": {name: material.parents.get(EXPLANATIONS + name) for name in methods}}
        },
    )


def _choose(material: Material, wanted: int, wrong_share: float | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    images, study = distinct(material), material.study
    pool: dict[str, Any] = {"images_in_run": len(material.images), "distinct": len(images), "kinds": []}
    remedy = "give the plan more images, or compare fewer methods, or lower repeats or lists"
    if wrong_share is None:
        refuse_few(study, "distinct images", len(images), wanted, remedy)
        chosen = images.iloc[seeded(study.seed, "choose").permutation(len(images))[:wanted]]
        pool["kinds"].append({"model_correct": "any", "available": len(images), "chosen": wanted})
        return chosen, pool
    parts = []
    wrong = int(wrong_share * wanted)
    for right, count in ((False, wrong), (True, wanted - wrong)):
        fitting = images[images["correct"] == right]
        what = f"images that the model gets {'right' if right else 'wrong'}"
        refuse_few(study, what, len(fitting), count, remedy + ", or change wrong_share")
        parts.append(round_robin(fitting, "predicted_class", count, seeded(study.seed, "choose", right)))
        pool["kinds"].append({"model_correct": right, "available": len(fitting), "chosen": count})
    both = pd.concat(parts)
    return both.iloc[seeded(study.seed, "mix").permutation(len(both))], pool


def _script(
    study: StudyFile, pairs: Sequence[tuple[str, str]], repeats: int, images: Sequence[str], number: int
) -> list[tuple[str, str, str]]:
    """Return image, left and right of each trial of a list, in order; of two lists the second mirrors the first."""
    block, mirrored = divmod(number - 1, 2)
    draw = seeded(study.seed, "script", block)
    found = []
    for place, pair in enumerate(pairs):
        start = int(draw.integers(2))
        for turn in range(repeats):
            swap = (start + turn + mirrored) % 2
            found.append((images[place * repeats + turn], pair[swap], pair[1 - swap]))
    return [found[i] for i in draw.permutation(len(found))]


def _trials(
    study: StudyFile,
    cell: CellRow,
    script: Sequence[tuple[ItemRow, str, str]],
    maps: Mapping[str, Mapping[str, str]],
    said: tuple[str, int],
) -> list[TrialRow]:
    sheet = Sheet(study, cell, "choice")
    for index, (item, left, right) in enumerate(script, start=1):
        faces = [{"label": "", "pictures": [maps[name][item.item_id]], "text": ""} for name in (left, right)]
        payload = {
            **common(study, session=1, sessions=1, index=index, count=len(script), lockout_ms=said[1]),
            "question": said[0],
            "panels": [
                {"label": "Picture", "pictures": [item.picture], "text": f"The machine answers: **{item.predicted}**"}
            ],
            "options": [opaque(study, cell.cell, index - 1, k) for k in (0, 1)],
            "faces": faces,
            "layout": "row",
        }
        sheet.add(
            payload,
            item=item.item_id,
            answer={"model_correct": item.model_correct, "label": item.label, "group": item.group},
            block="pairs",
            factors={"left": left, "right": right},
        )
    return sheet.rows
