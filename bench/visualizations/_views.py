"""What the network sees of a picture while it is made: random crops straight to its own size, and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..engine import Draws

Centre = Literal["uniform", "normal"]


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Square crops of random place and side, and noise; each picture's draws are its own at each step.

    Attributes
    ----------
    count : crops of a picture at a step
    size : side of what the network is fed, in pixels
    side : (low, high), side of a crop as a share of the picture's, drawn evenly
    last : (low, high) at the last step, approached evenly; None = as `side`
    spread : standard deviation added to the drawn side, as a share
    centre : 'uniform' over all places that hold the crop, or 'normal' around the middle, then moved inside
    centre_sd : of 'normal', as a share of the picture
    noise : uniform within +- noise, plus Gaussian of that standard deviation
    steps : of the whole climb
    keys : what each picture's draws are keyed by
    draws : Draws
    """

    count: int
    size: int
    side: tuple[float, float]
    noise: float
    steps: int
    keys: tuple[int, ...]
    draws: Draws
    last: tuple[float, float] | None = None
    spread: float = 0.0
    centre: Centre = "uniform"
    centre_sd: float = 0.15

    def __call__(self, pictures: Tensor, index: range, step: int) -> Tensor:
        """Return views float32 (b * count, 3, size, size) of pictures (b, 3, S, S); differentiable."""
        drawn = [self.draws.spawn("view", self.keys[i], step) for i in index]
        theta = torch.cat([self._boxes(one, step) for one in drawn]).type_as(pictures)
        grid = functional.affine_grid(theta, [len(theta), 3, self.size, self.size], align_corners=False)
        repeated = pictures.repeat_interleave(self.count, dim=0)
        views = functional.grid_sample(repeated, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        if not self.noise:
            return views
        shape = (self.count, 3, self.size, self.size)
        added = torch.cat([one.uniform(*shape) * 2 - 1 + one.spawn("normal").normal(*shape) for one in drawn])
        return views + self.noise * added.type_as(views)

    def _boxes(self, draws: Draws, step: int) -> Tensor:
        """Draw the affine maps (count, 2, 3) of one picture's crops, in coordinates from -1 to 1."""
        even = draws.spawn("boxes").uniform(self.count, 3)
        normal = draws.spawn("places").normal(self.count, 3)
        share = 0.0 if self.last is None or step < 0 else step / max(1, self.steps - 1)
        low, high = ((1 - share) * a + share * b for a, b in zip(self.side, self.last or self.side, strict=True))
        side = (low + (high - low) * even[:, 0] + self.spread * normal[:, 0]).clamp(0.02, 1.0)
        room = 1 - side
        if self.centre == "uniform":
            centre = (2 * even[:, 1:] - 1) * room[:, None]
        else:
            wanted = 2 * self.centre_sd * normal[:, 1:]
            centre = torch.minimum(torch.maximum(wanted, -room[:, None]), room[:, None])
        theta = torch.zeros(self.count, 2, 3).type_as(side)
        theta[:, 0, 0] = theta[:, 1, 1] = side
        theta[:, :, 2] = centre
        return theta
