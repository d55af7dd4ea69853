"""Human importance maps from the strokes of a reveal game: which rounds count, and how they are pooled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import ndimage

from bench.registry import LimenError
from stimuli.masks import revealed_mask

ROUND_COLUMNS = ("participant_id", "item_id", "width", "height", "box_px", "strokes", "outcome")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which rounds count; decided before the data.

    Attributes
    ----------
    min_boxes, max_boxes : fewest and most boxes of a round (None: any)
    min_people : fewest people an image needs for a map
    skipped : whether rounds that were skipped count
    """

    min_boxes: int = 2
    max_boxes: int | None = None
    min_people: int = 5
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Gaussian of `sigma` pixels, cut off at a square of `kernel` pixels (odd) and scaled to sum to 1; mirrored at edges."""

    kernel: int = 21
    sigma: float = 3.5


@dataclass(frozen=True, kw_only=True)
class People:
    """The rounds of one image: a mask each.

    Attributes
    ----------
    image_id : str
    participants : who played, one round each
    masks : float32 (P, H, W) in [0, 1]
    weights : float (P,), one a participant
    """

    image_id: str
    participants: tuple[str, ...]
    masks: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rounds that count, by image, and what became of the others."""

    images: tuple[People, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def choose_rounds(
    rounds: pd.DataFrame,
    filters: Filters = Filters(),
    *,
    side: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> Chosen:
    """Keep the rounds that count, and turn each into a mask.

    Parameters
    ----------
    rounds : DataFrame
        Rows of an export's strokes in the order they were given, excluded people and catch rounds left out.
    filters : Filters
    side : int, optional
        Longer side of the masks; a smaller mask holds the share of each pixel that was uncovered. None keeps the pictures'.
    weights : mapping, optional
        Participant -> weight in the pooled maps; 1 where none is given.

    Returns
    -------
    Chosen
        Images in the order of their ids; `counts` says how many rounds each rule took, in the order of the rules.

    Raises
    ------
    LimenError
        If a column is missing, one image has pictures of several sizes, or a weight is not positive.
    """
    missing = [name for name in ROUND_COLUMNS if name not in rounds.columns]
    if missing:
        raise LimenError(
            f"importance maps: column {missing[0]} missing; there are {', '.join(map(str, rounds.columns))}."
        )
    given = dict(weights or {})
    if any(not value > 0 or not np.isfinite(value) for value in given.values()):
        raise LimenError("importance maps, weights: given a weight that is not a positive number.")
    boxes = rounds["strokes"].map(lambda text: len(json.loads(text)))
    kept, counts = rounds.assign(_boxes=boxes), {"rounds": len(rounds)}
    most = np.inf if filters.max_boxes is None else filters.max_boxes
    for name, rule in {
        "skipped": lambda table: (table["outcome"] != "skipped") | filters.skipped,
        "repeated": lambda table: ~table.duplicated(["participant_id", "item_id"]),
        "too few boxes": lambda table: table["_boxes"] >= max(filters.min_boxes, 1),
        "too many boxes": lambda table: table["_boxes"] <= most,
        "image with too few people": lambda table: (
            table.groupby("item_id")["participant_id"].transform("nunique") >= filters.min_people
        ),
    }.items():
        stays = rule(kept).astype(bool) if len(kept) else pd.Series(dtype=bool)
        counts[name] = int((~stays).sum())
        kept = kept[stays]
    counts["kept"] = len(kept)
    groups = kept.sort_values("participant_id", kind="stable").groupby("item_id", sort=True)
    return Chosen(images=tuple(_people(str(name), table, side, given) for name, table in groups), counts=counts)


def _people(image_id: str, table: pd.DataFrame, side: int | None, weights: Mapping[str, float]) -> People:
    sizes = sorted(set(zip(table["width"].astype(int), table["height"].astype(int), strict=True)))
    if len(sizes) > 1:
        raise LimenError(f"importance maps, image '{image_id}': pictures of several sizes, {sizes}; allowed is one.")
    masks = np.stack(
        [
            revealed_mask(json.loads(strokes), sizes[0], int(box))
            for strokes, box in zip(table["strokes"], table["box_px"], strict=True)
        ]
    )
    names = tuple(map(str, table["participant_id"]))
    return People(
        image_id=image_id,
        participants=names,
        masks=shrink(masks.astype(np.float32), side),
        weights=np.array([weights.get(name, 1.0) for name in names], dtype=float),
    )


def shrink(maps: np.ndarray, side: int | None) -> np.ndarray:
    """Average maps (N, H, W) over areas, so that the longer side has `side` pixels; None, or no smaller a side, keeps them."""
    longest = max(maps.shape[1:])
    if side is None or side >= longest:
        return maps
    shape = [max(1, round(length * side / longest)) for length in maps.shape[1:]]
    rows, columns = (_shares(old, new) for old, new in zip(maps.shape[1:], shape, strict=True))
    return np.asarray(np.einsum("ih,nhw,jw->nij", rows, maps, columns, optimize=True), dtype=maps.dtype)


def _shares(old: int, new: int) -> np.ndarray:
    """Return (new, old): which share of each new pixel is each old one."""
    edges = np.linspace(0, old, new + 1)
    low, high = np.maximum.outer(edges[:-1], np.arange(old)), np.minimum.outer(edges[1:], np.arange(1, old + 1))
    return np.maximum(high - low, 0) * new / old


def smooth(maps: np.ndarray, how: Smoothing) -> np.ndarray:
    """Blur maps (..., H, W).

    Raises
    ------
    LimenError
        If the kernel is not odd, or sigma is not positive.
    """
    if how.kernel < 1 or how.kernel % 2 == 0 or not how.sigma > 0:
        raise LimenError(
            f"importance maps, blur: given kernel {how.kernel} and sigma {how.sigma:g}; allowed are an odd kernel and a "
            "positive sigma."
        )
    reach = how.kernel // 2
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / how.sigma) ** 2)
    weights /= weights.sum()
    blurred = np.asarray(maps, dtype=float)
    for axis in (-2, -1):
        blurred = ndimage.correlate1d(blurred, weights, axis=axis, mode="reflect")
    return blurred


def pooled(people: People, how: Smoothing, who: np.ndarray | None = None) -> np.ndarray:
    """Return the blurred, weighted mean (H, W) of the masks of some people (index; all by default)."""
    chosen = slice(None) if who is None else who
    mean = np.average(people.masks[chosen].astype(float), axis=0, weights=people.weights[chosen])
    return smooth(mean, how)
