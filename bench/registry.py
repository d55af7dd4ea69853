"""The folder is the registry: a file's name is the registered name is the function's name."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

Function = TypeVar("Function", bound=Callable[..., Any])
INJECTED = ("space", "draws", "regions", "explainer", "folds", "head", "checkpoint", "progress", "natural", "seeds")
"""Keyword arguments the caller supplies; every other keyword-only argument is an option a user may set."""


class LimenError(Exception):
    """A fault a user can cause, told in one sentence; the command line prints it and exits with 1."""


class UnknownName(LimenError, LookupError):
    """A name that is not registered; the message lists what is and the nearest match."""


def unknown(where: str, given: object, allowed: Iterable[object]) -> UnknownName:
    """Build the four-part error: where, what was given, what is allowed, the nearest match."""
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return UnknownName(f"{where}: unknown name '{given}'; allowed are {', '.join(names) or 'none'}{hint}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader needs to know of a registered function, beside its docstring."""

    kind: str
    version: int
    citation: str
    cost: str = ""
    name: str = ""
    summary: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options by the name of the peer whose convention they reproduce; `preset=NAME` asks for them."""

    def facts(self) -> dict[str, Any]:
        """Return the card as a plain mapping, in field order."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, kw_only=True)
class MetricCard(Card):
    """A metric's card: a score is never alone, so it names its direction, bounds, null and ceiling."""

    of: Literal["maps", "dictionary"]
    direction: Literal["up", "down", "none"]
    bounds: tuple[float, float]
    null: str
    ceiling: str | None = None


def _attach(card: Card) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        summary = (inspect.getdoc(function) or "").split("\n", 1)[0]
        function.card = replace(card, name=function.__name__, summary=summary)  # type: ignore[attr-defined]
        return function

    return decorate


def attribution(
    *, version: int, citation: str, cost: str, presets: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Function], Function]:
    """Mark a function as an attribution method; `cost` is counted in forwards and backwards an image."""
    return _attach(Card(kind="attribution", version=version, citation=citation, cost=cost, presets=presets or {}))


def dictionary(
    *, version: int, citation: str, cost: str, presets: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Function], Function]:
    """Mark a function as a way to fit a `Dictionary`."""
    return _attach(Card(kind="dictionary", version=version, citation=citation, cost=cost, presets=presets or {}))


def visualization(
    *, version: int, citation: str, cost: str, presets: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Function], Function]:
    """Mark a function as a feature visualisation; `cost` is counted in forwards and backwards a picture."""
    return _attach(Card(kind="visualization", version=version, citation=citation, cost=cost, presets=presets or {}))


def metric(
    *,
    version: int,
    citation: str,
    cost: str,
    of: Literal["maps", "dictionary"],
    direction: Literal["up", "down", "none"],
    bounds: tuple[float, float],
    null: str,
    ceiling: str | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Function], Function]:
    """Mark a function as a metric `of` maps or of a dictionary; `null` and `ceiling` say what they are."""
    return _attach(
        MetricCard(
            kind="metric",
            version=version,
            citation=citation,
            cost=cost,
            of=of,
            direction=direction,
            bounds=bounds,
            null=null,
            ceiling=ceiling,
            presets=presets or {},
        )
    )


def registered(kind: str, *, version: int, citation: str, cost: str = "") -> Callable[[Function], Function]:
    """Mark a function of any other kind (design, analysis, recruiter ...)."""
    return _attach(Card(kind=kind, version=version, citation=citation, cost=cost))


