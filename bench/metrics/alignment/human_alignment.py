"""Human alignment: the rank correlation of a map with where people look for the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...engine import Engine
from ...images import picture_hash
from ...records import Measurement
from ...registry import LimenError, metric
from ...store import Store
from .._correlation import average_ranks, grain

KIND = "human_maps"


@metric(
    version=1,
    citation="arXiv:2211.04533",
    cost="none",
    of="maps",
    direction="up",
    bounds=(-1.0, 1.0),
    null="the human maps of all other images in place of the image's own: exact",
    ceiling="split-half reliability of the human maps, Spearman-Brown",
    presets={"harmonization": {"ceiling": 0.65753}},
)
def human_alignment(
    engine: Engine,
    images: Tensor,
    targets: Tensor,
    maps: Tensor,
    *,
    human: str,
    match: Literal["pixels", "index"] = "pixels",
    credit: Literal["absolute", "positive", "signed"] = "absolute",
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    ceiling: Literal["split_half"] | Annotated[float, Field(gt=0, le=1)] = "split_half",
) -> Measurement:
    """Measure Spearman's rho over pixels between each map and the human importance map of its image.

    The comparison is made at the size of the human maps: larger maps are averaged over areas, smaller ones interpolated.

    Parameters
    ----------
    engine : Engine
    images : (N, 3, H, W), as the network eats them: what tells which human map belongs to which image
    targets : (N,) int64, unused
    maps : (N, 1, H, W), signed
    human : folder of human maps, as `limen analyze maps` prints it; its last part is the key of its content
    match : 'pixels' finds an image by its 8-bit pixels; 'index' by its place in the run, for a network that resizes pictures
    credit : what of a map is compared: its 'absolute' value (the published measure), its 'positive' part, or the 'signed' map
    share : of the pixels that count as the top, for IoU and Dice
    ceiling : 'split_half', of these people and images; or a published number, to print one's value beside a published one

    Returns
    -------
    Measurement
        Values (N,); NaN for an image without a human map or a map that is constant. `ceiling` (N,) is the same for all: the
        mean correlation of half maps of these images, stepped up.
        `extra` holds `normalised` (value over the ceiling; NaN where people do not agree), `iou` and `dice` of the top,
        `dice_null` (with all other images' human maps), and `people`.

    Raises
    ------
    LimenError
        If the folder holds no human maps, none of the images is among them, or maps and human maps differ in proportions.

    References
    ----------
    Fel, Felipe, Linsley, Serre 2022, arXiv:2211.04533.
    """
    held = _read(human)
    place = _places(engine, images, held, match)
    found = np.flatnonzero(place >= 0)
    if not found.size:
        raise LimenError(
            f"metric 'human_alignment', option 'human': none of the {len(images)} images is among the {len(held.pixels)} of "
            f"{human}; allowed are maps of the same pictures at the network's input size (or match='index')."
        )
    theirs = engine.prepare(held.maps[place[found]])
    ours = _at(_credit(maps, credit)[found.tolist()], theirs.shape[1:], human)
    rho, floor = _own_and_others(_ranks(ours), _ranks(theirs.flatten(1)))
    tops = [_top(one, share) for one in (ours, theirs.flatten(1))]
    shared, shared_null = _own_and_others(*tops)
    count = tops[0].sum(dim=1)
    # A constant map has no top.
    dice = torch.where(rho.isnan(), torch.nan, shared / count)
    top = ceiling if isinstance(ceiling, float) else _stepped_up(held.halves[place[found]])
    spread = _Spread(len(images), found)
    values = spread(engine.numpy(rho))
    return Measurement(
        values=values,
        null=spread(engine.numpy(floor)),
        ceiling=spread(np.full(len(found), top)),
        convention=(
            f"Spearman of the {credit} map with human maps {held.key} ({theirs.shape[1]} x {theirs.shape[2]}), "
            f"{len(found)} of {len(images)} images have one; ceiling "
            + (f"split-half, {top:.3f}" if ceiling == "split_half" else f"{top:g}, a published number")
        ),
        extra={
            "normalised": values / (top if top > 0 else np.nan),
            "iou": spread(engine.numpy(dice / (2 - dice))),
            "dice": spread(engine.numpy(dice)),
            "dice_null": spread(engine.numpy(shared_null / count)),
            "people": spread(held.people[place[found]].astype(float)),
        },
    )


@dataclass(frozen=True)
class _Held:
    """Human maps float32 (I, H, W), and what is known of each."""

    key: str
    maps: np.ndarray
    pixels: Sequence[str]
    index: np.ndarray
    people: np.ndarray
    halves: np.ndarray


@dataclass(frozen=True)
class _Spread:
    """Puts the values of some images at their places among all, NaN elsewhere."""

    count: int
    places: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        whole = np.full(self.count, np.nan)
        whole[self.places] = values
        return whole


def _read(human: str) -> _Held:
    path = Path(human)
    artifact = Store(path.parent.parent).get(KIND, path.name) if path.parent.name == KIND else None
    if artifact is None:
        raise LimenError(
            f"metric 'human_alignment', option 'human': given {human}; allowed is a folder .../{KIND}/<key>, as "
            "`limen analyze maps` writes it."
        )
    faults = artifact.verify()
    if faults:
        raise LimenError(f"metric 'human_alignment', option 'human': {faults[0]}")
    rows = artifact.rows()
    return _Held(
        key=artifact.key,
        maps=np.asarray(artifact.tensors("maps.safetensors")["maps"], dtype=np.float32),
        pixels=rows["pixels"].tolist(),
        index=rows["index"].to_numpy(),
        people=rows["people"].to_numpy(),
        halves=rows["halves"].to_numpy(dtype=float),
    )


def _places(engine: Engine, images: Tensor, held: _Held, match: str) -> np.ndarray:
    """Return for each image the row of its human map, -1 where there is none."""
    if match == "index":
        known = {int(index): row for row, index in enumerate(held.index)}
        return np.array([known.get(index, -1) for index in range(len(images))])
    network = engine.network
    mean, std = (np.asarray(values)[:, None, None] for values in (network.mean, network.std))
    # Rounding to 8 bits forgives what normalising changed in the last digits.
    plain = np.rint(255 * (engine.numpy(images) * std + mean)).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    rows = {pixels: row for row, pixels in enumerate(held.pixels)}
    return np.array([rows.get(picture_hash(picture), -1) for picture in plain])


def _stepped_up(halves: np.ndarray) -> float:
    """Return Spearman-Brown's reliability from the mean correlation of half maps."""
    known = halves[np.isfinite(halves)]
    rho = float(known.mean()) if known.size else np.nan
    return 2 * rho / (1 + rho)


def _credit(maps: Tensor, credit: str) -> Tensor:
    if credit == "absolute":
        return maps.abs()
    return maps.clamp(min=0) if credit == "positive" else maps


def _at(maps: Tensor, shape: Sequence[int], human: str) -> Tensor:
    """Return maps (N, 1, H, W) at another shape, as rows (N, pixels)."""
    height, width = maps.shape[2:]
    if round(height * shape[1] / width) != shape[0]:
        raise LimenError(
            f"metric 'human_alignment', option 'human': maps are {height} x {width}, human maps of {human} "
            f"{shape[0]} x {shape[1]}; allowed are equal proportions."
        )
    if (height, width) == tuple(shape):
        return maps.flatten(1)
    if height >= shape[0]:
        return torch.nn.functional.interpolate(maps, size=tuple(shape), mode="area").flatten(1)
    return torch.nn.functional.interpolate(maps, size=tuple(shape), mode="bilinear", align_corners=False).flatten(1)


def _ranks(values: Tensor) -> Tensor:
    """Return centred ranks (N, M) float64 of length 1; NaN where a row is constant."""
    ranks = average_ranks(values, grain(values)).double()
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    size = ranks.norm(dim=1, keepdim=True)
    return torch.where(size > 0, ranks / size, torch.nan)


def _top(values: Tensor, share: float) -> Tensor:
    """Mark the round(share x M) largest of each row, of ties the first, float64 (N, M)."""
    count = max(1, round(share * values.shape[1]))
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.float64).scatter_(1, order, 1.0)


def _own_and_others(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the product of each row with its own partner, and its mean with the partners of all other rows."""
    own = (ours * theirs).sum(dim=1)
    known = ~theirs.isnan().any(dim=1)
    mean = ours @ theirs[known].sum(dim=0)
    others = known.sum() - known.double()
    return own, torch.where(others > 0, (mean - torch.where(known, own, 0)) / others, torch.nan)
