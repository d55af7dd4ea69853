"""Reconstruction: the share of the activations' variance that decoded codes keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary


@metric(
    version=1,
    citation="arXiv:2502.12892",
    cost="one encode and one decode a dictionary",
    of="dictionary",
    direction="up",
    bounds=(-float("inf"), 1.0),
    null="the least-squares reconstruction from as many random directions",
    ceiling="the best affine subspace of as many dimensions, fitted to the scored rows themselves",
)
def reconstruction_r2(
    dictionaries: Sequence[Dictionary], data: ConceptData, *, draws: Draws, null_draws: int = 10
) -> Measurement:
    """Measure R2 of the reconstruction on held-out rows, against the mean of each feature.

    A row's value is `1 - |a - a'|^2 / V`, V the average squared distance of a row from the mean of each feature, so
    that the mean of the values is exactly `R2 = 1 - |A - A'|^2 / |A - mean|^2`.

    Parameters
    ----------
    dictionaries : one or more fits of one method; a row's value is their average
    data : ConceptData
        `test` is scored; the null reads from `train` its mean alone.
    draws : Draws
    null_draws : random sets of directions a dictionary

    Returns
    -------
    Measurement
        One value a held-out row; `extra` holds `relative_error` |a - a'| / |a| and `active`, codes that are not 0.

    Raises
    ------
    LimenError
        If there is no dictionary, or the held-out rows are all the same.
    """
    if null_draws < 1:
        raise LimenError(f"metric 'reconstruction_r2', option 'null_draws': given {null_draws}, allowed is 1 or more.")
    test = data.test.double()
    centred = test - test.mean(dim=0)
    variance = centred.square().sum(dim=1).mean()
    if not dictionaries or not bool(variance > 0):
        raise LimenError(
            f"metric 'reconstruction_r2': given {len(dictionaries)} dictionaries and held-out rows of variance "
            f"{float(variance):.3g}, allowed are one or more and rows that differ."
        )
    values, null, ceiling, error, active = [], [], [], [], []
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(dims=[1]).T
    mean = data.train.double().mean(dim=0)
    for index, one in enumerate(dictionaries):
        codes = one.encode(data.test)
        residual = (test - one.decode(codes).double()).square().sum(dim=1)
        values.append(1 - residual / variance)
        error.append((residual / test.square().sum(dim=1).clamp_min(1e-30)).sqrt())
        active.append((codes != 0).sum(dim=1).double())
        for draw in range(null_draws):
            atoms = draws.spawn(index, draw).normal(one.k, one.d).double()
            null.append(1 - _outside(test - mean, torch.linalg.qr(atoms.T).Q.T) / variance)
        ceiling.append(1 - _outside(centred, components[: one.k]) / variance)
    return Measurement(
        values=_average(values),
        null=_average(null),
        ceiling=_average(ceiling),
        samples=tuple(f"row {row}" for row in range(len(test))),
        convention="1 - squared error / mean squared distance from each feature's mean, held-out rows; the mean is R2 = 1 - FVU",
        extra={"relative_error": _average(error), "active": _average(active)},
    )


def _outside(rows: Tensor, basis: Tensor) -> Tensor:
    """Return the squared length of each row outside the span of an orthonormal basis (k, d)."""
    return (rows - rows @ basis.T @ basis).square().sum(dim=1)


def _average(columns: Sequence[Tensor]) -> np.ndarray:
    return host(torch.stack(list(columns)).mean(dim=0))
