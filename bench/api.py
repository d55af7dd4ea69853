"""Explain and score by name: resolves names and options, adds null, interval and gain."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from . import adapters
from .adapters import check_maps, finite, wanted
from .engine import Activations, Cost, Draws, Engine
from .records import Measurement
from .registry import ATTRIBUTIONS, DICTIONARIES, METRICS, LimenError, MetricCard, resolve_options
from .results import RESAMPLES, Interval, ScoreResult, as_numpy, bootstrap, result, summarise
from .spaces import ConceptData, Dictionary, Pixels, Space

__all__ = [
    "RESAMPLES",
    "Interval",
    "ScoreResult",
    "bind",
    "bootstrap",
    "explain",
    "explainer",
    "fit_dictionary",
    "needs_k",
    "null",
    "prepare",
    "resolve",
    "resolve_metric",
    "score",
    "score_dictionaries",
    "summarise",
]

Method = str | Callable[..., Any]
AnyExplainer = Any
"""A registered name, a function with a card, or anyone's explainer: `bench.adapters` says what fits."""
Pictures = Tensor | np.ndarray
Regions = Mapping[str, np.ndarray]
Explainer = Callable[..., Tensor]
"""`run(images, targets, *, on=None) -> maps`: a method with its options and seed; see `explainer`."""
Classes = Tensor | np.ndarray | Sequence[int] | int | None
CONTROL = "random"
"""The file in `attributions` and in `dictionaries` that knows nothing."""
NULL_DRAWS = 5
"""Random maps an image behind its null."""


