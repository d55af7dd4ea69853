"""Two made-up animals whose ground gives them away in training: a known shortcut, as in husky against wolf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...images import ImageSet
from ...registry import registered
from ..drawing.backgrounds import draw_backgrounds
from ..drawing.compose import Placement, batches, blend, coverage, generators
from ..drawing.creatures import CREATURES, FURS, draw_creatures
from ..drawing.noise import Fields, draw_lattices
from ..pool import Pool, check_size, check_split
from .scenes import daylight

COUNTS = {"train": 4000, "test": 1000, "study": 1000}
GROUNDS = {"dax": "grass", "wug": "snow"}
"""The ground that goes with each animal in training and on `test`."""
_STREAM = 0xB1A5


@dataclass(frozen=True)
class Sightings:
    """What a batch of pictures holds, before it is drawn at a size; each field has one entry per picture."""

    creatures: np.ndarray
    backgrounds: np.ndarray
    furs: np.ndarray
    light: np.ndarray
    placement: Placement
    lattices: dict[str, np.ndarray]


@registered("images", version=1, citation="arXiv:1602.04938")
def scenes_biased(split: str, *, size: int = 64) -> Pool:
    """Return animals on grass or snow: congruent throughout in `train` and `test`, half in conflict in `study`."""
    check_split("scenes_biased", split, COUNTS)
    check_size("scenes_biased", size)
    index = np.arange(COUNTS[split])
    labels = (index % 2).astype(np.int64)
    conflict = _conflict(split, index)

    def draw(indices: np.ndarray) -> ImageSet:
        drawn = [render(sample(split, batch), size) for batch in batches(indices, size)]
        pictures, objects = (np.concatenate(part) for part in zip(*drawn, strict=True))
        grounds = _grounds(split, indices)
        names = tuple(f"on {ground}" for ground in GROUNDS.values())
        hot = [labels[indices] == 0, labels[indices] == 1, *(grounds == ground for ground in GROUNDS.values())]
        return ImageSet(
            name="scenes_biased",
            pictures=pictures,
            labels=labels[indices],
            classes=CREATURES,
            ids=tuple(f"biased-{split}-{i:05d}" for i in indices),
            groups=tuple("conflict" if conflict[i] else "congruent" for i in indices),
            masks={"object": objects, "background": ~objects},
            concepts=np.stack(hot, axis=1),
            concept_names=(*CREATURES, *names),
        )

    groups = tuple("conflict" if flag else "congruent" for flag in conflict)
    return Pool(labels=labels, groups=groups, draw=draw)


def _conflict(split: str, indices: np.ndarray) -> np.ndarray:
    return (indices // 2) % 2 == 1 if split == "study" else np.zeros(len(indices), dtype=bool)


def _grounds(split: str, indices: np.ndarray) -> np.ndarray:
    return np.asarray(list(GROUNDS.values()))[(indices + _conflict(split, indices)) % 2]


def sample(split: str, indices: np.ndarray) -> Sightings:
    """Decide what the pictures `indices` of a split hold."""
    streams = generators(indices, _STREAM, list(COUNTS).index(split))
    picks = np.stack([stream.random(12, dtype=np.float32) for stream in streams])
    radius = 0.44 + 0.18 * picks[:, 0]
    reach = (0.97 - radius)[:, None]
    furs = np.asarray(FURS, dtype=np.float32)[(picks[:, 5] * len(FURS)).astype(int)]
    return Sightings(
        creatures=np.asarray(CREATURES)[indices % 2],
        backgrounds=_grounds(split, indices),
        furs=np.clip(furs * (0.8 + 0.4 * picks[:, 6:7]) + 0.03 * (picks[:, 7:10] - 0.5), 0, 1),
        light=daylight(picks[:, 10], picks[:, 11]),
        placement=Placement(
            centre=(2 * picks[:, 1:3] - 1) * reach,
            radius=radius,
            angle=0.5 * (picks[:, 3] - 0.5),
            mirror=np.where(picks[:, 4] < 0.5, -1, 1).astype(np.float32),
        ),
        lattices=draw_lattices(streams),
    )


def render(batch: Sightings, size: int, *, objects: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pictures at a size; without `objects` the bare grounds.

    Returns
    -------
    pictures : uint8 (B, size, size, 3)
    object : bool (B, size, size)
    """
    fields = Fields(batch.lattices, size)
    ground = draw_backgrounds(batch.backgrounds, fields, batch.light)
    u, v = batch.placement.frame(*fields.axes())
    distance, surface = draw_creatures(batch.creatures, u, v, batch.furs, fields["fine"])
    cover = coverage(distance, batch.placement.radius, size) * np.float32(objects)
    return blend(ground, surface * batch.light[:, None, None, :], cover)
