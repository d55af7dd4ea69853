"""The plan: one YAML file that says which explanations of which network are scored by which metrics."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from .api import needs_k
from .config import Frozen, load_config
from .registry import (
    ATTRIBUTIONS,
    DICTIONARIES,
    METRICS,
    VISUALIZATIONS,
    LimenError,
    MetricCard,
    Registry,
    resolve_options,
    unknown,
)

Entry = str | dict[str, dict[str, Any]]


def one_or_many(value: Any) -> Any:
    """Accept a single name or number where a list of them is due."""
    return (value,) if isinstance(value, str | int) else value


class ImagesSpec(Frozen):
    """Which pictures: a name the zoo knows, a split, and how many (drawn balanced, with a seed)."""

    set: str
    split: str = "test"
    n: int | None = Field(default=None, ge=1)
    seed: int = 0
    options: dict[str, Any] = Field(default_factory=dict)


class OcclusionsSpec(Frozen):
    """Activations on occluded pictures: a grey square at places all over the pictures that each atom favours most."""

    share: float = Field(default=0.4, gt=0, lt=1)
    """Side of the square, as a share of the picture's shorter side."""
    grid: int = Field(default=5, ge=2, le=32)
    """The square's places: one in each of grid x grid cells, drawn in it by the plan's seed, anew for each picture."""
    pictures: int = Field(default=12, ge=1)
    """Pictures of each atom: those that activate it most strongly, copies of one picture counted once."""
    grey: int = Field(default=128, ge=0, le=255)
    """Level of the square."""


class ConceptsSpec(Frozen):
    """Dictionaries to fit at some layers of a network, on one image set; lists multiply into cells."""

    images: ImagesSpec
    network: tuple[str, ...] = ()
    """The plan's networks, where none is given."""
    layers: tuple[str, ...] = Field(min_length=1)
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Atoms of each dictionary; an entry of `dictionaries` may give its own as the option `k`."""
    dictionaries: tuple[Entry, ...] = Field(min_length=1)
    metrics: tuple[Entry, ...] = ()
    attributions: tuple[Entry, ...] = ()
    """Estimators of how much each concept matters to the answer, of the first fit; the page shows the first of them."""
    attribution_metrics: tuple[Entry, ...] = ()
    """Metrics of maps, asked of that importance: concepts are removed in place of pixels. A table calls them C-NAME."""
    positions: bool = False
    """Fit on every position of the layer, rather than on its mean over positions."""
    seeds: int = Field(default=3, ge=2)
    """Replicates of each dictionary: each has its own seed and its own bootstrap of the images."""
    features: bool = False
    """Keep each atom's strongest activation on every picture of both splits: what studies choose units and references by."""
    occlusions: OcclusionsSpec | None = None
    """Keep activations on occluded copies of each atom's favourite pictures; asks for `features`."""
    visualizations: tuple[Entry, ...] = ()
    """Feature visualisations of each first fit."""
    visualized: int | None = Field(default=None, ge=1)
    """How many atoms of each dictionary are visualised, drawn by the plan's seed; all where none is given."""
    visualization_seeds: int = Field(default=1, ge=1)
    """Pictures of each atom, by each visualisation."""
    crops: int = Field(default=6, ge=0)
    """Top crops kept for each atom, for people to look at."""
    untrained: bool = False
    """Do all of it once more on the same networks with weights drawn anew: what a metric gives to no knowledge."""
    evaluator: str | None = None
    """Another network, whose view of the images monosemanticity is judged by."""

    _text_is_one = field_validator("network", "k", mode="before")(one_or_many)


class CraftSpec(Frozen):
    """Concepts of each class that the network answers, found on the plan's own pictures (`bench.craft`)."""

    k: int = Field(default=10, ge=2)
    """Concepts of each class."""
    layer: str | None = None
    """A layer that everything passes through; the network's own choice where none is given."""
    crop: int | None = Field(default=None, ge=1)
    """Side of a crop in pixels of the network's input; 2/7 of its shorter side where none is given."""
    stride: float = Field(default=0.8, gt=0, le=1)
    """Step between crops, in sides of a crop."""
    method: str = "nmf"
    """A registered dictionary."""
    samples: int = Field(default=64, ge=2)
    """Rows of the Sobol design, where importance has no closed form."""


