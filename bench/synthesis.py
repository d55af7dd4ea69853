"""Feature visualisation by name: pictures made for classes, or for the atoms of a dictionary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .engine import Engine
from .registry import VISUALIZATIONS, LimenError, resolve_options
from .spaces.natural import Natural, natural, neutral, square_pictures

SHARE = 16 / 7
"""Side of a picture over the network's own where none is asked for: 512 for 224."""


def visualize(
    method: str | Callable[..., Any],
    engine: Engine,
    targets: Tensor | np.ndarray | Sequence[int] | int,
    *,
    pictures: np.ndarray | Natural | None = None,
    size: int | None = None,
    seeds: np.ndarray | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Make a picture for each target.

    Parameters
    ----------
    method : a registered name, or a function with a card
    engine : Engine
        Its classes are what pictures are made for; `bench.spaces.concept_engine` makes them the atoms of a
        dictionary, `neurons` the units of a layer.
    targets : class indices (n,), or one
    pictures : uint8 (N, H, W, 3), or Natural
        The image set whose colours and spectrum count as natural; None = grey with a spectrum of 1 / f.
    size : side of the pictures made; None = 16 / 7 of the network's
    seeds : uint8 (n, H, W, 3), the pictures that accentuation begins with
    seed : int
    **options
        The method's own; `limen bench list visualization` names them, `preset=` gives a peer's.

    Returns
    -------
    bench.visualizations._made.Visual
        Pictures float32 (n, 3, S, S) in 0 .. 1, opacity (n, S, S), the logit reached on views that no step has used,
        the same of the start (`null`), and the error of the spectrum.

    Raises
    ------
    LimenError
        For an unknown name, option or class, or seeds that are missing or too many.
    """
    function = VISUALIZATIONS.load(method) if isinstance(method, str) else method
    name = function.card.name  # type: ignore[attr-defined]
    resolved = resolve_options(function, options, f"visualization '{name}'")
    chosen = checked_targets(engine, targets, name)
    given: dict[str, Any] = {"natural": _natural(engine, pictures, size), "draws": engine.draws(seed, name)}
    asked = inspect.signature(function).parameters
    if ("seeds" in asked) != (seeds is not None):
        needed = "needs the pictures it begins with" if "seeds" in asked else "begins with noise and takes no pictures"
        raise LimenError(f"visualization '{name}', seeds: it {needed}.")
    if seeds is not None:
        given["seeds"] = square_pictures(engine, seeds, given["natural"].size)
    injected = {key: value for key, value in given.items() if key in asked}
    return function(engine, chosen, **injected, **resolved)


def checked_targets(engine: Engine, targets: Any, name: str) -> Tensor:
    """Return class indices as int64 (n,), refused where the network has no such class."""
    chosen = torch.atleast_1d(torch.as_tensor(targets))
    known = len(engine.network.classes)
    whole = not chosen.is_floating_point() and chosen.ndim == 1 and len(chosen) > 0
    if not whole or int(chosen.min()) < 0 or (known and int(chosen.max()) >= known):
        raise LimenError(
            f"visualization '{name}', targets: given {chosen.tolist()}, allowed are class numbers"
            + (f" from 0 to {known - 1}." if known else " of 0 and more.")
        )
    return chosen.long()


def _natural(engine: Engine, pictures: np.ndarray | Natural | None, size: int | None) -> Natural:
    if isinstance(pictures, Natural):
        return pictures
    side = size or round(SHARE * (engine.network.size or 0))
    if side < 2:
        raise LimenError(
            f"visualization, network '{engine.network.name}': it has no image size; give `size`, and a network with one."
        )
    return neutral(engine, side) if pictures is None else natural(engine, pictures, side)
