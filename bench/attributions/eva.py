"""EVA: how much a verified worst case improves when the pixels of a cell may not be touched."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from ..engine import Draws, Engine
from ..engine.bounds import Bound, Boxes, Relaxation
from ..registry import LimenError, attribution
from ..spaces import Pixels, Space

Direction = Literal["both", "positive", "negative"]


@attribution(
    version=1,
    citation="arXiv:2202.07728",
    cost="side^2 + 1 bounds; with 'crown_ibp' each 2 forwards and at most K - 1 backwards (290 and 145 (K - 1) at the defaults)",
    presets={"paper": {"side": 12, "eps": 0.5, "relaxation": "combination", "bound": "separate"}},
)
def eva(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    *,
    space: Space,
    draws: Draws,
    side: PositiveInt = 12,
    eps: Annotated[float, Field(gt=0)] = 0.05,
    relaxation: Relaxation = "crown_ibp",
    bound: Bound = "margin",
    rival: NonNegativeInt | None = None,
    direction: Direction = "both",
    split: str | None = None,
    samples: PositiveInt = 20,
    upsampling: Literal["nearest", "bilinear"] = "nearest",
) -> Tensor:
    """Give each cell the drop of the verified adversarial overlap when its pixels are held still.

    With B the box of all perturbations of at most `eps` and B_u the same with cell u held still, the credit of u is
    `AO(B) - AO(B_u)`, where AO is an upper bound of `max f_c' - f_target` over the box and the other classes c'.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W) float32, normalised
    targets : (N,) int64, the classes to explain
    space : Pixels; its baseline is not used
    draws : Draws; used by `split` alone, keyed by each image's content
    side : cells along each axis
    eps : largest change of a pixel in any channel, in units of pictures in [0, 1] (about 13 / 255 by default): a channel of
        the network's input moves by `eps / std`. For a network without normalisation it is in the input's own units.
        The box is not cut at black and white.
    relaxation : 'ibp' (intervals: 2 forwards a box, loose in deep networks), 'forward', 'crown_ibp', 'crown' (slow: one
        backward for each ReLU input that may switch) or 'combination' (the paper's; the tightest of all, the slowest)
    bound : 'margin' bounds differences of logits; 'separate' (the paper's) each logit alone, always at least as loose
    rival : the one other class c'; None takes the largest bound over all
    direction : 'both', or perturbations that only brighten ('positive') or only darken ('negative')
    split : None bounds the whole network. A layer's name bounds only what follows it, over the activations seen in
        samples of B and B_u: for networks too deep to bound, and no guarantee.
    samples : perturbations of an image that show those activations, the same for all cells
    upsampling : how the cells' values become a map; 'nearest' keeps each cell's value at all its places

    Returns
    -------
    (N, 1, H, W)
        With 'ibp' never negative, since a smaller box has tighter intervals; a linear bound may be a little looser in a
        smaller box, and then a cell that does not matter is a little below 0.

    Raises
    ------
    LimenError
        For a space other than pixels, a rival that is the target, or an operation that bounds cannot go through.

    References
    ----------
    Fel et al. 2023, arXiv:2202.07728; Zhang et al. 2018, arXiv:1811.00866; Zhang et al. 2020, arXiv:1906.06316.
    """
    if not isinstance(space, Pixels):
        raise LimenError(
            f"attribution 'eva', space: given '{space.name}', allowed is pixels, where `eps` has a unit and a box is a "
            "set of pictures."
        )
    rivals = None if rival is None else _rivals(targets, rival)
    cells = space.cells(images, side)
    deviation = images.new_tensor(engine.network.std)
    reach = (eps / deviation).reshape(1, -1, 1, 1) if len(deviation) == images.shape[1] else images.new_full((1,), eps)
    down, up = (direction != "positive") * reach, (direction != "negative") * reach

    def build(pixels: Tensor, _: Tensor, box_index: Tensor) -> tuple[Tensor, Tensor]:
        """Box 0 is B; box u + 1 holds cell u still."""
        still = torch.nn.functional.one_hot(box_index, cells + 1)[:, 1:].type_as(pixels)
        free = 1 - space.spread(still, pixels, side)
        return pixels - free * down, pixels + free * up

    boxes = Boxes(cells + 1, build, split, None if split is None else _noise(draws, images, samples))
    overlap = engine.margin_bounds(
        images, boxes, targets, space=space, rivals=rivals, relaxation=relaxation, bound=bound
    )
    return space.spread(overlap[:, :1] - overlap[:, 1:], images, side, mode=upsampling)


def _rivals(targets: Tensor, rival: int) -> Tensor:
    if not targets.is_meta and bool((targets == rival).any()):
        raise LimenError(
            f"attribution 'eva', option 'rival': given {rival}, which is the target of an image; allowed is another "
            "class than all targets."
        )
    return torch.full_like(targets, rival)


def _noise(draws: Draws, images: Tensor, samples: int) -> Tensor:
    """Return places in the box (N, samples, C, H, W), uniform, from each image's own stream."""
    return torch.stack([one.uniform(samples, *images.shape[1:]) for one in draws.for_images(images)])
