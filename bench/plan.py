"""The plan: one YAML file that says which explanations of which network are scored by which metrics."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from .config import Frozen, load_config
from .registry import ATTRIBUTIONS, DICTIONARIES, METRICS, LimenError, MetricCard, Registry, resolve_options

Entry = str | dict[str, dict[str, Any]]


def one_or_many(value: Any) -> Any:
    """Accept a single name where a list of names is due."""
    return (value,) if isinstance(value, str) else value


class ImagesSpec(Frozen):
    """Which pictures: a name the zoo knows, a split, and how many (drawn balanced, with a seed)."""

    set: str
    split: str = "test"
    n: int | None = Field(default=None, ge=1)
    seed: int = 0
    options: dict[str, Any] = Field(default_factory=dict)


class ConceptsSpec(Frozen):
    """Dictionaries to fit at some layers of a network, on one image set with concept labels."""

    images: ImagesSpec
    network: tuple[str, ...] = ()
    """The plan's networks, where none is given."""
    layers: tuple[str, ...] = Field(min_length=1)
    k: int = Field(ge=1)
    dictionaries: tuple[Entry, ...] = Field(min_length=1)
    metrics: tuple[Entry, ...] = ()
    seeds: int = Field(default=3, ge=2)
    """Replicates of each dictionary: each has its own seed and its own bootstrap of the activations."""
    crops: int = Field(default=6, ge=0)
    """Top crops kept for each atom, for people to look at."""

    _text_is_one = field_validator("network", mode="before")(one_or_many)


class Plan(Frozen):
    """One YAML file: which explanations of which network are scored by which metrics; lists multiply into cells."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    seed: int = 0
    network: tuple[str, ...] = Field(min_length=1)
    images: ImagesSpec
    space: str = "pixels"
    """Coordinates that receive the credit, with options after colons: pixels, pixels:blur, wavelets:haar:3."""
    attributions: tuple[Entry, ...] = Field(min_length=1)
    metrics: tuple[Entry, ...] = ()
    null_draws: int = Field(default=5, ge=1)
    concepts: ConceptsSpec | None = None

    _text_is_one = field_validator("network", mode="before")(one_or_many)

    @property
    def concept_networks(self) -> tuple[str, ...]:
        """The networks whose activations the dictionaries are fitted to."""
        return (self.concepts.network or self.network) if self.concepts else ()


@dataclass(frozen=True)
class Method:
    """A registered function with its options filled in; `label` names it in a run: the options too, if its name recurs."""

    name: str
    options: Mapping[str, Any]
    label: str
    version: int
    changed: str = ""
    """The options that differ from the defaults, as text."""

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
    expand(plan.attributions, ATTRIBUTIONS, f"{path}, key 'attributions'")
    expand_metrics(plan.metrics, "maps", f"{path}, key 'metrics'")
    if plan.concepts:
        expand(plan.concepts.dictionaries, DICTIONARIES, f"{path}, key 'concepts.dictionaries'")
        expand_metrics(plan.concepts.metrics, "dictionary", f"{path}, key 'concepts.metrics'")
    return plan


def expand(entries: Iterable[Entry], registry: Registry, where: str) -> list[Method]:
    """Turn a plan's entries into methods; an option given as a list, where one value is due, multiplies."""
    methods: list[Method] = []
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
        methods += [_method(name, function, choice, f"{spot}, {name}") for choice in _choices(function, given or {})]
    labels = [method.label for method in methods]
    for label in labels:
        if labels.count(label) > 1:
            raise LimenError(f"{where}: '{label}' is listed twice; each entry must differ in name or options.")
    names = [method.name for method in methods]
    return [method if names.count(method.name) > 1 else replace(method, label=method.name) for method in methods]


def _choices(function: Callable[..., Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parameters = inspect.signature(function).parameters
    many = {
        name: value
        for name, value in given.items()
        if isinstance(value, list) and name in parameters and "tuple" not in str(parameters[name].annotation)
    }
    for combination in itertools.product(*many.values()):
        yield {**given, **dict(zip(many, combination, strict=True))}


def _method(name: str, function: Callable[..., Any], given: Mapping[str, Any], where: str) -> Method:
    options = resolve_options(function, given, where)
    defaults = {key: parameter.default for key, parameter in inspect.signature(function).parameters.items()}
    shown = {key: options.get(key, given[key]) for key in sorted(given)}
    changed = ", ".join(f"{key}={value}" for key, value in shown.items() if value != defaults.get(key))
    version = function.card.version  # type: ignore[attr-defined]
    return Method(name, options, f"{name} ({changed})" if changed else name, version, changed)


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
