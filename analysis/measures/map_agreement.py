"""How far people's importance maps agree with each other, and how far a model's maps agree with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.registry import LimenError

from .importance_maps import People, Smoothing, pooled

PUBLISHED_CEILINGS = {"harmonization": 0.65753}
"""Ceilings that were published for other people and images: only to print a number beside a published one."""


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Return Spearman's rho over the pixels of two maps, ties by mean rank; NaN where one of them does not vary."""
    first, second = (_standard_ranks(one) for one in (left, right))
    return float(first @ second)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    # Blurring leaves sums that differ in the last digits only; ranks must not depend on them.
    flat = np.round(np.asarray(values, dtype=float).ravel(), 12)
    ranks = stats.rankdata(flat)
    ranks -= ranks.mean()
    size = np.linalg.norm(ranks)
    return ranks / size if size > 0 else np.full_like(ranks, np.nan)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far people agree, one value an image.

    Attributes
    ----------
    name : str
    images : ids
    values : float (I,)
        NaN where it is not defined.
    null : float (I,)
        The same with the maps of other images on one side: the mean over all others of the same size.
    people : int (I,)
    stepped_up : whether the people's own maps are longer than what was compared, so that a mean is to be stepped up
    """

    name: str
    images: tuple[str, ...]
    values: np.ndarray
    null: np.ndarray
    people: np.ndarray
    stepped_up: bool = False


def split_half_ceiling(images: Sequence[People], how: Smoothing, *, halves: int = 20, seed: int = 0) -> Reliability:
    """Correlate the maps of two random halves of the people of each image.

    The values are those of half maps. Their mean over images is what `step_up` carries to all people by Spearman-Brown:
    2 rho / (1 + rho) bends downwards, so that stepping up each image or split first would bias the mean. Of an odd number
    of people one half has one more.

    Parameters
    ----------
    images : People of each image; at least two people each
    how : Smoothing
    halves : random splits
    seed : of the splits

    Raises
    ------
    LimenError
        If there are no images or an image has fewer than two people.
    """
    _check(images)
    draws = np.random.default_rng(seed)
    found, null = np.zeros((halves, len(images))), np.zeros((halves, len(images)))
    for split in range(halves):
        first, second = [], []
        for one in images:
            order = draws.permutation(len(one.participants))
            parts = np.array_split(order, 2)
            first.append(_standard_ranks(pooled(one, how, parts[0])))
            second.append(_standard_ranks(pooled(one, how, parts[1])))
        found[split], null[split] = _own_and_others(first, second)
    return Reliability(
        name="correlation of two halves of the people",
        images=tuple(one.image_id for one in images),
        values=found.mean(axis=0),
        null=null.mean(axis=0),
        people=np.array([len(one.participants) for one in images]),
        stepped_up=True,
    )


def hold_one_out(images: Sequence[People], how: Smoothing) -> Reliability:
    """Correlate each person's map with that of all others on the image; an image's value is the mean over its people.

    The null puts the map of the others on another image there, averaged over people and images.

    Raises
    ------
    LimenError
        As `split_half_ceiling`.
    """
    _check(images)
    alone, rest, owner = [], [], []
    for index, one in enumerate(images):
        everyone = np.arange(len(one.participants))
        for person in everyone:
            alone.append(_standard_ranks(pooled(one, how, np.array([person]))))
            rest.append(_standard_ranks(pooled(one, how, everyone[everyone != person])))
            owner.append(index)
    owners = np.array(owner)
    own = np.array([a @ b for a, b in zip(alone, rest, strict=True)])
    others = np.full(len(owners), np.nan)
    sizes = np.array([len(ranks) for ranks in alone])
    for index in range(len(images)):
        (mine,) = np.nonzero(owners == index)
        elsewhere = (owners != index) & (sizes == sizes[mine[0]])
        if elsewhere.any():
            mean = np.mean([rest[j] for j in np.flatnonzero(elsewhere).tolist()], axis=0)
            others[mine] = [alone[j] @ mean for j in mine.tolist()]
    return Reliability(
        name="hold-one-out agreement",
        images=tuple(one.image_id for one in images),
        values=np.array([own[owners == index].mean() for index in range(len(images))]),
        null=np.array([others[owners == index].mean() for index in range(len(images))]),
        people=np.array([len(one.participants) for one in images]),
    )


def _check(images: Sequence[People]) -> None:
    if not images:
        raise LimenError("importance maps: no image has enough people; lower 'min_people' or collect more.")
    for one in images:
        if len(one.participants) < 2:
            raise LimenError(
                f"importance maps, image '{one.image_id}': 1 person played it; agreement needs 2 people or more."
            )


def _own_and_others(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Correlate each image's first side with its own second side, and with those of all other images of its size."""
    own = np.array([a @ b for a, b in zip(first, second, strict=True)])
    others = np.full(len(own), np.nan)
    sizes = np.array([len(one) for one in first])
    for size in np.unique(sizes):
        (members,) = np.nonzero(sizes == size)
        if len(members) < 2:
            continue
        table = np.stack([first[i] for i in members.tolist()]) @ np.stack([second[i] for i in members.tolist()]).T
        np.fill_diagonal(table, 0)
        others[members] = table.sum(axis=1) / (len(members) - 1)
    return own, others


