"""Planted encoding-decoding pairs: positions of known signal directions among distractors, and a head that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..engine import Draws
from ..engine.host import host
from ..registry import LimenError, unknown
from ..spaces.concept_data import ConceptData
from .planted import Planted

CONCEPTS = 3
DISTRACTORS = 2
CLASSES = tuple(combinations(range(CONCEPTS), 2))
"""Each class is a pair of concepts, one at each of an image's two positions."""
PRESENT_ABOVE = 2.5
OFFSET = 10.0
COSINES = (
    (1.0, 0.497, 0.494, 0.472, 0.179),
    (0.497, 1.0, 0.487, 0.474, 0.100),
    (0.494, 0.487, 1.0, 0.346, 0.484),
    (0.472, 0.474, 0.346, 1.0, 0.481),
    (0.179, 0.100, 0.484, 0.481, 1.0),
)
"""Cosines of the three signals and the two distractors in the published generator."""
Geometry = Literal["paper", "isotropic"]


@dataclass(frozen=True, eq=False)
class DirectionPairs:
    """Two positions an image, one concept at each, and the head that was trained on their average.

    Attributes
    ----------
    planted : Planted
        One row a position; atoms are the signals, codes their amounts, present above 2.5. `extra['distractors']`
        (2, d) are the directions that add to every position and mean nothing.
    train_maps, test_maps : float32 (n, 2, d), (m, 2, d)
        The same rows, image by image.
    train_labels, test_labels : bool (n, 2, 3), (m, 2, 3)
        Which concept is at each position: exactly one.
    train_classes, test_classes : int64 (n,), (m,)
    head : callable
        Differentiable: positions (n, T, d) to logits (n, 3); average pooling and a linear map.
    head_accuracy : float
        On the test images.
    """

    planted: Planted
    train_maps: Tensor
    test_maps: Tensor
    train_labels: Tensor
    test_labels: Tensor
    train_classes: Tensor
    test_classes: Tensor
    head: Callable[[Tensor], Tensor]
    head_accuracy: float

    def concept_data(self) -> ConceptData:
        """Return the images as metrics want them: pooled rows, maps, the head, and concepts with their positions."""
        return ConceptData(
            train=self.train_maps.mean(dim=1),
            test=self.test_maps.mean(dim=1),
            train_labels=self.train_labels.any(dim=1),
            test_labels=self.test_labels.any(dim=1),
            label_names=tuple(f"signal {index}" for index in range(CONCEPTS)),
            train_maps=self.train_maps,
            test_maps=self.test_maps,
            test_position_labels=self.test_labels,
            head=self.head,
            targets=self.head(self.test_maps).argmax(dim=1),
            class_names=tuple(f"signals {first} and {second}" for first, second in CLASSES),
        )


