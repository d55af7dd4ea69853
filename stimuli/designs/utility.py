"""Train-then-predict with a reservoir: does an explanation help people to predict the model on new images?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from bench.overlay import enlarge, overlay
from bench.registry import LimenError

from ..balance import seeded
from ..protocol import Drawn, Material, design
from ..records import ItemRow, Texts
from ..render import Album, Scope, Show, check_finite, spans, strength
from ..rows import cells_of
from . import _utility_texts
from ._utility_audit import audit
from ._utility_conditions import check, labels_of, needs
from ._utility_practice import practice_machine
from ._utility_rows import Writer
from ._utility_script import KINDS, Kind, Plan, Script, plan

Count = Annotated[int, Field(ge=1, le=100)]
EXAMPLE = {
    "title": "What will the machine say?",
    "run": "demo",
    "conditions": ["baseline", "control", "grad_cam"],
    "checks": {
        "catch_accuracy": 0.6,
        "practice_attempts": 5,
        "min_total_seconds": 90,
        "max_total_seconds": 3600,
        "min_median_rt_ms": 250,
        "max_same_side_share": 0.95,
    },
    "bots": {"accuracy": {name: [0.6, 0.6, 0.6] for name in ("baseline", "control", "grad_cam")}},
    "minutes": 10,
    "rule": "'baseline' shows no explanation, 'control' one that knows nothing of the model (see\n"
    "# design.control), any other is the label of an explanation in the run.",
}


def texts(material: Material, options: Mapping[str, Any]) -> Texts:
    """Write the protocol's own pages for a study."""
    return _utility_texts.texts(material.study, options, _two_classes(material, options["classes"]))


@design(
    version=1,
    citation="arXiv:2112.04417",
    trial_type="predict",
    question=(
        "People who learn with an explanation predict the model's answers to new images better than people who learn "
        "without one.",
        "the answer equals the model's output",
        0.5,
    ),
    factors=(("condition",), ("session",), ("participant", "item")),
    analysis=("utility", "correct ~ condition + session + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def utility(
    material: Material,
    *,
    sessions: Count = 3,
    train: Count = 5,
    test: Count = 7,
    lists: Count = 4,
    practice: Annotated[int, Field(ge=0, le=16)] = 4,
    catch: Annotated[int, Field(ge=0, le=5)] = 1,
    wrong_share: Annotated[float, Field(ge=0, le=1)] = 0.5,
    classes: tuple[str, str] | None = None,
    control: str = "image_gradient",
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=1024)] = 320,
    show: Show = "magnitude",
    normalisation: Scope = "image",
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.0,
) -> Drawn:
    """Train people on the model's answers, with or without explanations, and let them predict new ones.

    Parameters
    ----------
    material
        The bench run.
    sessions, train, test
        Sessions, and in each the training trials and the new images to predict.
    lists
        Counterbalanced lists: the same images, turned through the roles of training and test.
    practice
        Questions about the practice machine, which are not about images of the study.
    catch
        Training images asked again at test in each session, while the reservoir shows the answer.
    wrong_share
        Share of the shown images that the model gets wrong; counts are rounded half up.
    classes
        The two classes; by default those of the run.
    control
        Label of the explanation shown in the condition 'control'; it should know nothing of the model.
    lockout_ms
        No answer is taken before this time.
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
        If the run has too few images of a kind, or the options contradict each other.

    References
    ----------
    Colin, Fel, Cadene, Serre: What I Cannot Predict, I Do Not Understand, arXiv:2112.04417.
    """
    _check(material, train=train, catch=catch, lists=lists)
    blocks = plan(sessions, train, test, wrong_share)
    chosen, pool = _choose(material, blocks, _two_classes(material, classes))
    album = Album()
    labels = labels_of(material.study, {"control": control})
    shown = _draw(material, labels, chosen, album, _Look(size, show, normalisation, percentile))
    machine = practice_machine(album, practice, size, material.study.seed)
    answers = {item.item_id: item.predicted for item in shown.items.values()}
    ids = {kind: list(table["image_id"]) for kind, table in chosen.items()}
    script = Script(blocks, ids, answers, lists, catch, material.study.seed)
    writer = Writer(material.study, script, shown.items, machine, tuple(pool["classes"]), lockout_ms)
    cells = cells_of(material.study, lists)
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in writer.trials(cell, shown.explanations.get(cell.condition, {}))],
        cells=cells,
        items=[*shown.items.values(), *machine.items],
        pool=pool,
        rules=_rules(blocks, wrong_share, lists),
        conditions={
            condition: {"explanation": label, "artifact": material.parents.get(f"explanations/{label}")}
            for condition, label in labels.items()
        },
    )


def _check(material: Material, *, train: int, catch: int, lists: int) -> None:
    study = material.study
    where = f"study '{study.study}'"
    if catch > train:
        raise LimenError(
            f"{where}, key 'design.catch': given {catch}, allowed is at most train = {train}, "
            "the training images of a session that can be asked again."
        )
    if study.quota < lists:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, allowed is at least lists = {lists}, "
            "so that each list has a participant."
        )


