"""What a feature visualisation returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..engine import Ascended, Engine
from ..registry import LimenError
from ..spaces.natural import Natural


@dataclass(frozen=True, kw_only=True)
class Visual:
    """Pictures made for targets.

    Attributes
    ----------
    pictures : float32 (n, 3, S, S) in 0 .. 1
    opacity : float32 (n, S, S) in 0 .. 1
        Where the picture matters: absolute gradients summed over the steps, over their 99th percentile.
    reached : float32 (n,)
        Mean logit over views that were drawn for measuring alone.
    null : float32 (n,)
        The same of the pictures that the climb began with.
    history : float32 (n, steps)
    spectrum_error : float32 (n,)
        Mean |log magnitude - log natural magnitude|.
    """

    pictures: Tensor
    opacity: Tensor
    reached: Tensor
    null: Tensor
    history: Tensor
    spectrum_error: Tensor


def made(ascended: Ascended, natural: Natural) -> Visual:
    """Finish an ascent."""
    credit = ascended.credit.flatten(1)
    top = credit.quantile(0.99, dim=1).clamp(min=1e-12) if credit.shape[1] < 2**24 else credit.amax(dim=1)
    return Visual(
        pictures=ascended.pictures,
        opacity=(ascended.credit / top[:, None, None]).clamp(0, 1),
        reached=ascended.reached,
        null=ascended.began,
        history=ascended.scores,
        spectrum_error=natural.spectrum_error(ascended.pictures),
    )


def network_size(engine: Engine) -> int:
    """Return the side of what the network is fed, in pixels.

    Raises
    ------
    LimenError
        If the network does not say.
    """
    size = engine.network.size
    if size is None:
        raise LimenError(
            f"visualization, network '{engine.network.name}': it has no image size; allowed are networks with `size`."
        )
    return size
