"""Plausibility: does some atom point where the network's own classifier looks for each class?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from .._subjects import averaged, check, random_atoms, unit


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="K k d multiplications a dictionary, as many for each null draw; one k-means",
    of="dictionary",
    direction="up",
    bounds=(-1.0, 1.0),
    null="as many random unit atoms; it grows with their number and shrinks with d",
    ceiling="1, an atom along each class's weights",
)
def plausibility(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    baseline: Literal["centroids", "none"] = "centroids",
    null_draws: int = 5,
) -> Measurement:
    """Measure `max_j <v_c, D_j>` for each class c, v_c the unit row of the classifier's weights.

    The weights are a direction that reads, an atom is one that writes: orthogonal classes apart, even the right atom
    does not reach 1. The baselines in `extra` say what is easily had.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a class's value is their average
    data : ConceptData with `head_weights`
    draws : Draws
    baseline : 'centroids' fits k-means to the training rows with as many clusters as the first dictionary has atoms
    null_draws : random sets of atoms a dictionary

    Returns
    -------
    Measurement
        One value a class, by |cosine| where the sign of an atom is a convention; NaN for a class without weights.
        `extra` holds `class_mean`, the cosine of the mean of the test rows that the network takes for the class, less
        the mean of all (NaN where it takes none), and `centroids`, the same maximum over k-means centroids.

    Raises
    ------
    LimenError
        If there is no dictionary, or the head is not affine in pooled activations.
    """
    check("plausibility", dictionaries, data, null_draws=null_draws)
    data.require("plausibility", "head_weights")
    assert data.head_weights is not None
    weights = unit(data.head_weights)
    values, null = [], []
    for index, one in enumerate(dictionaries):
        values.append(_best(weights, unit(one.atoms), one.signed))
        blind = (random_atoms(one, draws.spawn(index, draw)) for draw in range(null_draws))
        null.append(torch.stack([_best(weights, atoms, one.signed) for atoms in blind]).mean(dim=0))
    extra = {"class_mean": host(_class_means(weights, data))}
    if baseline == "centroids":
        extra["centroids"] = host(_best(weights, _centroids(data.train, dictionaries[0].k, draws), False))
    signed = any(one.signed for one in dictionaries)
    empty = host((weights == 0).all(dim=1))
    return Measurement(
        values=np.where(empty, np.nan, averaged(values)),
        null=averaged(null),
        ceiling=np.ones(len(weights)),
        samples=data.class_names or tuple(f"class {index}" for index in range(len(weights))),
        convention=f"largest {'|cosine|' if signed else 'cosine'} of an atom with each class's unit head weights",
        extra=extra,
    )


def _best(weights: Tensor, atoms: Tensor, signed: bool) -> Tensor:
    """Return the largest cosine of each class's weights (K, d) with an atom (k, d), (K,)."""
    cosines = weights @ atoms.T
    return (cosines.abs() if signed else cosines).amax(dim=1)


def _class_means(weights: Tensor, data: ConceptData) -> Tensor:
    if data.targets is None:
        return torch.full_like(weights[:, 0], torch.nan)
    rows = data.test.double()
    taken = torch.nn.functional.one_hot(data.targets, len(weights)).double()
    means = (taken.T @ rows) / taken.sum(dim=0)[:, None] - rows.mean(dim=0)
    return (weights * torch.nn.functional.normalize(means, dim=1)).sum(dim=1)


def _centroids(rows: Tensor, k: int, draws: Draws) -> Tensor:
    """Return unit directions of k-means centroids from the mean of the rows; at most one a row."""
    seed = int(draws.spawn("centroids").integers(2**31 - 1, 1))
    centred = rows.double() - rows.double().mean(dim=0)
    found = KMeans(min(k, len(rows)), n_init=1, random_state=seed).fit(host(centred)).cluster_centers_
    return unit(centred.new_tensor(found))
