"""Score maps by name: a metric bound to its images, its chance floor, and the result with interval and gain."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor

from ..adapters import check_maps, wanted
from ..engine import Draws, Engine
from ..records import Measurement
from ..registry import ATTRIBUTIONS, LimenError, resolve_options
from ..results import ScoreResult, as_numpy, result
from ..spaces import Pixels, Space
from .explaining import Explainer
from .given import CONTROL, Classes, Method, Pictures, prepare, resolve_metric

Regions = Mapping[str, np.ndarray]
NULL_DRAWS = 5
"""Random maps an image behind its null."""


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
