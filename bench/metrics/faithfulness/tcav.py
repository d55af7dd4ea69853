"""TCAV: in what share of a class's images would more of a concept raise the class?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from ...engine import Draws
from ...engine.host import host
from ...records import Measurement
from ...registry import LimenError, metric
from ...spaces.concept_data import ConceptData
from ...spaces.dictionary import Dictionary
from ._decision import decision

Correction = Literal["holm", "fdr", "none"]
Directions = Literal["isotropic", "data"]
_SAMPLE = 25
"""Images on each side of a random concept that is drawn from the data."""
_NUMBERS = 2**24


@metric(
    version=1,
    citation="arXiv:1711.11279",
    cost="one backward an image",
    of="dictionary",
    direction="none",
    bounds=(0.0, 1.0),
    null="the mean over random directions for the same class",
)
def tcav(
    dictionaries: Sequence[Dictionary],
    data: ConceptData,
    *,
    draws: Draws,
    directions: Directions = "isotropic",
    correction: Correction = "holm",
    null_draws: PositiveInt = 10_000,
    least: PositiveInt = 2,
) -> Measurement:
    """Count the images of a class in which the class's logit rises along a concept's atom.

    The derivative is taken along the atom at all positions at once. A share is told from chance by its distance from
    one half: `p` is the share of random directions at least as far from it, two-sided, corrected over all classes and
    concepts. Where the head is affine the derivative is the same in every image, so that every direction, random ones
    too, scores 0 or 1 and nothing can be told from chance: the score is then at its null by construction.

    Parameters
    ----------
    dictionaries : one or more fits of one method
    data : ConceptData with `test_maps`, `head` and `targets`
    draws : Draws
    directions : 'isotropic' random unit vectors, or 'data': differences between the means of two random sets of 25
        training rows, which lie where activations vary, as the published random concepts do
    correction : of the p values; 'holm' bounds the chance of one false finding, 'fdr' (Benjamini and Hochberg) the
        expected share of false ones
    null_draws : random directions; no p value is smaller than 1 / (null_draws + 1)
    least : fewest images of a class; smaller classes are left out

    Returns
    -------
    Measurement
        One value a class and concept; `extra` holds `p`, `p_corrected`, `significant` (at 5 %), `consistency`
        |2 v - 1|, its mean over random directions `consistency_null`, and `images` of the class.

    Raises
    ------
    LimenError
        If there is no dictionary, a part of the data is missing, or no class has enough images.

    References
    ----------
    Kim et al. 2018, arXiv:1711.11279.
    """
    parts = decision(data, "tcav")
    classes, counts = parts.targets.unique(return_counts=True)
    kept = [int(one) for one in classes[counts >= least]]
    if not dictionaries or not kept:
        raise LimenError(
            f"metric 'tcav': given {len(dictionaries)} dictionaries and classes of at most {int(counts.max())} images, "
            f"allowed are one or more and a class of {least} images."
        )
    slopes = parts.slopes().sum(dim=1)
    blind = _random(data, draws, directions, null_draws)
    names, values, null, p, consistency, images = [], [], [], [], [], []
    for one in kept:
        rows = slopes[parts.targets == one]
        chance = host(_shares(rows, blind))
        for fit, each in enumerate(dictionaries):
            found = host(_shares(rows, each.atoms))
            values.append(found)
            p.append(_p_values(found, chance))
            null.append(np.full(each.k, chance.mean()))
            consistency.append(np.full(each.k, np.abs(2 * chance - 1).mean()))
            images.append(np.full(each.k, len(rows)))
            prefix = f"fit {fit + 1}, " if len(dictionaries) > 1 else ""
            label = data.class_names[one] if data.class_names else f"class {one}"
            names += [f"{prefix}{label}, atom {atom}" for atom in range(each.k)]
    alone = np.concatenate(p)
    corrected = _corrected(alone, correction)
    shares = np.concatenate(values)
    return Measurement(
        values=shares,
        null=np.concatenate(null),
        samples=tuple(names),
        convention=(
            f"share of a class's images with a positive derivative along the atom at all positions; p against {null_draws} "
            f"{directions} random directions, two-sided about one half, correction '{correction}' over {len(alone)} pairs"
        ),
        extra={
            "p": alone,
            "p_corrected": corrected,
            "significant": (corrected <= 0.05).astype(float),
            "consistency": np.abs(2 * shares - 1),
            "consistency_null": np.concatenate(consistency),
            "images": np.concatenate(images).astype(float),
        },
    )


def _shares(slopes: Tensor, directions: Tensor) -> Tensor:
    """Return the share of rows (m, d) that each direction (k, d) has a positive product with, (k,); 0 counts half."""
    size = max(1, _NUMBERS // len(slopes))
    found = []
    for part in directions.type_as(slopes).split(size):
        found.append((1 + (slopes @ part.T).sign()).mean(dim=0) / 2)
    return torch.cat(found).double()


def _random(data: ConceptData, draws: Draws, directions: Directions, count: int) -> Tensor:
    if directions == "isotropic":
        return draws.normal(count, data.train.shape[1])
    size = min(_SAMPLE, len(data.train) // 2)
    sides = [data.train[draws.integers(len(data.train), count * size)].reshape(count, size, -1).mean(1) for _ in "ab"]
    return sides[0] - sides[1]


def _p_values(values: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Return the share of random directions at least as far from one half, the score itself counted among them."""
    far = np.sort(np.abs(chance - 0.5))
    # Shares are multiples of one over the images: a hair apart is equal.
    beyond = len(far) - np.searchsorted(far, np.abs(values - 0.5) - 1e-9, side="left")
    return (1 + beyond) / (1 + len(far))


def _corrected(p: np.ndarray, correction: Correction) -> np.ndarray:
    if correction == "none":
        return p
    order, count = np.argsort(p, kind="stable"), len(p)
    rank = np.arange(1, count + 1)
    if correction == "holm":
        adjusted = np.maximum.accumulate(p[order] * (count - rank + 1))
    else:
        adjusted = np.minimum.accumulate((p[order] * count / rank)[::-1])[::-1]
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(adjusted, 1)
    return corrected
