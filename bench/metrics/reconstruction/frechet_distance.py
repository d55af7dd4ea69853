"""Fréchet distance: do decoded activations have the mean and the covariance of the true ones?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import check, fit_names


@metric(
    version=1,
    citation="arXiv:1706.08500",
    cost="one encode and one decode a dictionary; singular values of (d, d)",
    of="dictionary",
    direction="down",
    bounds=(0.0, float("inf")),
    null="random dictionaries of the same sizes, with their least-squares codes",
    ceiling="0, the same mean and covariance",
    presets={"overcomplete": {"relative": False}},
)
def frechet_distance(dictionaries: Sequence[Dictionary], data: ConceptData, *, relative: bool = True) -> Measurement:
    """Measure the 2-Wasserstein distance, squared, of two Gaussians with the moments of true and decoded activations.

    `|mu - mu'|^2 + tr S + tr S' - 2 tr (S S')^(1/2)`. The last trace is the nuclear norm of `X X'^T / n`, X and X' the
    centred rows: exact with fewer rows than features too, so that no distance is below 0. A dictionary may match both
    moments and rebuild no single row: read it beside R2.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData
    relative : divide by tr S, so that answering each feature's mean scores 1

    Returns
    -------
    Measurement
        One value a fit; `extra` holds `train`, the distance of the training rows, which no dictionary made.

    Raises
    ------
    LimenError
        If there is no dictionary, or the held-out rows are all the same.

    References
    ----------
    Heusel et al. 2017, arXiv:1706.08500.
    """
    check("frechet_distance", dictionaries, data)
    test = data.test.double()
    spread = (test - test.mean(dim=0)).square().sum(dim=1).mean()
    if not bool(spread > 0):
        raise LimenError(
            "metric 'frechet_distance': given held-out rows that are all the same, allowed are rows that differ."
        )
    scale = spread if relative else torch.ones_like(spread)
    values = [_distance(test, one.decode(one.encode(data.test)).double()) / scale for one in dictionaries]
    other = float(host(_distance(test, data.train.double()) / scale))
    return Measurement(
        values=host(torch.stack(values)),
        ceiling=np.zeros(len(values)),
        samples=fit_names(dictionaries),
        convention="squared Fréchet distance of held-out rows and their reconstruction"
        + (", over the total variance of the rows" if relative else ""),
        extra={"train": np.full(len(values), other)},
    )


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared Fréchet distance of two sets of rows (n, d), (m, d)."""
    means = first.mean(dim=0), second.mean(dim=0)
    one, other = ((rows - mean) / len(rows) ** 0.5 for rows, mean in zip((first, second), means, strict=True))
    # With X = Q R, the nuclear norm of X X'^T is that of R R'^T, which is no larger than (d, d).
    product = torch.linalg.qr(one, mode="r").R @ torch.linalg.qr(other, mode="r").R.T
    shared = torch.linalg.svdvals(product).sum()
    return ((means[0] - means[1]).square().sum() + one.square().sum() + other.square().sum() - 2 * shared).clamp_min(0)
