"""What callers of the bench give: names or functions, images and targets, resolved and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from .. import adapters
from ..adapters import finite
from ..engine import Engine
from ..records import Measurement
from ..registry import METRICS, LimenError, MetricCard

Method = str | Callable[..., Any]
AnyExplainer = Any
"""A registered name, a function with a card, or anyone's explainer: `bench.adapters` says what fits."""
Pictures = Tensor | np.ndarray
Classes = Tensor | np.ndarray | Sequence[int] | int | None
CONTROL = "random"
"""The file in `attributions` and in `dictionaries` that knows nothing."""


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
