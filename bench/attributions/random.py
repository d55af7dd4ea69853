"""The control that knows nothing: uniform noise, and the null of every metric of maps."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Draws, Engine
from ..registry import attribution
from ..spaces import Space


@attribution(version=1, citation="this project", cost="none")
def random(engine: Engine, images: Tensor, targets: Tensor, *, space: Space, draws: Draws) -> Tensor:
    """Draw independent uniform noise for each coordinate, keyed by the seed and the image's content.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, unused: the map is blind to the class
    space : Space, the coordinates that receive the noise
    draws : Draws

    Returns
    -------
    (N, 1, H, W) in [0, 1)
    """
    places = space.coordinates(engine, images).shape[2:]
    return torch.stack([own.uniform(1, *places) for own in draws.for_images(images)]).type_as(images)
