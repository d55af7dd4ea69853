"""The shape of a study for a simulation: who meets which items in which condition, from its file or its frozen set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bench.registry import LimenError
from bench.store import Artifact
from stimuli.protocol import DesignCard
from stimuli.records import StudyFile
from stimuli.rules.catalogue import ELEMENTARY
from stimuli.study import Resolved

Place = Literal["item", "answer"]
Analysis = Literal["crossed", "utility", "agreement", "preference", "oddone"]
ANALYSES: tuple[Analysis, ...] = ("crossed", "utility", "agreement", "preference", "oddone")
"""Analyses of cards that are simulated."""
INSTEAD = {
    "clickme": " It has no hypothesis with a p: plan the players of each image by the reliability of their pooled map, which "
    "--reliability computes.",
    "drawing": " It compares drawings with a null that only drawings have: plan by a pilot, whose report gives the interval of "
    "each recognisability and its n.",
}
"""What to plan by where there is no test to simulate."""
UNNAMED = "all"
"""The one layer of a study whose file names none: the run decides how many there are."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """A further factor of the model's formula.

    `place` is 'item' where each item has one level (its layer), 'answer' where the levels follow one another in a
    person's answers (sessions).
    """

    name: str
    levels: tuple[str, ...]
    place: Place


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a simulated study looks like, apart from its size.

    Attributes
    ----------
    factor, levels : the factor of the primary contrast, and its levels
    within : each participant meets all levels
    crossed : an item occurs at every level; otherwise each level has items of its own
    items : the pool, of each level where levels have their own
    trials : test trials of one person
    block : answers in a row about one item, where a person learns it (a rule); 0 where there are no blocks
    chance : accuracy of guessing
    formula : of the mixed model
    source : where all this was read
    """

    protocol: str
    analysis: Analysis
    factor: str
    levels: tuple[str, ...]
    within: bool
    crossed: bool
    items: int
    trials: int
    others: tuple[Other, ...] = ()
    block: int = 0
    chance: float = 0.5
    formula: str = ""
    source: str = "study file"

    @property
    def groups(self) -> int:
        """Groups of participants."""
        return 1 if self.within else len(self.levels)


def shape_of(resolved: Resolved, artifact: Artifact | None = None) -> Shape:
    """Read the shape of a study, from its frozen stimulus set where there is one, else from its file.

    Raises
    ------
    LimenError
        If the protocol's analysis is not simulated, or its shape cannot be told from the file alone.
    """
    study, card = resolved.study, resolved.design.card
    if card.analysis not in ANALYSES:
        raise LimenError(
            f"study '{study.study}', power: the analysis '{card.analysis}' of protocol '{study.protocol}' is not simulated; "
            f"allowed are protocols analysed by {', '.join(ANALYSES)}.{INSTEAD.get(card.analysis, '')}"
        )
    known = _KNOWN.get(study.protocol)
    told = None if known is None else known(study, resolved.options)
    if artifact is not None and card.analysis not in ("preference", "oddone"):
        return _of_tables(study, card, artifact, told)
    if told is None:
        raise LimenError(
            f"study '{study.study}', power: the file of protocol '{study.protocol}' does not tell who meets which items; "
            "build its stimulus set first (`limen stimuli build`) and name the store with --store."
        )
    chance = 0.5 if card.chance is None else card.chance
    analysis: Any = card.analysis
    one = any(other.levels == (UNNAMED,) for other in told.others) or resolved.options.get("layers") == []
    source = "study file; one layer, since the file names none" if one else "study file"
    return Shape(
        protocol=study.protocol, analysis=analysis, chance=chance, formula=card.formula, source=source, **vars(told)
    )  # fmt: skip


@dataclass(frozen=True)
class _Told:
    factor: str
    levels: tuple[str, ...]
    within: bool
    crossed: bool
    items: int
    trials: int
    others: tuple[Other, ...] = ()
    block: int = 0


def _factor(card: DesignCard) -> str:
    return (*card.between, *card.within)[0]


