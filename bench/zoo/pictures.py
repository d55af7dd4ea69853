"""Image sets by name: the public call, and the folder that is their registry."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from ..images import ImageSet
from ..registry import LimenError, Registry, resolve_options
from .pool import Pool

IMAGES = Registry("images", "bench.zoo.image_sets")


def image_set_names() -> list[str]:
    """List the names `load_images` accepts; a name that needs an argument is shown as `folder:PATH`."""
    return [f"{name}:PATH" if _takes_argument(IMAGES.load(name)) else name for name in IMAGES.names()]


def load_images(name: str, split: str = "test", n: int | None = None, seed: int = 0, **options: Any) -> ImageSet:
    """Return pictures of an image set by name.

    Parameters
    ----------
    name : str
        `digits`, `scenes`, `scenes_biased`, `collages` or `folder:PATH`; `image_set_names()` lists them.
    split : str
        `train` or `test`; some sets have more (`study` on `scenes_biased`, `all` on a folder).
    n : int, optional
        Take this many pictures, balanced over classes and groups; None takes the whole split.
    seed : int
        Which pictures a choice of `n` holds; a smaller `n` of the same seed is part of a larger one.
    **options
        The set's own options, e.g. `size` in pixels.

    Returns
    -------
    ImageSet
        uint8 pictures (N, H, W, 3), with exact masks, groups and multi-hot concept labels where the set knows them.

    Raises
    ------
    UnknownName
        If the set, the split or an option does not exist; the message holds the nearest match.
    LimenError
        If `n` is out of range, or the set's argument is missing, unwanted or unreadable.
    """
    head, _, argument = name.partition(":")
    function = IMAGES.load(head)
    where = f"image set '{name}'"
    resolved = resolve_options(function, options, where)
    if _takes_argument(function):
        if not argument:
            raise LimenError(f"{where}: nothing follows '{head}:'; allowed is '{head}:PATH'.")
        pool: Pool = function(split, argument, **resolved)
    else:
        if argument:
            raise LimenError(f"{where}: given the argument '{argument}', but '{head}' takes none.")
        pool = function(split, **resolved)
    if n is None:
        chosen = np.arange(len(pool))
    elif 1 <= n <= len(pool):
        chosen = pool.balanced(n, seed)
    else:
        raise LimenError(f"{where}, split '{split}': given n={n}, allowed is 1 to {len(pool)}.")
    return replace(pool.draw(chosen), name=name)


def _takes_argument(function: Any) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    return kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == 2
