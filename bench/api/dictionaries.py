"""Fit dictionaries and score them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..adapters import wanted
from ..engine import Activations, Cost, Draws
from ..records import Measurement
from ..registry import DICTIONARIES, LimenError, resolve_options
from ..results import ScoreResult, result
from ..spaces import ConceptData, Dictionary
from .given import CONTROL, Method, Pictures, resolve, resolve_metric


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