def _utility(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    sessions, train, test = options["sessions"], options["train"], options["test"]
    turns = (Other(name="session", levels=tuple(str(k + 1) for k in range(sessions)), place="answer"),)
    return _Told("condition", study.conditions, False, True, sessions * (train + test), sessions * test, turns)


def _layers(options: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(options["layers"]) or (UNNAMED,)


def _basis(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    layers = _layers(options)
    kinds = len(options["references"]) if study.conditions == ("all",) else 1
    others = (Other(name="layer", levels=layers, place="item"),)
    seen, pool = options["per_list"] * len(layers) * kinds * 2, options["pairs"] * len(layers)
    return _Told("basis", ("neuron", "dictionary"), True, True, pool, seen, others)


def _visualization(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    layers, everyone = _layers(options), study.conditions == ("all",)
    levels = tuple(options["kinds"]) if everyone else study.conditions
    seen = options["per_list"] * len(layers) * (len(levels) if everyone else 1)
    return _Told("reference", levels, everyone, True, options["units"] * len(layers), seen)


def _concepts(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    return _Told("condition", study.conditions, False, False, options["trials"], options["trials"])


def _machine(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    sides = (Other(name="machine", levels=("right", "wrong"), place="item"),)
    pool = options["trials"] * options["lists"]
    return _Told("condition", study.conditions, False, True, pool, options["trials"], sides)


def _preference(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    methods = tuple(options["methods"])
    seen = len(methods) * (len(methods) - 1) // 2 * options["repeats"]
    return _Told("right", methods, True, True, seen * max(options["lists"] // 2, 1), seen)


def _oddone(study: StudyFile, options: Mapping[str, Any]) -> _Told:
    given = options["rules"]
    simple = sum(name in ELEMENTARY for name in given) if given is not None else len(ELEMENTARY)
    composed = options["composed"] if given is None else len(given) - simple
    if min(simple, composed) < 2 or options["sessions"] < 2:
        raise LimenError(
            f"study '{study.study}', power: it has {simple} elementary and {composed} composed rules in {options['sessions']} "
            "blocks a person; the contrast of composition needs two rules or more of each kind, and a block of each."
        )
    trials = options["sessions"] * options["problems"]
    levels = ("elementary", "composed")
    return _Told("composition", levels, True, False, min(simple, composed), trials, block=options["problems"])


_KNOWN: dict[str, Callable[[StudyFile, Mapping[str, Any]], _Told]] = {
    "utility": _utility,
    "basis": _basis,
    "visualization": _visualization,
    "intruder": _concepts,
    "subcluster": _concepts,
    "agreement": _machine,
    "distinction": _machine,
    "preference": _preference,
    "oddone": _oddone,
}
"""How the files of our own protocols tell a shape before anything is built; any other protocol's is read off its set."""


def _of_tables(study: StudyFile, card: DesignCard, artifact: Artifact, told: _Told | None) -> Shape:
    """Read the shape off the frozen trials: every relation is looked at, none assumed."""
    factor = _factor(card) if told is None else told.factor
    trials = _asked(artifact.rows("trials.parquet"))
    if factor not in trials.columns:
        raise LimenError(
            f"study '{study.study}', power: the frozen trials have no factor '{factor}'; there are "
            f"{', '.join(map(str, trials.columns))}."
        )
    trials = trials[trials[factor].notna()]
    present = [str(name) for name in pd.unique(trials[factor])]
    order = (*study.conditions, *(() if told is None else told.levels))
    levels = tuple(dict.fromkeys(name for name in order if name in present)) or tuple(sorted(present))
    per_item = trials.groupby("item_id")[factor].nunique()
    crossed = bool((per_item == len(levels)).mean() > 0.5)
    pool = trials["item_id"].nunique() if crossed else int(trials.groupby(factor)["item_id"].nunique().min())
    others = tuple(_other(trials, name) for name in _fixed(card, trials) if name != factor)
    analysis: Any = card.analysis
    return Shape(
        protocol=study.protocol, analysis=analysis, factor=factor, levels=levels,
        within=bool((trials.groupby("cell")[factor].nunique() == len(levels)).all()) and len(levels) > 1,
        crossed=crossed, items=pool, trials=round(trials.groupby("cell").size().mean()), others=others,
        chance=0.5 if card.chance is None else card.chance, formula=card.formula, source=f"stimulus set {artifact.key}",
    )  # fmt: skip


def _asked(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the test trials that have a right answer and are no catch trial or repetition; factors become columns."""
    answers = table["answer"].map(json.loads)
    keep = (table["phase"] == "test") & ~table["is_catch"].astype(bool)
    keep &= answers.map(lambda one: bool(one.get("expected")) and not one.get("repeat_of"))
    kept = table[keep]
    factors = pd.DataFrame([json.loads(one) for one in kept["factors"]], index=kept.index)
    factors = factors.drop(columns=[name for name in factors if name in kept.columns])
    return pd.concat([kept.drop(columns="factors"), factors], axis=1)


def _fixed(card: DesignCard, trials: pd.DataFrame) -> list[str]:
    from ..mixed_models.formula import parse

    parsed = parse(card.formula)
    groups = {name for part in parsed.random for name in part.factors}
    return [name for name in parsed.columns if name not in groups | {parsed.response} and name in trials.columns]


def _other(trials: pd.DataFrame, name: str) -> Other:
    per_item = trials.groupby("item_id")[name].nunique()
    levels = tuple(map(str, sorted(pd.unique(trials[name].dropna()))))
    return Other(name=name, levels=levels, place="item" if (per_item == 1).all() else "answer")
