"""What metrics of dictionaries read: checked subjects, rows, codes in parts, and controls made of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..engine import Draws
from ..engine.host import host
from ..registry import LimenError
from ..spaces.concept_data import ConceptData
from ..spaces.dictionary import Dictionary

At = Literal["images", "positions"]
"""Rows a metric reads: one an image (activations averaged over positions), or every position of every image."""
Read = Literal["pooled", "mean", "max"]
"""One code an image: the code of the pooled activations, or the mean or the largest of the codes at its positions."""
_ROWS_AT_ONCE = 4096


def check(metric: str, dictionaries: Sequence[Dictionary], data: ConceptData, **counts: int) -> None:
    """Refuse no dictionary, dictionaries of another layer, and options below 1.

    Raises
    ------
    LimenError
    """
    for name, value in counts.items():
        if value < 1:
            raise LimenError(f"metric '{metric}', option '{name}': given {value}, allowed is 1 or more.")
    if not dictionaries:
        raise LimenError(f"metric '{metric}': given no dictionary, allowed is one or more.")
    for one in dictionaries:
        if one.d != data.test.shape[1]:
            raise LimenError(
                f"metric '{metric}': given dictionary '{one.name}' of {one.d} features for activations of "
                f"{data.test.shape[1]}; they must agree."
            )


def rows(metric: str, data: ConceptData, at: At) -> Tensor:
    """Return the test rows (m, 1, d), or at every position (m, T, d)."""
    if at == "images":
        return data.test[:, None]
    data.require(metric, "test_maps")
    assert data.test_maps is not None
    return data.test_maps


def by_image(one: Dictionary, activations: Tensor, measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Measure each row and average over the positions of an image where that is defined.

    Parameters
    ----------
    activations : (m, T, d)
    measure : from rows (n, d) and codes (n, k) to (n,); NaN where undefined

    Returns
    -------
    float64 (m,)
    """
    parts = activations.reshape(-1, one.d).split(_ROWS_AT_ONCE)
    values = torch.cat([measure(part, one.encode(part)).double() for part in parts])
    return values.reshape(activations.shape[:2]).nanmean(dim=1)


def image_codes(metric: str, one: Dictionary, data: ConceptData, read: Read) -> Tensor:
    """Return one code an image and atom of the test split, float64 (m, k)."""
    if read == "pooled":
        return one.encode(data.test).double()
    data.require(metric, "test_maps")
    assert data.test_maps is not None
    step = max(1, _ROWS_AT_ONCE // data.test_maps.shape[1])
    codes = (one.encode(part) for part in data.test_maps.split(step))
    return torch.cat([part.mean(dim=1) if read == "mean" else part.amax(dim=1) for part in codes]).double()


def permuted(codes: Tensor, draws: Draws) -> Tensor:
    """Return codes (n, k) with each atom's column in an order of its own: how often each speaks stays, when does not."""
    order = draws.uniform(*codes.shape).argsort(dim=0)
    return codes.gather(0, order)


def unit(vectors: Tensor) -> Tensor:
    """Return rows (n, d) at length 1, float64; a zero row stays zero."""
    vectors = vectors.double()
    lengths = vectors.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, vectors / lengths.clamp_min(1e-300), 0.0)


def random_atoms(one: Dictionary, draws: Draws) -> Tensor:
    """Return as many unit atoms (k, d) as a dictionary has, uniform on the sphere, float64."""
    return unit(draws.normal(one.k, one.d))


def atom_names(dictionaries: Sequence[Dictionary]) -> tuple[str, ...]:
    """Name each atom of each fit, in order."""
    return tuple(
        f"fit {fit + 1}, atom {atom + 1}" if len(dictionaries) > 1 else f"atom {atom + 1}"
        for fit, one in enumerate(dictionaries)
        for atom in range(one.k)
    )


def fit_names(dictionaries: Sequence[Dictionary]) -> tuple[str, ...]:
    """Name each fit, in order."""
    return tuple(f"fit {fit + 1}" for fit in range(len(dictionaries)))


def image_names(data: ConceptData) -> tuple[str, ...]:
    """Name each test image, in order."""
    return tuple(f"row {row}" for row in range(len(data.test)))


def joined(columns: Sequence[Tensor]) -> np.ndarray:
    """Put the values of several fits behind each other."""
    return host(torch.cat(list(columns)).double())


def averaged(columns: Sequence[Tensor]) -> np.ndarray:
    """Average the values of several fits, each (N,)."""
    return host(torch.stack(list(columns)).double().mean(dim=0))
