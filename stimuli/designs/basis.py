"""Neurons against dictionaries: of which basis do people better recognise what its features respond to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field

from bench.registry import LimenError

from ..protocol import POOL, Drawn, Material, design
from ..records import StudyFile
from ._basis_audit import audit
from ._basis_draw import Chosen, Extra, choose, extras
from ._basis_pairs import DICTIONARY, KINDS, NEURON, Kind, Rule, Scale
from ._basis_script import Script, items
from ._basis_texts import texts
from ._references import ALL, Gallery, Screen, Writer, check_conditions, feature_roles, layers_of, read_codes

Count = Annotated[int, Field(ge=1, le=200)]
Window = tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]]
EXAMPLE = {
    "title": "What do the parts of a machine respond to?",
    "run": "protocols",
    "conditions": [ALL],
    "checks": {
        "catch_accuracy": 0.75,
        "practice_attempts": 3,
        "quiz_attempts": 3,
        "min_instruction_seconds": 15,
        "min_total_seconds": 60,
        "max_total_seconds": 2500,
        "min_choices_per_side": 5,
    },
    "bots": {"accuracy": {ALL: [0.75]}, "effects": {"basis": {DICTIONARY: 0.5}}},
    "minutes": 8,
    "rule": "'all': everyone sees all kinds of references in\n"
    "# design.references. Or name kinds that differ between people: free, matched, mixed.",
}


def needs(study: StudyFile, options: Mapping[str, Any], offered: Sequence[str]) -> list[str]:
    """Name the activations of both bases at each layer, complexities where they were measured, and the pictures."""
    bases = (options["neurons"], options["dictionary"])
    layers = layers_of(options["layers"], offered, bases)
    if not layers:
        raise LimenError(
            f"study '{study.study}', run '{study.run}': no layer has features of '{bases[0]}' and of '{bases[1]}'; give "
            "the plan `concepts.dictionaries` with both and `features: true`."
        )
    return [POOL, *(role for basis in bases for role in feature_roles(offered, basis, layers))]


def check(study: StudyFile, options: Mapping[str, Any], where: str) -> None:
    """Refuse conditions that are no kinds of references, and options that contradict each other."""
    check_conditions(study, KINDS, where)
    if study.quota < options["lists"]:
        raise LimenError(
            f"{where}, key 'quota': given {study.quota}, allowed is at least lists = {options['lists']}, so that each "
            "list has a participant."
        )
    if options["neurons"] == options["dictionary"]:
        raise LimenError(f"{where}, key 'design.dictionary': given '{options['dictionary']}' for both; name two bases.")
    (low, below), (above, high) = options["low"], options["high"]
    if not low < below <= above < high:
        raise LimenError(
            f"{where}, key 'design.high': given {above:g} to {high:g} with low {low:g} to {below:g}; allowed are rising "
            "percentiles, all of `high` above all of `low`."
        )
    kinds = options["references"]
    if not kinds or len(set(kinds)) != len(kinds):
        raise LimenError(f"{where}, key 'design.references': given {list(kinds)}; allowed are one or more, each once.")


@design(
    version=1,
    citation="arXiv:2411.03993",
    trial_type="forced_choice",
    question=(
        "People recognise what directions of a dictionary respond to better than what single neurons respond to, and "
        "more so in deeper layers.",
        "the picture that activates the feature more",
        0.5,
    ),
    factors=(("condition",), ("basis", "layer", "reference"), ("participant", "item")),
    analysis=("crossed", "correct ~ basis * layer + (1|participant) + (1|item)"),
    texts=texts,
    audit=audit,
    needs=needs,
    check=check,
    example=EXAMPLE,
)
def basis(
    material: Material,
    *,
    neurons: str = "neurons",
    dictionary: str = "nmf",
    layers: tuple[str, ...] = (),
    references: tuple[Kind, ...] = ("free",),
    pairs: Count = 8,
    per_list: Count = 8,
    lists: Count = 4,
    query_pairs: Annotated[int, Field(ge=1, le=20)] = 2,
    maximum: Annotated[int, Field(ge=1, le=16)] = 9,
    minimum: Annotated[int, Field(ge=0, le=16)] = 4,
    high: Window = (95.0, 100.0),
    low: Window = (0.0, 5.0),
    mixed_share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    match: Scale = "rank",
    strata: Annotated[int, Field(ge=1, le=10)] = 3,
    practice: Annotated[int, Field(ge=0, le=16)] = 4,
    catch: Annotated[int, Field(ge=0, le=16)] = 4,
    question: str = "",
    labels: tuple[str, str] = ("Strongly activating", "Weakly activating"),
    arrangement: Literal["stacked", "side_by_side"] = "side_by_side",
    confidence: Literal[0, 2, 3, 4, 5, 6, 7] = 0,
    lockout_ms: Annotated[int, Field(ge=0, le=10000)] = 0,
    size: Annotated[int, Field(ge=32, le=1024)] = 160,
) -> Drawn:
    """Ask which of two pictures activates a neuron or a direction, beside pictures that do.

    A study stands on one run, hence on one network; networks are compared by studies of one version of this protocol
    that exclude each other's participants. The paper does not tell its layout, question, keys, trials per person, layers,
    catch rules, the scale on which directions are compared, or how its semantically matched and mixed references were made: all are options here, and the three kinds
    of references are ours by the rules below.

    Parameters
    ----------
    material
        The bench run.
    neurons, dictionary
        Labels of the two bases in the run.
    layers
        Layers to compare; by default all that have features of both bases.
    references
        Kinds of references: 'free', the most activating pictures; 'matched', all pictures of a trial from one class, so that the
        class cannot tell the answer; 'mixed', part of the references taken from another feature.
    pairs
        Neurons of each layer, each with the direction that matches it.
    per_list, lists
        Pairs of each layer that one participant sees, and counterbalanced lists, to which pairs are dealt round robin.
    query_pairs
        Pairs of queries drawn for each feature; lists take turns.
    maximum, minimum
        Strongly and weakly activating references; 0 shows no weak ones.
    high, low
        Percentiles of the feature's activation between which the two queries are drawn, from and to.
    mixed_share
        Share of the references that another feature gives, where they are mixed; counts are rounded half up.
    match
        How a picture's most activated direction is found: by raw 'activation', as 'share' of each direction's highest one, or by the
        picture's 'rank' among all pictures. By raw activation a few directions of large scale match nearly all neurons.
    strata
        Groups of rising complexity K(z) that neurons are drawn from in turn, where the run measured it; 1 = none.
    practice
        Questions with feedback about features of their own.
    catch
        Questions about features of their own, one query of which stands among the references.
    question
        Heading of each trial; '' for the interface's own.
    labels
        Above the strongly and the weakly activating references.
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
        If the run has too few features or pictures, or the options contradict each other.

    References
    ----------
    Colin et al.: Local vs distributed representations: What is the right basis for interpretability?, arXiv:2411.03993.
    """
    study = material.study
    kinds = references if study.conditions == (ALL,) else cast(tuple[Kind, ...], study.conditions)
    rule = Rule(maximum, minimum, high, low, query_pairs, mixed_share, match, study.seed)
    found = {
        layer: {NEURON: read_codes(material, neurons, layer), DICTIONARY: read_codes(material, dictionary, layer)}
        for layer in layers_of(layers, material.artifacts, (neurons, dictionary))
    }
    classes = material.pool.rows.sort_values("index")["class_name"].to_numpy(dtype=str)
    chosen: dict[str, Chosen] = {}
    for layer, codes in found.items():
        chosen[layer] = choose(study, codes, layer, classes, kinds, rule, (pairs, strata))
    spare: list[Extra] = extras(study, found, chosen, rule, practice + catch)
    gallery = Gallery(material, size)
    screen = Screen(question=question, arrangement=arrangement, confidence=confidence, lockout_ms=lockout_ms)
    held = items(found, chosen, spare, practice, gallery)
    script = Script(study, Writer(study, screen), held, kinds, per_list, lists, practice, catch, labels)
    cells, trials = script.write()
    return Drawn(
        pictures=gallery.album.pictures,
        trials=trials,
        cells=cells,
        items=held.rows,
        pool={
            "pictures": len(np.unique(next(iter(found.values()))[NEURON].index)),
            "kinds": [one.pool for one in chosen.values()],
        },
        rules=_rules(rule, kinds, pairs, strata, any(c[NEURON].measured for c in found.values()), catch),
        conditions={name: {"references": list(kinds) if name == ALL else [name]} for name in study.conditions},
    )


_COMPARED = {
    "activation": "by raw activation",
    "share": "by activation as a share of each direction's highest one",
    "rank": "by the picture's rank among all pictures",
}


def _rules(rule: Rule, kinds: Sequence[str], pairs: int, strata: int, measured: bool, catch: int) -> tuple[str, ...]:
    said = {
        "free": "Free references are the most and the least activating pictures.",
        "matched": "Matched references and queries are all of the class that is most frequent among the neuron's or direction's "
        f"{rule.maximum} most activating pictures; ranks and percentiles are then taken within that class.",
        "mixed": f"Of mixed references {rule.mixed_share:.0%} (rounded half up) are those of another feature of the same basis and "
        "layer, drawn at random.",
    }
    groups = f" in turn from {strata} groups of rising complexity K(z)" if measured and strata > 1 else ""
    return (
        "A feature's activation on a picture is its largest one over positions; copies of one picture count once; ties are "
        "broken by the seed.",
        f"{pairs} neurons of each layer are drawn at random{groups} among those that are alive: their pictures can be told "
        "apart, every strong query activates them above 0 and more than every weak one.",
        f"The direction matched to a neuron is the one that is most often the most activated on the neuron's {rule.maximum} most "
        f"activating pictures, compared {_COMPARED[rule.scale]}; no direction is taken twice, and a neuron whose direction is taken or dead is passed over.",
        *(said[kind] for kind in kinds),
        f"Queries are drawn at random between the percentiles {rule.high[0]:g} and {rule.high[1]:g}, and {rule.low[0]:g} and "
        f"{rule.low[1]:g}, of the feature's activation, without its references.",
        f"{rule.draws} pairs of queries are drawn for each feature; lists take turns among them.",
        "Pairs are dealt to lists round robin; whoever sees a pair is asked about its neuron and its direction.",
        "The expected picture stands first equally often in each block, within one trial, also within each basis and layer.",
        f"Practice and {catch} catch trials are about features of no pair; in a catch trial the expected picture is one of the "
        "references.",
    )
