"""Train-then-predict with a reservoir: does an explanation help people to predict the model on new images?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from bench.registry import LimenError

from ..protocol import Drawn, Material, design
from ..records import Texts
from ..render import Album, Scope, Show
from ..rows import cells_of
from . import _utility_texts
from ._utility_audit import audit
from ._utility_choice import choose_images, two_classes
from ._utility_conditions import artifact_of, check, concept_conditions, labels_of, needs
from ._utility_draw import Look, draw_study
from ._utility_practice import practice_machine
from ._utility_regions import region_of
from ._utility_rows import Writer
from ._utility_scenarios import RULES, Scenario, shown_classes
from ._utility_script import Plan, Script, plan

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
    classes, _ = two_classes(material, options)
    first, second = shown_classes(classes, options["answers"]).values()
    return _utility_texts.texts(material, options, (first, second))


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
    scenario: Scenario = "given",
    classes: tuple[str, str] | None = None,
    answers: Literal["names", "letters"] = "names",
    bias_gap: Annotated[float, Field(gt=0, le=1)] = 0.5,
    expert_accuracy: Annotated[float, Field(gt=0.5, le=1)] = 0.95,
    region: str | None = None,
    control: str = "image_gradient",
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 500,
    size: Annotated[int, Field(ge=32, le=1024)] = 320,
    show: Show = "magnitude",
    normalisation: Scope = "image",
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.0,
    concepts: Annotated[int, Field(ge=1, le=6)] = 3,
    crops: Annotated[int, Field(ge=1, le=6)] = 2,
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
    scenario
        How the two classes are chosen. 'given': by the study file. 'bias': those where the network most clearly goes by a
        cue that is not the class itself, and only images whose answer the cue accounts for; it needs an image set with the
        groups 'congruent' and 'conflict'. 'confusable': the pair that the network confuses most. 'expert_strategy': a pair
        that the network tells apart and a naive look does not; it needs wrong_share: 0. The papers chose their classes by
        hand: all of these rules are ours.
    classes
        The two classes, in the scenario 'given'; by default those of the run.
    answers
        Whether participants read the classes' 'names' or neutral 'letters'. With names, knowledge of the classes may help.
    bias_gap
        For 'bias': least difference between the shares of congruent and of conflict images that the network gets right.
    expert_accuracy
        For 'expert_strategy': least share of the images of the two classes that the network gets right.
    region
        Mask of the image set (for example 'cue') of which each explanation's share is recorded: the column `region_mass`
        holds the mean over the training examples in reach, less the region's share of the picture. By default none; in the
        scenario 'bias' the cue, or else the background.
    control
        Label of the explanation shown in the condition 'control'; it should know nothing of the model.
    lockout_ms
        No answer is taken before this time.
    size
        Width of the pictures in pixels.
    show
        What is drawn of a map: its 'magnitude', its 'positive' part, or the 'signed' map.
    normalisation
        What shares one colour scale: each 'image', a 'condition', or the whole study ('global'). Each concept map of an
        image counts as one. Maps of different methods have different units, so that 'global' compares them only where
        they were made comparable.
    percentile
        Percentile of the map that is drawn at full strength, and its complement at none.
    concepts, crops
        Where a condition shows concepts: how many of an image, and crops of other images for each. The source's numbers
        are unknown.

    Raises
    ------
    LimenError
        If the run has too few images of a kind, no pair of classes fits the scenario, or the options contradict each other.

    References
    ----------
    Colin, Fel, Cadene, Serre: What I Cannot Predict, I Do Not Understand, arXiv:2112.04417; concepts: Fel et al., CRAFT,
    arXiv:2211.10154.
    """
    _check(material, train=train, catch=catch, lists=lists)
    options = {"scenario": scenario, "classes": classes, "bias_gap": bias_gap, "expert_accuracy": expert_accuracy}
    blocks = plan(sessions, train, test, wrong_share)
    chosen, pool = choose_images(material, blocks, options)
    region = region_of(material, region, scenario=scenario)
    pool |= {"region": region} if region else {}
    album = Album()
    labels = labels_of(material.study, {"control": control})
    look = Look(size, show, normalisation, percentile, concepts, crops)
    shown = draw_study(material, labels, pd.concat(chosen.values()), album, look, region)
    machine = practice_machine(album, practice, size, material.study.seed)
    answered = {item.item_id: item.predicted for item in shown.items.values()}
    ids = {kind: list(table["image_id"]) for kind, table in chosen.items()}
    script = Script(blocks, ids, answered, lists, catch, material.study.seed)
    read = shown_classes(pool["classes"], answers)
    writer = Writer(material.study, script, shown, machine, read, lockout_ms)
    cells = cells_of(material.study, lists)
    rules = (
        f"Scenario '{scenario}': {RULES[scenario].format(**options)}",
        *_rules(blocks, wrong_share, lists),
        *_further_rules(answers == "letters", region, concept_conditions(material, labels), concepts, crops),
    )
    return Drawn(
        pictures=album.pictures,
        trials=[row for cell in cells for row in writer.trials(cell)],
        cells=cells,
        items=[*shown.items.values(), *machine.items],
        pool=pool,
        rules=rules,
        conditions={
            condition: {"explanation": label, "artifact": artifact_of(material, label)}
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


def _further_rules(
    letters: bool, region: str | None, conditions: list[str], concepts: int, crops: int
) -> tuple[str, ...]:
    found = []
    if letters:
        found.append("The classes are called A and B: their names are not shown.")
    if region:
        found.append(
            f"region_mass is the share of an explanation's strength on the region '{region}', less the region's share of the "
            "picture, averaged over the training examples in reach; 0 where no explanation is shown."
        )
    if conditions:
        found.append(
            f"{', '.join(conditions)}: the {concepts} concepts that weigh most in the image's answer, each with its map and "
            f"{crops} crops of other images that hold it most; no crop is cut from an image of the study."
        )
    return tuple(found)