class Registry:
    """The functions of one kind: files below a package's folder, and entry points of the group `limen.<kind>`.

    Parameters
    ----------
    kind : str
        Singular noun used in errors, on the command line and in the entry-point group.
    package : str
        Dotted name of the package whose files are the registry; sub-folders sort the files by question.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package

    def modules(self) -> dict[str, str]:
        """Map each registered name to `module` or `module:attribute`, importing none of them.

        Raises
        ------
        LimenError
            If one name is registered twice.
        """
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise LimenError(f"registry of {self.kind}: package '{self.package}' has no folder")
        found: dict[str, str] = {}
        for location in spec.submodule_search_locations:
            root = Path(location)
            for path in sorted(root.rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                if any(part.startswith(("_", ".")) for part in parts):
                    continue
                self._add(found, parts[-1], ".".join((self.package, *parts)))
        for point in entry_points(group=f"limen.{self.kind}"):
            self._add(found, point.name, point.value)
        return dict(sorted(found.items()))

    def _add(self, found: dict[str, str], name: str, target: str) -> None:
        if name in found:
            raise LimenError(
                f"registry of {self.kind}: '{name}' is registered twice, by {found[name]} and by {target}; rename one."
            )
        found[name] = target

    def names(self) -> list[str]:
        """List the registered names, importing nothing."""
        return list(self.modules())

    def group(self, name: str) -> str:
        """Return the sub-folder that holds `name` ('faithfulness' for 'deletion'), or ''."""
        module = self.modules().get(name, "").split(":", 1)[0]
        return ".".join(module.removeprefix(f"{self.package}.").split(".")[:-1])

    def load(self, name: str) -> Callable[..., Any]:
        """Import and return one registered function.

        Raises
        ------
        UnknownName
            If nothing is registered under `name`; the message holds the nearest match.
        """
        modules = self.modules()
        if name not in modules:
            raise unknown(self.kind, name, modules)
        module, _, attribute = modules[name].partition(":")
        function = getattr(importlib.import_module(module), attribute or name, None)
        if function is None or not hasattr(function, "card"):
            raise LimenError(
                f"{self.kind} '{name}': {modules[name]} defines no function '{attribute or name}' with a card."
            )
        return function

    def card(self, name: str) -> Card:
        """Return the card of one registered function (imports it)."""
        return self.load(name).card  # type: ignore[attr-defined]


def resolve_options(function: Callable[..., Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a user's options against a function's keyword-only arguments and fill in the defaults.

    Where the function's card has presets, the option `preset` names one; options given beside it win.

    Raises
    ------
    LimenError
        If an option is unknown, has the wrong type, or a required one is missing; one sentence.
    """
    signature = inspect.signature(function, eval_str=True)
    allowed = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in INJECTED
    }
    given = _with_preset(function, given, allowed, where)
    for name in given:
        if name not in allowed:
            raise unknown(f"{where}, option", name, allowed)
    resolved: dict[str, Any] = {}
    for name, parameter in allowed.items():
        if name not in given:
            if parameter.default is inspect.Parameter.empty:
                raise LimenError(f"{where}, option '{name}': nothing was given and it has no default.")
            resolved[name] = parameter.default
            continue
        try:
            resolved[name] = pydantic.TypeAdapter(parameter.annotation).validate_python(given[name], strict=False)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise LimenError(
                f"{where}, option '{name}': given {given[name]!r}, allowed is {parameter.annotation}; {reason}."
            ) from None
    return resolved


def _with_preset(
    function: Callable[..., Any], given: Mapping[str, Any], allowed: Mapping[str, Any], where: str
) -> Mapping[str, Any]:
    presets = getattr(getattr(function, "card", None), "presets", {})
    if not presets or "preset" not in given or "preset" in allowed:
        return given
    if given["preset"] not in presets:
        raise unknown(f"{where}, option 'preset'", given["preset"], presets)
    return {**presets[given["preset"]], **{name: value for name, value in given.items() if name != "preset"}}


ATTRIBUTIONS = Registry("attribution", "bench.attributions")
DICTIONARIES = Registry("dictionary", "bench.dictionaries")
VISUALIZATIONS = Registry("visualization", "bench.visualizations")
METRICS = Registry("metric", "bench.metrics")
REGISTRIES = {registry.kind: registry for registry in (ATTRIBUTIONS, DICTIONARIES, VISUALIZATIONS, METRICS)}