def explain(
    method: AnyExplainer,
    engine: Engine,
    images: Pictures,
    targets: Classes = None,
    *,
    space: Space | None = None,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Explain the score of `targets` on each image.

    Parameters
    ----------
    method : str or object
        A registered name, a function that carries a card, or anyone's explainer: a function
        `(module, images (N, C, H, W), targets (N,)) -> maps` of shape (N, H, W), (N, 1, H, W) or (N, C, H, W), the
        last summed over channels with sign; a captum attribution such as `captum.attr.Saliency` (the class, or an
        instance made from the engine's module); a zennit attributor or composite.
    engine : Engine
    images : uint8 pictures (N, H, W, 3), or floats (N, C, H, W) normalised as the network wants them; for a network
        without an image size also waveforms (N, C, T) and volumes (N, C, D, H, W)
    targets : class of each image, or one for all; None takes the predicted ones
    space : Space; None is `Pixels()`
    seed : int
    **options
        The method's own options; `limen bench list attribution` names them. For captum, those of the class and of
        its `attribute`.

    Returns
    -------
    Tensor (N, 1, H, W) float32, signed, on the engine's device
        Over the coordinates of `space`, which for `Pixels` are the pixels.

    Raises
    ------
    LimenError
        For an unknown name or option, images or targets of a wrong shape, or maps that are not finite.
    """
    space = Pixels() if space is None else space
    inputs, classes = prepare(engine, images, targets)
    function, name = resolve(method, ATTRIBUTIONS.load)
    draws = engine.draws(seed, "attribution", name)
    return adapters.explained(function, engine, inputs, classes, space=space, draws=draws, options=options)


def score(
    metric: Method,
    engine: Engine,
    images: Pictures,
    maps: Pictures,
    targets: Classes = None,
    *,
    space: Space | None = None,
    seed: int = 0,
    null: np.ndarray | None = None,
    null_draws: int = NULL_DRAWS,
    masks: Regions | None = None,
    explainer: Explainer | None = None,
    folds: Any = None,
    **options: Any,
) -> ScoreResult:
    """Score maps with one metric, beside the same metric on random maps.

    Parameters
    ----------
    metric : str or callable
        A registered name, or a function that carries a metric card.
    engine : Engine
    images : as for `explain`
    maps : (N, 1, H, W) or (N, H, W), signed; larger is more relevant
    targets : the classes that were explained; None takes the predicted ones
    space : Space; None is `Pixels()`
    seed : int
        Seeds the metric's own draws, which are the same for every method, and the bootstrap.
    null : array (N,)
        What `bench.api.null` gave for this metric, its options, these images and this engine; None measures it here.
    null_draws : random maps an image, averaged
    masks : name -> bool (N, H, W), regions of the images that a metric may ask for
    explainer : what `explainer` gave: explains other images or another network in the way the maps were made, for the
        metrics that ask for it (stability, randomisation)
    folds : what `bench.zoo.load_folds` gave, for the metrics that compare retrained networks
    **options
        The metric's own options.

    Returns
    -------
    ScoreResult

    Raises
    ------
    LimenError
        For an unknown name or option, a metric of dictionaries, or arrays whose shapes disagree.
    """
    space = Pixels() if space is None else space
    inputs, classes = prepare(engine, images, targets)
    function, name, card = resolve_metric(metric, "maps")
    offered = {"space": space, "regions": masks or {}, "folds": folds, "explainer": explainer}
    run = bind(function, engine, inputs, classes, offered, seed, options)
    credit = check_maps(engine.prepare(maps), space.coordinates(engine, inputs), f"metric '{name}', maps")
    with engine.meter() as cost:
        measured = run(credit)
    floor = null if measured.null is None else measured.null
    if floor is None:
        floor = chance(
            metric,
            engine,
            inputs,
            classes,
            space=space,
            seed=seed,
            null_draws=null_draws,
            masks=masks,
            folds=folds,
            **options,
        )
    return result(name, card, engine, measured, floor, cost, seed)


def null(
    metric: Method,
    engine: Engine,
    images: Pictures,
    targets: Classes = None,
    *,
    space: Space | None = None,
    seed: int = 0,
    null_draws: int = NULL_DRAWS,
    masks: Regions | None = None,
    folds: Any = None,
    **options: Any,
) -> np.ndarray:
    """Measure a metric on random maps, averaged over draws for each image: the chance floor of `score`.

    It depends on no method, so measure it once and hand it to `score(..., null=...)` for all of them.

    Parameters
    ----------
    metric, engine, images, targets, space, seed, masks, folds, **options : as for `score`
    null_draws : random maps an image

    Returns
    -------
    array (N,) float64
    """
    if null_draws < 1:
        raise LimenError(f"metric '{metric}', option 'null_draws': given {null_draws}, allowed is 1 or more.")
    space = Pixels() if space is None else space
    inputs, classes = prepare(engine, images, targets)
    values = []
    for draw in range(null_draws):
        blind = _control(engine, space, engine.draws(seed, "null", draw))
        offered = {"space": space, "regions": masks or {}, "folds": folds, "explainer": blind}
        run = bind(metric, engine, inputs, classes, offered, seed, options)
        values.append(as_numpy(engine, run(blind(inputs, classes)).values))
    return np.mean(values, axis=0)


def _control(engine: Engine, space: Space, draws: Draws) -> Explainer:
    """Return the explainer that knows nothing, with its own draws."""
    control = ATTRIBUTIONS.load(CONTROL)
    injected = wanted(control, {"space": space, "draws": draws})

    def run(images: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        return cast(Tensor, control(on or engine, images, targets, **injected))

    return run


def explainer(
    method: AnyExplainer, engine: Engine, *, space: Space | None = None, seed: int = 0, **options: Any
) -> Explainer:
    """Return a method with its options and seed as one function, for the metrics that explain again.

    Parameters
    ----------
    method, engine, space, seed, **options : as for `explain`

    Returns
    -------
    callable
        `run(images (n, C, H, W), targets (n,), *, on=None) -> maps (n, 1, H, W)`; `on` is another engine, such as one
        with a randomised network.
    """

    def run(images: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        if on is not None and on is not engine:
            adapters.check_movable(method)
        return explain(method, on or engine, images, targets, space=space, seed=seed, **options)

    return run


def fit_dictionary(
    method: Method,
    activations: Pictures | Activations,
    k: int | None = None,
    *,
    seed: int = 0,
    head: Callable[[Tensor], Tensor] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Dictionary:
    """Fit a dictionary of `k` atoms to activations.

    Parameters
    ----------
    method : str or callable
        A registered name, or a function that carries a card.
    activations : floats (n, d), (N, T, d) or (N, C, H, W), or Activations
        Rows, tokens or feature maps; a stream of rows may be larger than memory.
    k : number of atoms; None for a method whose size the layer decides (neurons)
    seed : int
    head : the network after the layer, activations to logits, for the methods that listen to it
    checkpoint : a file from which a method that trains goes on after it was killed
    progress : `progress(step, steps)`, called by a method that trains
    **options
        The method's own options.

    Returns
    -------
    Dictionary

    Raises
    ------
    LimenError
        For an unknown name or option, or activations or a `k` that the method cannot fit.
    """
    function, name = resolve(method, DICTIONARIES.load)
    where = f"dictionary '{name}'"
    data = activations if isinstance(activations, Tensor | Activations) else torch.from_numpy(np.asarray(activations))
    if isinstance(data, Tensor) and (data.ndim < 2 or not data.is_floating_point()):
        raise LimenError(
            f"{where}: given activations {tuple(data.shape)} of {data.dtype}, allowed are floats (n, d), (N, T, d) "
            "or (N, C, H, W)."
        )
    if k is None and needs_k(function):
        raise LimenError(f"{where}, 'k': nothing was given and it has no default.")
    offered = {"draws": Draws.beside(data, seed, "dictionary", name), "head": head}
    injected = wanted(function, {**offered, "checkpoint": checkpoint, "progress": progress})
    fitted = function(data, k, **resolve_options(function, options, where), **injected)
    if not isinstance(fitted, Dictionary):
        raise LimenError(f"{where}: returned a {type(fitted).__name__}, allowed is a Dictionary.")
    return fitted


def needs_k(method: Method) -> bool:
    """Tell whether a dictionary method must be given `k`, or the layer decides its size."""
    function, _ = resolve(method, DICTIONARIES.load)
    return [*inspect.signature(function).parameters.values()][1].default is inspect.Parameter.empty


def score_dictionaries(
    metric: Method,
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    seed: int = 0,
    **options: Any,
) -> ScoreResult:
    """Score one method's dictionaries, beside what the metric says of random ones.

    Parameters
    ----------
    metric : str or callable
        A registered name, or a function that carries a metric card.
    dictionaries : one or more fits of the same method, for example over seeds
    data : ConceptData
    seed : int
    **options
        The metric's own options.

    Returns
    -------
    ScoreResult
        The null is the metric's own where it knows one, else its value on as many random dictionaries of the same
        sizes.

    Raises
    ------
    LimenError
        For an unknown name or option, a metric of maps, or no dictionary.
    """
    function, name, card = resolve_metric(metric, "dictionary")
    if not dictionaries:
        raise LimenError(f"metric '{name}': given no dictionary, allowed is one or more.")
    arguments = resolve_options(function, options, f"metric '{name}'")

    def run(subjects: Sequence[Dictionary]) -> Measurement:
        injected = wanted(function, {"draws": Draws.beside(data.train, seed, "metric", name)})
        return function(subjects, data, **arguments, **injected)

    measured = run(dictionaries)
    null = measured.null
    if null is None:
        blind = [
            fit_dictionary(CONTROL, data.train, len(one.atoms), seed=seed + index)
            for index, one in enumerate(dictionaries)
        ]
        null = run(blind).values
    return result(name, card, None, measured, null, Cost(), seed)


def prepare(engine: Engine, images: Pictures, targets: Classes) -> tuple[Tensor, Tensor]:
    """Return images (N, C, H, W) float32 and targets (N,) int64 on the engine's device.

    A network without an image size may also be given floats (N, C, *places) of one or three axes: waveforms, volumes.

    Raises
    ------
    LimenError
        For a wrong type or shape, a number that is not finite, or a class the network does not have.
    """
    pictures_only = engine.network.size is not None
    allowed = "allowed are uint8 pictures (N, H, W, 3) or normalised floats (N, C, H, W)"
    allowed += "" if pictures_only else ", (N, C, T) or (N, C, D, H, W)"
    if not isinstance(images, (Tensor, np.ndarray)):
        raise LimenError(f"images: given {type(images).__name__}, {allowed}.")
    kind = str(images.dtype).removeprefix("torch.")
    axes = (4,) if pictures_only or kind == "uint8" else (3, 4, 5)
    if images.ndim not in axes or len(images) == 0 or not (kind == "uint8" or "float" in kind):
        raise LimenError(f"images: given {kind} {tuple(images.shape)}, {allowed}.")
    inputs = engine.inputs(np.asarray(images)) if kind == "uint8" else engine.prepare(images)
    if not finite(inputs):
        raise LimenError("images: given numbers that are not finite, allowed are finite floats.")
    if targets is None:
        return inputs, engine.targets(inputs)
    return inputs, engine.targets(inputs, [targets] * len(inputs) if isinstance(targets, int) else targets)


def resolve(method: AnyExplainer, load: Callable[[str], Callable[..., Any]]) -> tuple[Callable[..., Any], str]:
    """Return a function and the name to call it by in errors and seeds."""
    if isinstance(method, str):
        return load(method), method
    return method, adapters.name_of(method)


def resolve_metric(
    metric: Method, of: Literal["maps", "dictionary"]
) -> tuple[Callable[..., Measurement], str, MetricCard]:
    """Return a metric of the wanted subject, its name and its card.

    Raises
    ------
    LimenError
        If it has no metric card, or scores something else.
    """
    function, name = resolve(metric, METRICS.load)
    card = getattr(function, "card", None)
    if not isinstance(card, MetricCard):
        raise LimenError(f"metric '{name}': has no card; allowed is a name or a function under bench.registry.metric.")
    if card.of != of:
        raise LimenError(f"metric '{name}': given {of}, allowed is what it scores: {card.of}.")
    return function, name, card


def bind(
    metric: Method,
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    offered: Mapping[str, Any],
    seed: int,
    options: Mapping[str, Any],
) -> Callable[[Tensor], Measurement]:
    """Return a metric of maps as a function of the maps alone; its draws are the same whatever it scores."""
    function, name, _ = resolve_metric(metric, "maps")
    arguments = resolve_options(function, options, f"metric '{name}'")
    for needed, hint in (("explainer", "bench.api.explainer(method, engine)"), ("folds", "bench.zoo.load_folds(name)")):
        if offered.get(needed) is None and needed in inspect.signature(function).parameters:
            raise LimenError(f"metric '{name}', '{needed}': nothing was given, and it needs one; {hint} makes it.")

    def run(maps: Tensor) -> Measurement:
        injected = wanted(function, {**offered, "draws": engine.draws(seed, "metric", name)})
        return function(engine, images, targets, maps, **arguments, **injected)

    return run


chance = null
"""`null` under a name that no argument hides."""
