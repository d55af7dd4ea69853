"""The share of images with an explanation like one's own that the network puts in the same class."""

from __future__ import annotations

import torch
from torch import Tensor

from ...engine import Engine
from ...records import Measurement


def agreement(engine: Engine, images: Tensor, alike: Tensor, convention: str) -> Measurement:
    """Measure, for each image, how often the images with a like explanation share its predicted class.

    Parameters
    ----------
    engine : Engine
    images : (N, C, H, W)
    alike : bool (N, N), explanations that count as the same; the diagonal is left out
    convention : str

    Returns
    -------
    Measurement
        Values (N,), NaN where no other explanation is alike. The null is exact: were the maps dealt out anew, an image
        would meet its own class as often as that class occurs among the others.
    """
    predicted = engine.scores(images).argmax(dim=1)
    itself = torch.ones_like(predicted).diag().bool()
    same = (predicted[:, None] == predicted).masked_fill(itself, False).double()
    alike = alike.masked_fill(itself, False).double()
    others = alike.sum(dim=1)
    return Measurement(
        # 0 / 0 is NaN by design.
        values=(same * alike).sum(dim=1) / others,
        null=same.sum(dim=1) / (len(same) - 1) if len(same) > 1 else torch.full_like(others, float("nan")),
        convention=f"{convention}; share of these with the same predicted class, among the {len(same)} images scored",
        extra={"alike": others},
    )
