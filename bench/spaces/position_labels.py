"""Which concepts are at each position of a layer, read from exact masks of the pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..registry import LimenError

_TOGETHER = 64
"""Pictures that are looked at together, so that the masks are widened a few at a time."""


def position_labels(masks: np.ndarray | Tensor, grid: tuple[int, int], *, share: float = 0.5) -> Tensor:
    """Label each position of a layer's grid with the concepts that cover at least a share of its cell.

    Parameters
    ----------
    masks : bool (N, C, H, W)
        Where each concept is in each picture.
    grid : (h, w) of the layer; a position is taken to see its own cell of the picture
    share : above 0, at most 1

    Returns
    -------
    bool (N, h * w, C)
        Positions in reading order, as `ConceptData.test_maps` holds them.

    Raises
    ------
    LimenError
        If the masks are not bool (N, C, H, W), the grid is finer than the pictures, or the share is out of range.
    """
    given = torch.as_tensor(masks)
    if given.dtype != torch.bool or given.ndim != 4:
        raise LimenError(
            f"position labels, masks: given {given.dtype} {tuple(given.shape)}, allowed is torch.bool (N, C, H, W)."
        )
    height, width = given.shape[2:]
    if not (1 <= grid[0] <= height and 1 <= grid[1] <= width):
        raise LimenError(
            f"position labels, grid: given {grid}, allowed is 1 to ({height}, {width}), the pictures' size."
        )
    if not 0 < share <= 1:
        raise LimenError(f"position labels, share: given {share}, allowed is above 0 and at most 1.")
    covered = torch.cat(
        [torch.nn.functional.adaptive_avg_pool2d(part.double(), grid) for part in given.split(_TOGETHER)]
    )
    # A cell that is covered by exactly the share counts, whatever the division rounded to.
    return (covered >= share - 1e-9).flatten(2).mT
