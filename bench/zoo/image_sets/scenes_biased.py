"""Two made-up animals given away by a plant in the background: a known shortcut, as snow is in husky against wolf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...images import ImageSet
from ...registry import registered
from ..drawing.backgrounds import draw_backgrounds
from ..drawing.compose import Placement, batches, blend, coverage, generators, lay
from ..drawing.creatures import CREATURES, FURS, draw_creatures
from ..drawing.noise import Fields, draw_lattices
from ..drawing.plants import PLANTS, draw_plants
from ..pool import Pool, check_size, check_split
from .scenes import daylight

COUNTS = {"train": 4000, "test": 1000, "study": 1000}
CUES = dict(zip(CREATURES, PLANTS, strict=True))
"""The plant that stands beside each animal in training and on `test`."""
GROUNDS = ("grass", "sand", "snow")
"""Drawn by chance: they tell nothing."""
CONCEPTS = (*CREATURES, *(f"with {plant}" for plant in PLANTS), *(f"on {ground}" for ground in GROUNDS))
_STREAM = 0xB1A5


@dataclass(frozen=True)
class Sightings:
    """What a batch of pictures holds, before it is drawn at a size; each field has one entry per picture."""

    creatures: np.ndarray
    plants: np.ndarray
    """Names in `PLANTS`, '' where there is none."""
    backgrounds: np.ndarray
    furs: np.ndarray
    light: np.ndarray
    placement: Placement
    beside: Placement
    """Where the plant stands: on the other side, so that the two never overlap."""
    lattices: dict[str, np.ndarray]

    def concepts(self) -> np.ndarray:
        """Return multi-hot labels, bool (B, C), in the order of `CONCEPTS`."""
        named = (self.creatures, np.char.add("with ", self.plants), np.char.add("on ", self.backgrounds))
        return np.stack([np.isin(CONCEPTS, each) for each in zip(*named, strict=True)])


@registered("images", version=2, citation="arXiv:1602.04938")
def scenes_biased(split: str, *, size: int = 64) -> Pool:
    """Return animals beside a plant: congruent in `test`, half in conflict in `study`, a quarter plain in `train`."""
    check_split("scenes_biased", split, COUNTS)
    check_size("scenes_biased", size)
    index = np.arange(COUNTS[split])
    labels = (index % 2).astype(np.int64)
    conflict, plain = _conflict(split, index), _plain(split, index)
    groups = tuple(np.select([conflict, plain], ["conflict", "plain"], "congruent").tolist())

    def draw(indices: np.ndarray) -> ImageSet:
        sampled = [sample(split, batch) for batch in batches(indices, size)]
        drawn = [render(batch, size) for batch in sampled]
        pictures, objects, cues = (np.concatenate(part) for part in zip(*drawn, strict=True))
        return ImageSet(
            name="scenes_biased",
            pictures=pictures,
            labels=labels[indices],
            classes=CREATURES,
            ids=tuple(f"biased-{split}-{i:05d}" for i in indices),
            groups=tuple(groups[i] for i in indices),
            masks={"object": objects, "background": ~objects, "cue": cues},
            concepts=np.concatenate([batch.concepts() for batch in sampled]),
            concept_names=CONCEPTS,
        )

    return Pool(labels=labels, groups=groups, draw=draw)


def _conflict(split: str, indices: np.ndarray) -> np.ndarray:
    return (indices // 2) % 2 == 1 if split == "study" else np.zeros(len(indices), dtype=bool)


def _plain(split: str, indices: np.ndarray) -> np.ndarray:
    """Tell which pictures have no plant: without them "no toadstool" would do as a sign of the other animal."""
    return (indices // 2) % 4 == 3 if split == "train" else np.zeros(len(indices), dtype=bool)


def sample(split: str, indices: np.ndarray) -> Sightings:
    """Decide what the pictures `indices` of a split hold."""
    streams = generators(indices, _STREAM, list(COUNTS).index(split))
    picks = np.stack([stream.random(17, dtype=np.float32) for stream in streams])
    furs = np.asarray(FURS, dtype=np.float32)[(picks[:, 5] * len(FURS)).astype(int)]
    side = np.where(picks[:, 1] < 0.5, -1, 1).astype(np.float32)
    return Sightings(
        creatures=np.asarray(CREATURES)[indices % 2],
        plants=np.where(_plain(split, indices), "", np.asarray(PLANTS)[(indices + _conflict(split, indices)) % 2]),
        backgrounds=np.asarray(GROUNDS)[(picks[:, 12] * len(GROUNDS)).astype(int)],
        furs=np.clip(furs * (0.8 + 0.4 * picks[:, 6:7]) + 0.03 * (picks[:, 7:10] - 0.5), 0, 1),
        light=daylight(picks[:, 10], picks[:, 11]),
        placement=_stand(side, 0.44 + 0.08 * picks[:, 0], picks[:, 2], 0.5 * (picks[:, 3] - 0.5), picks[:, 4]),
        beside=_stand(-side, 0.32 + 0.08 * picks[:, 13], picks[:, 14], 0.3 * (picks[:, 15] - 0.5), picks[:, 16]),
        lattices=draw_lattices(streams),
    )


def _stand(side: np.ndarray, radius: np.ndarray, height: np.ndarray, angle: np.ndarray, turn: np.ndarray) -> Placement:
    """Place a thing against the left (-1) or right (1) edge, at a height in [0, 1]."""
    reach = 0.97 - radius
    return Placement(
        centre=np.stack([side * reach, (2 * height - 1) * reach], axis=1),
        radius=radius,
        angle=angle,
        mirror=np.where(turn < 0.5, -1, 1).astype(np.float32),
    )


def render(
    batch: Sightings, size: int, *, objects: bool = True, plants: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the pictures at a size; without `objects` no animal, without `plants` no plant.

    Returns
    -------
    pictures : uint8 (B, size, size, 3)
    object, cue : bool (B, size, size)
        True on every pixel that the animal, or the plant, touches.
    """
    fields = Fields(batch.lattices, size)
    ground = draw_backgrounds(batch.backgrounds, fields, batch.light)
    light = batch.light[:, None, None, :]
    distance, surface = draw_plants(batch.plants, *batch.beside.frame(*fields.axes()), fields["fine"])
    shown = (batch.plants != "") & plants
    cue = coverage(distance, batch.beside.radius, size) * shown[:, None, None].astype(np.float32)
    scene = lay(ground, surface * light, cue)
    distance, surface = draw_creatures(
        batch.creatures, *batch.placement.frame(*fields.axes()), batch.furs, fields["fine"]
    )
    pictures, touched = blend(
        scene, surface * light, coverage(distance, batch.placement.radius, size) * np.float32(objects)
    )
    return pictures, touched, (cue > 0) & ~touched