def direction_pairs(
    seed: int = 0,
    sample: int = 0,
    *,
    geometry: Geometry = "paper",
    d: int = 16,
    images: int = 1000,
    test_images: int = 250,
) -> DirectionPairs:
    """Plant positions `x = S alpha + B beta + 10` whose concepts a linear head needs and whose distractors it does not.

    Amounts `alpha` are uniform in 0 to 2.5 where a concept is absent and in 2.5 to 5 where it is present, `beta` in 0
    to 5. Each image shows a pair of the three concepts, one at each of its two positions; the pair is its class. The
    head is a logistic regression on the pooled training activations.

    Parameters
    ----------
    seed : int
        Of the directions and of the test images.
    sample : int
        Of the training images.
    geometry : 'paper' or 'isotropic'
        Cosines as published, in a random frame; or independent random directions.
    d : features, 5 or more
    images, test_images : images a class in each split

    Returns
    -------
    DirectionPairs

    Raises
    ------
    LimenError
        If an option is out of range.

    References
    ----------
    arXiv:2509.23926
    """
    least = CONCEPTS + DISTRACTORS
    for option, value, low in (("d", d, least), ("images", images, 2), ("test_images", test_images, 1)):
        if value < low:
            raise LimenError(f"direction pairs, option '{option}': given {value}, allowed is {low} or more.")
    draws = Draws(seed, "planted", "direction_pairs")
    directions = _directions(draws.spawn("directions"), geometry, d)
    train, test = (
        _images(draws.spawn(*key), directions, count)
        for key, count in ((("train", sample), images), (("test",), test_images))
    )
    head = _head(train.maps, train.classes)
    planted = Planted(
        name=f"direction pairs, {geometry}",
        train=train.maps.reshape(-1, d),
        test=test.maps.reshape(-1, d),
        atoms=directions[:CONCEPTS],
        train_codes=train.amounts.reshape(-1, CONCEPTS),
        test_codes=test.amounts.reshape(-1, CONCEPTS),
        offset=torch.full_like(directions[0], OFFSET),
        present_above=PRESENT_ABOVE,
        extra={"distractors": directions[CONCEPTS:]},
    )
    return DirectionPairs(
        planted=planted,
        train_maps=train.maps,
        test_maps=test.maps,
        train_labels=train.labels,
        test_labels=test.labels,
        train_classes=train.classes,
        test_classes=test.classes,
        head=head,
        head_accuracy=float((head(test.maps).argmax(dim=1) == test.classes).float().mean()),
    )


@dataclass(frozen=True, eq=False)
class _Images:
    """One split: maps (n, 2, d), amounts (n, 2, 3), labels (n, 2, 3), classes (n,)."""

    maps: Tensor
    amounts: Tensor
    labels: Tensor
    classes: Tensor


def _directions(draws: Draws, geometry: str, d: int) -> Tensor:
    """Return unit signals, then unit distractors, float32 (5, d)."""
    if geometry not in ("paper", "isotropic"):
        raise unknown("direction pairs, option 'geometry'", geometry, ("paper", "isotropic"))
    free = draws.normal(CONCEPTS + DISTRACTORS, d).double()
    if geometry == "isotropic":
        return (free / free.norm(dim=1, keepdim=True)).float()
    frame = torch.linalg.qr(free.T).Q.T
    cosines = torch.tensor(COSINES, dtype=torch.float64).type_as(frame)
    return (torch.linalg.cholesky(cosines) @ frame).float()


def _images(draws: Draws, directions: Tensor, per_class: int) -> _Images:
    count = per_class * len(CLASSES)
    pairs = draws.permutation(CONCEPTS).new_tensor(CLASSES)
    classes = draws.permutation(count).remainder(len(CLASSES))
    # Which concept of the pair stands at the first position is a coin toss.
    tossed = draws.bernoulli(0.5, count, 1).bool()
    shown = torch.where(tossed, pairs[classes].flip(1), pairs[classes])
    labels = torch.nn.functional.one_hot(shown, CONCEPTS).bool()
    amounts = PRESENT_ABOVE * (draws.uniform(count, 2, CONCEPTS) + labels)
    # The upper half is open below, as presence is: an amount of exactly 2.5 would be absent.
    amounts = torch.where(
        labels, amounts.clamp_min(float(np.nextafter(np.float32(PRESENT_ABOVE), np.float32(9)))), amounts
    )
    beside = 2 * PRESENT_ABOVE * draws.uniform(count, 2, DISTRACTORS)
    maps = torch.cat([amounts, beside], dim=2) @ directions + OFFSET
    return _Images(maps, amounts, labels, classes)


def _head(maps: Tensor, classes: Tensor) -> Callable[[Tensor], Tensor]:
    """Fit average pooling + linear; the returned head keeps its weights to itself."""
    pooled = maps.mean(dim=1)
    centre = pooled.mean(dim=0)
    fitted = LogisticRegression(C=100.0, max_iter=5000).fit(host(pooled - centre).astype(np.float64), host(classes))
    weights, bias = (pooled.new_tensor(part) for part in (fitted.coef_, fitted.intercept_))

    def head(positions: Tensor) -> Tensor:
        return (positions.mean(dim=1) - centre) @ weights.T + bias

    return head