class Plan(Frozen):
    """One YAML file: which explanations of which network are scored by which metrics; lists multiply into cells."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    seed: int = 0
    network: tuple[str, ...] = Field(min_length=1)
    images: ImagesSpec | None = None
    """What the attributions explain; a plan of concepts alone needs none."""
    space: str = "pixels"
    """Coordinates that receive the credit, with options after colons: pixels, pixels:blur, wavelets:haar:3."""
    attributions: tuple[Entry, ...] = ()
    explained_classes: int = Field(default=1, ge=1, le=20)
    """How many classes of each picture are explained; above 1 also `class_explanations`: the top ones and the truth."""
    metrics: tuple[Entry, ...] = ()
    null_draws: int = Field(default=5, ge=1)
    craft: CraftSpec | None = None
    """Concept explanations of the explained pictures, for studies to show: top concepts with maps and crops."""
    concepts: ConceptsSpec | None = None

    _text_is_one = field_validator("network", mode="before")(one_or_many)

    @property
    def concept_networks(self) -> tuple[str, ...]:
        """The networks whose activations the dictionaries are fitted to."""
        return (self.concepts.network or self.network) if self.concepts else ()


@dataclass(frozen=True)
class Method:
    """A registered function with its options filled in; `label` names it in a run: with its own options, if its name recurs."""

    name: str
    options: Mapping[str, Any]
    label: str
    version: int
    told: tuple[str, ...] = ()
    """The options that differ from the defaults, as texts."""
    k: int | None = None
    """Atoms of a dictionary; None where the layer decides."""

    @property
    def changed(self) -> str:
        """The options that differ from the defaults, as one text."""
        return ", ".join(self.told)

    @property
    def identity(self) -> dict[str, Any]:
        return {"method": self.name, "options": dict(self.options), "version": self.version}


def load_plan(path: str | Path) -> Plan:
    """Read a plan and check every name and option in it before any work starts.

    Raises
    ------
    LimenError
        One sentence: file, key path, what was given, what is allowed, the nearest name.
    """
    from . import spaces

    plan = load_config(path, Plan)
    try:
        spaces.make(plan.space)
    except LimenError as error:
        raise LimenError(f"{path}, key 'space', {error}") from None
    if not plan.attributions and (plan.metrics or not plan.concepts):
        raise LimenError(f"{path}, key 'attributions': nothing was given; allowed is none only in a plan of concepts.")
    if plan.attributions and plan.images is None:
        raise LimenError(f"{path}, key 'images': nothing was given; the attributions need pictures to explain.")
    if plan.craft and not plan.attributions:
        raise LimenError(
            f"{path}, key 'craft': given in a plan without attributions, allowed is one that has pictures."
        )
    if plan.craft and plan.craft.method not in DICTIONARIES.names():
        raise unknown(f"{path}, key 'craft.method'", plan.craft.method, DICTIONARIES.names())
    expand(plan.attributions, ATTRIBUTIONS, f"{path}, key 'attributions'")
    expand_metrics(plan.metrics, "maps", f"{path}, key 'metrics'")
    if plan.concepts:
        _check_concepts(plan.concepts, f"{path}, key 'concepts")
    return plan


def _check_concepts(spec: ConceptsSpec, where: str) -> None:
    expand_dictionaries(spec, f"{where}.dictionaries'")
    for method in expand(spec.visualizations, VISUALIZATIONS, f"{where}.visualizations'"):
        if "seeds" in inspect.signature(VISUALIZATIONS.load(method.name)).parameters:
            raise LimenError(
                f"{where}.visualizations': '{method.name}' begins with a picture of its own; allowed are those that "
                "begin with noise."
            )
    expand_metrics(spec.metrics, "dictionary", f"{where}.metrics'")
    if spec.attribution_metrics and not spec.attributions:
        raise LimenError(
            f"{where}.attributions': nothing was given; the attribution_metrics need one or more to score."
        )
    for key, registry, methods in (
        ("attributions", ATTRIBUTIONS, expand(spec.attributions, ATTRIBUTIONS, f"{where}.attributions'")),
        (
            "attribution_metrics",
            METRICS,
            expand_metrics(spec.attribution_metrics, "maps", f"{where}.attribution_metrics'"),
        ),
    ):
        for method in methods:
            if not _serves_concepts(registry, method.name):
                fitting = [name for name in registry.names() if _serves_concepts(registry, name)]
                raise LimenError(
                    f"{where}.{key}': '{method.name}' knows pixels alone; allowed are those that ask for a space: "
                    f"{', '.join(fitting)}."
                )


def _serves_concepts(registry: Registry, name: str) -> bool:
    asked = inspect.signature(registry.load(name)).parameters
    of = getattr(registry.card(name), "of", "maps")
    return "space" in asked and "regions" not in asked and "folds" not in asked and of == "maps"


def expand(entries: Iterable[Entry], registry: Registry, where: str) -> list[Method]:
    """Turn a plan's entries into methods; an option given as a list, where one value is due, multiplies."""
    found = [
        _method(name, function, choice, spot)
        for name, function, given, spot in _named(entries, registry, where)
        for choice in _choices(function, given)
    ]
    return _labelled(found, where)


