"""Anyone's explainer as one call: registered functions, plain functions, captum's and zennit's objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .engine import Draws, Engine
from .registry import ATTRIBUTIONS, LimenError, resolve_options, unknown
from .spaces import Pixels, Space

ALLOWED = (
    "allowed are a registered name, a function with a card, a function (module, images, targets) -> maps, "
    "a captum attribution (class or instance), and a zennit attributor or composite (class or instance)"
)


def explained(
    method: Any,
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    options: Mapping[str, Any],
) -> Tensor:
    """Explain with anything that explains, and check what it gives.

    Parameters
    ----------
    method : str or object
        A registered name, a function that carries a card, anyone's `(module, images, targets) -> maps`, a captum
        attribution (an instance of the engine's module, or its class), a zennit `Attributor` or `Composite` (an
        instance or its class; relevance starts at 1 on the target's logit, as zennit does it). What has no card is
        called in batches.
    engine : Engine
    images : (N, C, H, W) float32, on the engine's device
    targets : (N,) int64
    space, draws : handed to a registered method that names them
    options : of a registered method, or of captum's constructor and its `attribute`

    Returns
    -------
    Tensor (N, 1, *places) float32
        Channels summed with sign.

    Raises
    ------
    LimenError
        If the object fits nothing, explains another network, is given options it does not have, knows pixels alone
        and is given another space, or gives maps of a wrong shape or that are not finite.
    """
    function = ATTRIBUTIONS.load(method) if isinstance(method, str) else method
    where = f"attribution '{name_of(function)}'"
    if not isinstance(space, Pixels) and not _asks_for_space(function):
        # An array of wavelet coefficients has the shape of its image: maps of pixels would pass for credit of those.
        raise LimenError(f"{where}: given the space '{space.name}', allowed is pixels, of which its maps are.")
    coordinates = space.coordinates(engine, images)
    if hasattr(function, "card"):
        injected = {"space": space, "draws": draws}
        arguments = {**resolve_options(function, options, where), **wanted(function, injected)}
        return check_maps(function(engine, images, targets, **arguments), coordinates, where)

    def run(some: Tensor, classes: Tensor) -> Tensor:
        return check_maps(_foreign(function, engine, some, classes, options, where), coordinates[: len(some)], where)

    return engine.lend(images, targets, run)


def _asks_for_space(function: Any) -> bool:
    return hasattr(function, "card") and "space" in inspect.signature(function).parameters


def name_of(method: Any) -> str:
    """Return what to call an explainer in errors and seeds."""
    card = getattr(method, "card", None)
    return str(card.name if card else getattr(method, "__name__", type(method).__name__))


def check_movable(method: Any) -> None:
    """Refuse to carry an explainer to another network where it is tied to a function that hides its own.

    Raises
    ------
    LimenError
        For a captum instance made from a function.
    """
    if _is_captum(method) and not isinstance(method, type) and not isinstance(_bound(method), nn.Module):
        raise LimenError(
            f"attribution '{name_of(method)}': given a captum instance of a function, which cannot be asked about "
            "another network; allowed is its class, or a function (module, images, targets) -> maps."
        )


def check_maps(maps: Any, coordinates: Tensor, where: str) -> Tensor:
    """Return maps as float32 (N, 1, *places), channels summed with sign.

    Raises
    ------
    LimenError
        If they are not a tensor of that many places, or not finite.
    """
    expected = (len(coordinates), 1, *coordinates.shape[2:])
    if isinstance(maps, Tensor) and maps.shape == (expected[0], *expected[2:]):
        maps = maps.unsqueeze(1)
    if isinstance(maps, Tensor) and maps.shape == coordinates.shape and maps.shape != expected:
        maps = maps.sum(dim=1, keepdim=True)
    if not isinstance(maps, Tensor) or maps.shape != expected:
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise LimenError(f"{where}: given {shape}, allowed is a tensor of shape {expected}.")
    if not finite(maps):
        raise LimenError(f"{where}: given numbers that are not finite, allowed are finite maps.")
    return maps.detach().float()


def finite(values: Tensor) -> bool:
    """Tell whether every number is finite; on the meta device there are none to look at."""
    return values.is_meta or bool(values.isfinite().all())


def wanted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of what is offered the keyword arguments a function names."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in offered.items() if name in names}


def _foreign(
    method: Any, engine: Engine, images: Tensor, targets: Tensor, options: Mapping[str, Any], where: str
) -> Any:
    if _is_captum(method):
        return _captum(method, engine, images, targets, options, where)
    if options:
        raise LimenError(
            f"{where}: given options {', '.join(options)}, a plain callable takes none; bind them beforehand."
        )
    if _is_zennit(method):
        return _zennit(method, engine, images, targets, where)
    if not callable(method) or isinstance(method, type):
        raise LimenError(f"{where}: given {type(method).__name__}, which explains nothing; {ALLOWED}.")
    return method(engine.network.module, images, targets)


def _is_captum(method: Any) -> bool:
    return callable(getattr(method, "attribute", None))


def _is_zennit(method: Any) -> bool:
    """Look at the names of the classes, so that a library nobody asked for is not imported."""
    family = method if isinstance(method, type) else type(method)
    return any(base.__module__.partition(".")[0] == "zennit" for base in family.__mro__)


def _bound(method: Any) -> Any:
    return getattr(method, "forward_func", getattr(method, "model", None))


def _captum(
    method: Any, engine: Engine, images: Tensor, targets: Tensor, options: Mapping[str, Any], where: str
) -> Any:
    given = dict(options)
    if isinstance(method, type):
        first, *others = inspect.signature(method).parameters.values()
        if first.name not in ("forward_func", "model"):
            raise LimenError(f"{where}: its class is made from '{first.name}', not from a network; give an instance.")
        made = {one.name: given.pop(one.name) for one in others if one.name in given}
        _check_required(others, made, where, "constructor")
        method = method(engine.network.module, **made)
    _check_network(_bound(method), engine, where)
    parameters = [
        one for one in inspect.signature(method.attribute).parameters.values() if one.name not in ("inputs", "target")
    ]
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        for name in given:
            if name not in [one.name for one in parameters]:
                raise unknown(f"{where}, option", name, [one.name for one in parameters])
        _check_required(parameters, given, where, "'attribute'")
    return method.attribute(images, target=targets, **given)


def _check_required(parameters: list[inspect.Parameter], given: Mapping[str, Any], where: str, of: str) -> None:
    missing = [
        one.name
        for one in parameters
        if one.default is inspect.Parameter.empty
        and one.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        and one.name not in given
    ]
    if missing:
        raise LimenError(f"{where}: its {of} needs {', '.join(missing)}; allowed is to give them as options.")


def _check_network(bound: Any, engine: Engine, where: str) -> None:
    """A wrapper around the engine's module is welcome, another network would be explained in silence."""
    if isinstance(bound, nn.Module) and not any(part is engine.network.module for part in bound.modules()):
        raise LimenError(
            f"{where}: given an instance of another network than '{engine.network.name}'; allowed is one made from "
            "`engine.network.module`, or the class itself."
        )


def _zennit(method: Any, engine: Engine, images: Tensor, targets: Tensor, where: str) -> Tensor:
    from zennit.attribution import Attributor, Gradient  # type: ignore[import-not-found,unused-ignore]
    from zennit.core import Composite  # type: ignore[import-not-found,unused-ignore]

    module = engine.network.module
    if isinstance(method, type):
        method = method(module) if issubclass(method, Attributor) else method()
    if isinstance(method, Composite):
        method = Gradient(module, method)
    if not isinstance(method, Attributor):
        raise LimenError(f"{where}: given zennit's {type(method).__name__}, which explains nothing; {ALLOWED}.")
    _check_network(method.model, engine, where)
    one_hot = torch.nn.functional.one_hot(targets, engine.scores(images[:1]).shape[1]).type_as(images)
    with method as attributor:
        _, credit = attributor(images, one_hot)
    return credit
