"""Feature visualisation: do natural or made references help people to tell which picture activates a unit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from bench.registry import LimenError

from ..protocol import POOL, Drawn, Material, design
from ..records import StudyFile
from ._references import ALL, Gallery, Screen, Writer, check_conditions, feature_roles, layers_of, read_codes
from ._visualization_audit import audit
from ._visualization_draw import KINDS, MADE, Kind, Layout, Scheme, Units, choose, references_in, strong_in
from ._visualization_occlusion import Occlusions
from ._visualization_script import Plan, Script, items
from ._visualization_texts import texts

Count = Annotated[int, Field(ge=1, le=200)]
CONDITIONS = ("natural", "synthetic", "none")
EXAMPLE = {
    "title": "Which pictures does a part of the machine favour?",
    "run": "protocols",
    "conditions": list(CONDITIONS),
    "checks": {
        "catch_accuracy": 0.6,
        "practice_attempts": 5,
        "quiz_attempts": 3,
        "min_instruction_seconds": 15,
        "min_total_seconds": 40,
        "max_total_seconds": 2500,
        "min_choices_per_side": 1,
    },
    "bots": {"accuracy": {"natural": [0.85], "synthetic": [0.75], "none": [0.6]}},
    "minutes": 8,
    "rule": "natural, synthetic, mixed and blurred are kinds of references,\n"
    "# none shows none. Or 'all' alone: everyone sees the kinds of design.kinds, one block each.",
}


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the activations at each layer, the pictures, and made pictures where they are shown."""
    basis = options["basis"]
    layers = layers_of(options["layers"], offered, (basis,))
    if not layers:
        raise LimenError(
            f"study '{study.study}', run '{study.run}': no layer has features of '{basis}'; give the plan "
            f"`concepts.dictionaries` with it and `features: true`."
        )
    made = [f"visualizations/{basis} @ {layer}/{label}" for layer in layers for label in _made(study, options)]
    covered = [f"occlusions/{basis} @ {layer}" for layer in layers] if options["task"] == "occlusion" else []
    if covered and not set(covered) <= set(offered):
        raise LimenError(
            f"study '{study.study}', run '{study.run}': it holds no activations of '{basis}' on occluded pictures at every "
            "layer; give the plan `concepts.occlusions: {}`."
        )
    return [POOL, *feature_roles(offered, basis, layers), *made, *covered]


def _made(study: StudyFile, options: Mapping[str, Any]) -> list[str]:
    """Return the labels of the made pictures that a study shows."""
    if not set(kinds_of(study, options["kinds"])) & set(MADE):
        return []
    weak = [options["synthetic_min"]] if any(scheme.startswith("min") for scheme in options["schemes"]) else []
    return [options["synthetic"], *weak]