def expand_dictionaries(spec: ConceptsSpec, where: str = "dictionaries") -> list[Method]:
    """Turn the entries of `dictionaries` into methods with their number of atoms, one for each `k` asked for."""
    found = []
    for name, function, given, spot in _named(spec.dictionaries, DICTIONARIES, where):
        for choice in _choices(function, given):
            if not needs_k(name):
                found.append(_method(name, function, choice, spot))
                continue
            own = "k" in choice
            for k in (choice.pop("k"),) if own else spec.k:
                if not isinstance(k, int) or isinstance(k, bool) or k < 1:
                    raise LimenError(f"{spot}, option 'k': given {k!r}, allowed is a whole number of 1 or more.")
                told = f"k={k}" if own or len(spec.k) > 1 else ""
                found.append(replace(_method(name, function, choice, spot, told), k=k))
    return _labelled(found, where)


def _named(
    entries: Iterable[Entry], registry: Registry, where: str
) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any], str]]:
    """Yield each entry's name, function, options as given, and its place for errors."""
    for position, entry in enumerate(entries):
        spot = f"{where}[{position}]"
        if isinstance(entry, str):
            name, given = entry, dict[str, Any]()
        elif len(entry) == 1:
            ((name, given),) = entry.items()
        else:
            raise LimenError(f"{spot}: given {sorted(entry)}, allowed is one name, or one name with its options.")
        try:
            function = registry.load(name)
        except LookupError as error:
            raise LimenError(f"{spot}, {error}") from None
        yield name, function, dict(given or {}), f"{spot}, {name}"


def _labelled(methods: Sequence[Method], where: str) -> list[Method]:
    """Call a method by its name and, where the name recurs, by the options that not all of that name share."""
    for method in methods:
        twins = [one for one in methods if (one.name, one.changed) == (method.name, method.changed)]
        if len(twins) > 1:
            raise LimenError(f"{where}: '{method.label}' is listed twice; each entry must differ in name or options.")
    found = []
    for method in methods:
        same = [set(one.told) for one in methods if one.name == method.name]
        own = [part for part in method.told if not all(part in parts for parts in same)]
        found.append(replace(method, label=f"{method.name} ({', '.join(own)})" if own else method.name))
    return found


def _choices(function: Callable[..., Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parameters = inspect.signature(function).parameters
    many = {
        name: value
        for name, value in given.items()
        if isinstance(value, list) and name in parameters and "tuple" not in str(parameters[name].annotation)
    }
    for combination in itertools.product(*many.values()):
        yield {**given, **dict(zip(many, combination, strict=True))}


def _method(name: str, function: Callable[..., Any], given: Mapping[str, Any], where: str, told: str = "") -> Method:
    options = resolve_options(function, given, where)
    defaults = {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()}
    shown = {key: options.get(key, given[key]) for key in sorted(given)}
    parts = [f"{key}={value}" for key, value in shown.items() if value != defaults.get(key)]
    all_told = tuple([told, *parts] if told else parts)
    version = function.card.version  # type: ignore[attr-defined]
    return Method(name, options, f"{name} ({', '.join(all_told)})" if all_told else name, version, all_told)


def expand_metrics(entries: Iterable[Entry], of: str, where: str) -> list[Method]:
    """Expand metric entries and refuse those `of` something else ('maps' or 'dictionary')."""
    metrics = expand(entries, METRICS, where)
    for metric in metrics:
        card = METRICS.card(metric.name)
        assert isinstance(card, MetricCard)
        if card.of != of:
            fitting = [name for name in METRICS.names() if getattr(METRICS.card(name), "of", None) == of]
            raise LimenError(
                f"{where}: '{metric.name}' is a metric of {card.of}; allowed here are metrics of {of}: "
                f"{', '.join(fitting)}."
            )
    return metrics


def concept_label(metric: Method, attribution: Method, attributions: int) -> str:
    """Return what a table calls a metric of maps that was asked of an importance of concepts."""
    return f"C-{metric.label}" + (f" by {attribution.label}" if attributions > 1 else "")


def registered_name(label: str) -> str:
    """Return the registered name behind a metric's label in a table."""
    return label.removeprefix("C-").split(" by ")[0].split(" (")[0]


def untrained(network: str) -> str:
    """Return what a table calls a network whose weights were drawn anew."""
    return f"{network} (untrained)"