def _two_classes(material: Material, given: tuple[str, str] | None) -> tuple[str, str]:
    """Return the two classes of the study, sorted by name unless they were given."""
    names = sorted({*material.images["class_name"], *material.images["predicted_class"]})
    where = f"study '{material.study.study}', key 'design.classes'"
    if given is None:
        if len(names) != 2:
            raise LimenError(
                f"{where}: nothing was given and run '{material.study.run}' has {len(names)} classes "
                f"({', '.join(names[:12])}{', ...' if len(names) > 12 else ''}); name the two to be told apart."
            )
        return names[0], names[1]
    missing = [name for name in given if name not in names]
    if missing or given[0] == given[1]:
        raise LimenError(f"{where}: given {', '.join(given)}; allowed are two different ones of {', '.join(names)}.")
    return given


def _choose(
    material: Material, blocks: Plan, classes: tuple[str, str]
) -> tuple[dict[Kind, pd.DataFrame], dict[str, Any]]:
    """Draw the images of each kind from all that qualify, by the study's seed and nothing else."""
    images = material.images
    fitting = images[images["class_name"].isin(classes) & images["predicted_class"].isin(classes)]
    unique = fitting.drop_duplicates("sha256")
    pool: dict[str, Any] = {
        "images_in_run": len(images),
        "of_the_two_classes": len(fitting),
        "distinct": len(unique),
        "classes": list(classes),
        "kinds": [],
    }
    found = {}
    for kind in KINDS:
        of_kind = (unique["correct"] == (kind[0] == 0)) & (unique["predicted_class"] == classes[kind[1]])
        found[kind] = unique[of_kind]
        facts = {"predicted": classes[kind[1]], "model_correct": kind[0] == 0}
        pool["kinds"].append({**facts, "available": len(found[kind]), "chosen": blocks.needs[kind]})
    _refuse_small_pool(material, pool)
    chosen = {}
    for kind, table in found.items():
        order = seeded(material.study.seed, "choose", *kind).permutation(len(table))
        chosen[kind] = table.iloc[order[: blocks.needs[kind]]]
    return chosen, pool


def _refuse_small_pool(material: Material, pool: Mapping[str, Any]) -> None:
    for correct in (False, True):
        kinds = [kind for kind in pool["kinds"] if kind["model_correct"] == correct]
        if all(kind["available"] >= kind["chosen"] for kind in kinds):
            continue
        wanted = ", ".join(f"{kind['chosen']} answered '{kind['predicted']}'" for kind in kinds)
        have = ", ".join(str(kind["available"]) for kind in kinds)
        raise LimenError(
            f"study '{material.study.study}', run '{material.study.run}': the design needs "
            f"{sum(kind['chosen'] for kind in kinds)} images that the model gets {'right' if correct else 'wrong'} "
            f"({wanted}) but the run has {sum(kind['available'] for kind in kinds)} ({have}); give the plan more "
            "images, or lower sessions, train or test, or change wrong_share."
        )


@dataclass(frozen=True)
class _Look:
    size: int
    show: Show
    scope: Scope
    percentile: float


@dataclass(frozen=True)
class _Shown:
    """The chosen items, and the picture of each one's explanation by condition."""

    items: Mapping[str, ItemRow]
    explanations: Mapping[str, Mapping[str, str]]


def _draw(
    material: Material, labels: Mapping[str, str | None], chosen: Mapping[Kind, pd.DataFrame], album: Album, look: _Look
) -> _Shown:
    table = pd.concat(chosen.values()).sort_values("index")
    index = table["index"].to_numpy()
    items: dict[str, ItemRow] = {}
    for row in table.to_dict("records"):
        items[row["image_id"]] = ItemRow(
            item_id=row["image_id"],
            role="main",
            picture=album.add(enlarge(material.pictures[row["index"]], look.size)),
            label=row["class_name"],
            predicted=row["predicted_class"],
            probability=float(row["probability"]),
            model_correct=bool(row["correct"]),
            group=row["group"],
        )
    maps = {}
    for condition, label in labels.items():
        if label is None:
            continue
        raw = material.maps(label, index)
        check_finite(raw, items, f"study '{material.study.study}', condition '{condition}'")
        maps[condition] = strength(raw, look.show)
    signed = look.show == "signed"
    span = spans(maps, look.scope, look.percentile, signed=signed)
    explanations = {
        condition: {
            item: album.add(overlay(material.pictures[i], shown, ends, look.size, signed=signed))
            for item, i, shown, ends in zip(items, index, group, span[condition], strict=True)
        }
        for condition, group in maps.items()
    }
    return _Shown(items, explanations)


def _rules(blocks: Plan, wrong_share: float, lists: int) -> tuple[str, ...]:
    needs = blocks.needs
    wrong = sum(count for kind, count in needs.items() if kind[0] == 1)
    return (
        f"{sum(needs.values())} images are drawn at random from all images of the run whose true class and predicted "
        "class are among the two classes; copies of one picture count once.",
        f"{wrong} of them ({wrong_share:.0%}, rounded half up) are images that the model gets wrong.",
        "In each block the two predicted classes differ by one image at most (a question asked again not counted).",
        f"The same images are shown in each of {lists} lists; a list turns them through the places of training and test.",
        "All conditions of a list show the same images in the same order, with the same sides.",
        "Left and right are the expected answer equally often in each block, within one trial.",
        "Practice is about a machine of its own and shows no image of the study.",
    )