def step_up(rho: float) -> float:
    """Return Spearman-Brown's 2 rho / (1 + rho); NaN where rho is -1."""
    return 2 * rho / (1 + rho) if rho > -1 else float("nan")


def top_overlap(left: np.ndarray, right: np.ndarray, share: float = 0.1) -> tuple[float, float]:
    """Return (IoU, Dice) of the largest `share` of pixels of two maps.

    Exactly round(share x pixels) are taken of each (at least one); of ties at the threshold the first in reading order,
    so that equal maps overlap whole.

    Raises
    ------
    LimenError
        If the maps differ in shape or the share is not in (0, 1].
    """
    if left.shape != right.shape or not 0 < share <= 1:
        raise LimenError(
            f"importance maps, overlap: given maps of {left.shape} and {right.shape} and a share of {share:g}; allowed are "
            "equal shapes and a share above 0 up to 1."
        )
    count = max(1, round(share * left.size))
    tops = [set(np.argsort(-np.round(one.ravel(), 12), kind="stable")[:count].tolist()) for one in (left, right)]
    shared = len(tops[0] & tops[1])
    return shared / (2 * count - shared), shared / count


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A model's maps beside people's, one value an image.

    Attributes
    ----------
    spearman, iou, dice : float (I,)
    null : float (I,)
        Mean Spearman with the human maps of all other images (the index-permuted null, exactly).
    ceiling : float
        What Spearman is divided by in `normalised`.
    """

    spearman: np.ndarray
    iou: np.ndarray
    dice: np.ndarray
    null: np.ndarray
    ceiling: float

    @property
    def normalised(self) -> np.ndarray:
        """Spearman over the ceiling."""
        return self.spearman / self.ceiling


def align(models: np.ndarray, humans: np.ndarray, *, ceiling: float | str, share: float = 0.1) -> Alignment:
    """Compare a model's maps (I, H, W) with people's, image by image.

    Parameters
    ----------
    ceiling : float or str
        Mean reliability of the human maps, or the name of a published one ('harmonization').
    share : of the pixels that count as the top

    Raises
    ------
    LimenError
        If shapes differ, or the ceiling is not positive or no published one.

    References
    ----------
    arXiv:2211.04533.
    """
    if models.shape != humans.shape or models.ndim != 3:
        raise LimenError(f"alignment: given maps of {models.shape} and {humans.shape}; allowed is one shape (I, H, W).")
    value = PUBLISHED_CEILINGS.get(ceiling, np.nan) if isinstance(ceiling, str) else float(ceiling)
    if not value > 0:
        raise LimenError(
            f"alignment, ceiling: given {ceiling}; allowed is a positive number or {', '.join(PUBLISHED_CEILINGS)}."
        )
    own, others = _own_and_others([_standard_ranks(m) for m in models], [_standard_ranks(h) for h in humans])
    overlaps = np.array([top_overlap(m, h, share) for m, h in zip(models, humans, strict=True)]).reshape(-1, 2)
    return Alignment(spearman=own, iou=overlaps[:, 0], dice=overlaps[:, 1], null=others, ceiling=value)


def mean_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float, float, int]:
    """Return the mean over images, its t interval, and the number of images; NaN is left out."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    nothing = float("nan")
    if len(known) < 2:
        return (float(known[0]) if len(known) else nothing), nothing, nothing, len(known)
    half = float(stats.t.ppf((1 + level) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    mean = float(known.mean())
    return mean, mean - half, mean + half, len(known)
