"""Explain by name: maps of images, and the method as one function for whoever explains again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import adapters
from ..engine import Engine
from ..registry import ATTRIBUTIONS
from ..spaces import Pixels, Space
from .given import AnyExplainer, Classes, Pictures, prepare, resolve

Explainer = Callable[..., Tensor]
"""`run(images, targets, *, on=None) -> maps`: a method with its options and seed; see `explainer`."""


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