def kinds_of(study: StudyFile, kinds: Sequence[Kind]) -> tuple[str, ...]:
    """Return the kinds of references that occur in a study."""
    return tuple(kinds) if study.conditions == (ALL,) else study.conditions


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse conditions that are no kinds of references, and options that contradict each other."""
    check_conditions(study, KINDS, where)
    if options["task"] == "occlusion" and any(scheme.startswith("min") for scheme in options["schemes"]):
        raise LimenError(
            f"{where}, key 'design.schemes': given {', '.join(options['schemes'])} with task 'occlusion', which shows favourite "
            "pictures alone; allowed are max-1, max-4 and max-9."
        )
    if options["task"] == "occlusion" and options["hardness"] != 100:
        raise LimenError(
            f"{where}, key 'design.hardness': given {options['hardness']:g} with task 'occlusion', where it says nothing; the "
            "difference between two squares is 'design.effect'."
        )
    if study.quota < options["lists"]:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, allowed is at least lists = {options['lists']}, so that each "
            "list has a participant."
        )
    for name in ("kinds", "schemes"):
        if not options[name] or len(set(options[name])) != len(options[name]):
            raise LimenError(
                f"{where}, key 'design.{name}': given {list(options[name])}; allowed are one or more, each once."
            )
    if "mixed" in kinds_of(study, options["kinds"]) and min(strong_in(s) for s in options["schemes"]) < 2:
        raise LimenError(
            f"{where}, key 'design.schemes': given {', '.join(options['schemes'])} with mixed references, which need two "
            "pictures or more in a grid."
        )
    if study.conditions == (ALL,) and len(options["kinds"]) > options["batches"]:
        raise LimenError(
            f"{where}, key 'design.batches': given {options['batches']}, allowed is at least {len(options['kinds'])}, the "
            "number of kinds: a unit is asked about once with each kind, with other pictures each time."
        )  # fmt: skip


@design(
    version=1,
    citation="arXiv:2307.05471",
    trial_type="forced_choice",
    question=(
        "People who see references of a unit tell better which new picture activates it than people who see none, and "
        "natural references help more than made ones.",
        "the picture that activates the unit more",
        0.5,
    ),
    factors=(("condition",), ("reference", "scheme", "layer"), ("participant", "item")),
    analysis=("crossed", "correct ~ reference + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def visualization(
    material: Material,
    *,
    task: Literal["reference", "occlusion"] = "reference",
    basis: str = "neurons",
    layers: tuple[str, ...] = (),
    kinds: tuple[Kind, ...] = ("natural", "synthetic"),
    schemes: tuple[Scheme, ...] = ("min-max-9",),
    synthetic: str = "maco",
    synthetic_min: str = "maco (minimise=True)",
    blur: Annotated[float, Field(gt=0, le=0.5)] = 0.05,
    units: Count = 12,
    per_list: Count = 12,
    lists: Count = 4,
    batches: Annotated[int, Field(ge=1, le=50)] = 4,
    hardness: Annotated[float, Field(gt=50, le=100)] = 100.0,
    effect: Annotated[float, Field(gt=0, le=1)] = 0.1,
    strata: Annotated[int, Field(ge=1, le=10)] = 1,
    practice: Annotated[int, Field(ge=0, le=16)] = 4,
    catch: Annotated[int, Field(ge=0, le=16)] = 3,
    repeats: Annotated[int, Field(ge=0, le=50)] = 0,
    feedback: bool = False,
    question: str = "",
    labels: tuple[str, str] = ("Strongly activating", "Weakly activating"),
    base_label: str = "A favourite of the machine",
    arrangement: Literal["stacked", "side_by_side"] = "stacked",
    confidence: Literal[0, 2, 3, 4, 5, 6, 7] = 3,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 0,
    size: Annotated[int, Field(ge=32, le=1024)] = 160,
) -> Drawn:
    """Ask which of two pictures a unit favours, beside natural, made, mixed, blurred or no references.

    Kinds of references differ between people (Zimmermann 2021, IMI) where they are the conditions, or within people
    (Borowski 2021) where the one condition is 'all'. A study stands on one network; networks are compared by studies that
    exclude each other's participants. The papers do not tell Borowski's threshold of exclusion, how batches were drawn
    within buckets, or which made pictures stood for a unit: these are checks and options here. Zimmermann's blurred
    references keep the place that a unit answers to sharp; a run does not keep that place for every picture, so ours are
    blurred as a whole. Of the occlusion task the paper does not tell the grid of places, the square's grey, or how catch
    trials were made: the first two are options of the plan, catch trials show the favourite picture uncovered, and `effect`
    keeps pairs away whose order would be noise.

    Parameters
    ----------
    material
        The bench run.
    task
        'reference', which of two new pictures a unit favours. 'occlusion', which of two copies of one favourite picture, each
        with a grey square elsewhere, it still favours; the plan must have `concepts.occlusions`.
    basis
        Label in the run of the basis whose atoms are the units: its neurons, or a dictionary.
    layers
        Layers of the units; by default all that have features of the basis.
    kinds
        Kinds of references that everyone sees where the condition is 'all', each in a block of its own.
    schemes
        Grids: strong references only ('max-1', 'max-4', 'max-9') or weak ones too ('min-max-1' ...); units take turns.
    synthetic, synthetic_min
        Labels in the run of pictures made to activate a unit, and made not to.
    blur
        Standard deviation of the blur of blurred references, as a share of the picture's width.
    units
        Units of each layer.
    per_list, lists
        Units of each layer that one participant sees, and counterbalanced lists, to which units are dealt round robin.
    batches
        Batches of extreme pictures of each unit, beside batch 0 of practice and catch trials.
    hardness
        Percentile of the strong query, the weak one standing at 100 less it; 100 takes the most extreme picture of each batch.
    effect
        In the occlusion task: by how much two squares must differ, as a share of the activation on the picture as it is.
    strata
        Groups of rising complexity K(z) that units are drawn from in turn, where the run measured it; 1 = none.
    practice
        Questions with feedback.
    catch
        Questions in each block one query of which stands among the references; there are none where there are no references.
    repeats
        Questions of the study asked again at the end, with sides exchanged.
    feedback
        Whether the right answer is told after each question of the study, catch trials excepted.
    question
        Heading of each trial; '' for the interface's own.
    labels
        Above the strongly and the weakly activating references.
    base_label
        Above the favourite picture of the occlusion task.
    arrangement
        The two queries 'side_by_side' or 'stacked'.
    confidence
        Steps of confidence given with each choice; 0 asks for none.
    lockout_ms
        No answer is taken before this time.
    size
        Width of each picture in pixels.

    Raises
    ------
    LimenError
        If the run has too few units or pictures, or the options contradict each other.

    References
    ----------
    Borowski et al. 2021, arXiv:2010.12606; Zimmermann et al. 2021, arXiv:2106.12447; Zimmermann, Klein, Brendel 2023,
    arXiv:2307.05471.
    """
    study = material.study
    shown = kinds_of(study, kinds)
    layout = Layout(references_in(schemes), batches, hardness, study.seed)
    found: dict[str, Units] = {}
    for layer in layers_of(layers, material.artifacts, (basis,)):
        codes = read_codes(material, basis, layer)
        made = [
            material.artifacts.get(f"visualizations/{basis} @ {layer}/{name}") for name in (synthetic, synthetic_min)
        ]
        covered = material.artifacts.get(f"occlusions/{basis} @ {layer}")
        occlusions = None if covered is None else Occlusions.read(codes, covered, effect, batches + 1, study.seed)
        found[layer] = choose(study, codes, made, layout, (units, strata), practice + catch, occlusions)
    gallery = Gallery(material, size)
    held = items(found, gallery, layout, blur if "blurred" in shown else None)
    plan = Plan(tuple(kinds), tuple(schemes), per_list, lists, practice, catch, repeats, feedback, labels, base_label)
    screen = Screen(question=question, arrangement=arrangement, confidence=confidence, lockout_ms=lockout_ms)
    cells, trials = Script(study, Writer(study, screen), held, plan).write()
    return Drawn(
        pictures=gallery.album.pictures,
        trials=trials,
        cells=cells,
        items=held.rows,
        pool={"pictures": len(material.pool.rows["sha256"].unique()), "kinds": [one.pool for one in found.values()]},
        rules=_rules(layout, plan, units, shown, blur, strata, effect if task == "occlusion" else None),
        conditions={
            name: {"references": list(shown) if name == ALL else [name], "basis": basis} for name in study.conditions
        },
    )


def _rules(
    layout: Layout, plan: Plan, units: int, kinds: Sequence[str], blur: float, strata: int, effect: float | None
) -> tuple[str, ...]:
    refs, batches = layout.references, layout.batches
    query = (
        "the most extreme picture of the batch at each end is the query, the others are the references"
        if layout.hardness == 100
        else f"queries are the pictures nearest to the percentiles {layout.hardness:g} and {100 - layout.hardness:g} outside all "
        "batches"
    )
    asked = (
        "In a catch trial the expected picture is one of the strong references, about a unit of no main trial."
        if effect is None
        else "In a catch trial the favourite picture itself, uncovered, is offered beside the copy with the strongest effect, about a "
        "unit of no main trial."
    )
    if effect is not None:
        query = (
            "the queries are not taken from them but are two copies of one more favourite picture, the strongest ones in a drawn "
            f"order, on which two squares differ by {effect:g} of the activation or more: the square after which it is lowest "
            "against the one after which it is highest, the latter expected; no favourite stands among the references"
        )
    said = {
        "natural": "Natural references are pictures of the run's own set.",
        "synthetic": "Synthetic references are the first pictures that the run made for the unit, the same in each batch.",
        "mixed": "Of mixed references half (rounded up) are natural ones, the others synthetic ones, in a drawn order.",
        "blurred": f"Blurred references are natural ones, blurred as a whole (standard deviation {blur:.0%} of the width).",
        "none": "Without references there are no catch trials.",
    }
    return (
        "A unit's activation on a picture is its largest one over positions; copies of one picture count once; ties are broken "
        "by the seed.",
        f"{units} units of each layer are drawn at random"
        f"{f' in turn from {strata} groups of rising complexity K(z) where the run measured it' if strata > 1 else ''} among those "
        "that are alive: every picture of their strong end activates them above 0 and more than every picture of their weak end"
        f"{'; only units that the run made pictures for count, all of them different' if set(kinds) & set(MADE) else ''}.",
        f"The {(batches + 1) * (refs + 1)} most extreme pictures at each end are cut into {refs + 1} buckets of rising rank; each of "
        f"{batches + 1} batches takes one of each bucket; {query}; batch 0 serves practice and catch trials only.",
        *(said[kind] for kind in kinds),
        "Units are dealt to lists round robin; grids take turns over units, lists and batches.",
        "The expected picture stands first equally often in each block, within one trial.",
        asked,
        *(["Repeated questions show the same pictures with sides exchanged."] if plan.repeats else []),
    )
