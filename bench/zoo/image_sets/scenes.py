"""Procedural scenes: one object on a textured ground, with exact masks and multi-hot concept labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...images import ImageSet
from ...registry import registered
from ..drawing.backgrounds import BACKGROUNDS, draw_backgrounds
from ..drawing.compose import Placement, batches, blend, coverage, generators
from ..drawing.noise import Fields, draw_lattices
from ..drawing.shapes import SHAPES
from ..drawing.surfaces import COLOURS, TEXTURES, paint
from ..pool import Pool, check_size, check_split

COUNTS = {"train": 12000, "test": 2000}
CONCEPTS = (*SHAPES, *COLOURS, *TEXTURES, *(f"on {name}" for name in BACKGROUNDS))
TILT = np.float32(0.5)
"""Objects stand upright, give or take so many radians."""
_STREAM = 0x5CE0


@dataclass(frozen=True)
class Scenes:
    """What a batch of scenes holds, before it is drawn at a size; each field has one entry per picture."""

    shapes: np.ndarray
    colours: np.ndarray
    textures: np.ndarray
    backgrounds: np.ndarray
    tints: np.ndarray
    light: np.ndarray
    placement: Placement
    lattices: dict[str, np.ndarray]

    def concepts(self) -> np.ndarray:
        """Return multi-hot labels, bool (B, C), in the order of `CONCEPTS`."""
        named = (self.shapes, self.colours, self.textures, np.char.add("on ", self.backgrounds))
        return np.any([column[:, None] == np.asarray(CONCEPTS)[None] for column in named], axis=0)


@registered("images", version=1, citation="none")
def scenes(split: str, *, size: int = 64) -> Pool:
    """Return scenes of eight shapes in six colours, four patterns and on six grounds; the class is the shape."""
    check_split("scenes", split, COUNTS)
    check_size("scenes", size)
    labels = np.arange(COUNTS[split], dtype=np.int64) % len(SHAPES)

    def draw(indices: np.ndarray) -> ImageSet:
        drawn = [_draw(split, batch, size) for batch in batches(indices, size)]
        pictures, objects, concepts = (np.concatenate(part) for part in zip(*drawn, strict=True))
        return ImageSet(
            name="scenes",
            pictures=pictures,
            labels=labels[indices],
            classes=tuple(SHAPES),
            ids=tuple(f"scene-{split}-{i:05d}" for i in indices),
            masks={"object": objects, "background": ~objects},
            concepts=concepts,
            concept_names=CONCEPTS,
        )

    return Pool(labels=labels, draw=draw)


def _draw(split: str, indices: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = sample(split, indices)
    pictures, objects = render(batch, size)
    return pictures, objects, batch.concepts()


def sample(split: str, indices: np.ndarray) -> Scenes:
    """Decide what the scenes `indices` of a split hold."""
    streams = generators(indices, _STREAM, list(COUNTS).index(split))
    picks = np.stack([stream.random(12, dtype=np.float32) for stream in streams])
    shapes = np.asarray(list(SHAPES))[indices % len(SHAPES)]
    colours = _choose(COLOURS, picks[:, 0])
    radius = 0.34 + 0.30 * picks[:, 3]
    reach = (0.98 - radius)[:, None]
    placement = Placement(
        centre=(2 * picks[:, 4:6] - 1) * reach,
        radius=radius,
        angle=TILT * (2 * picks[:, 6] - 1),
        mirror=np.ones(len(indices), dtype=np.float32),
    )
    base = np.asarray([COLOURS[str(name)] for name in colours], dtype=np.float32)
    return Scenes(
        shapes=shapes,
        colours=colours,
        textures=_choose(TEXTURES, picks[:, 1]),
        backgrounds=_choose(BACKGROUNDS, picks[:, 2]),
        tints=np.clip(base + 0.10 * (picks[:, 7:10] - 0.5), 0, 1),
        light=daylight(picks[:, 10], picks[:, 11]),
        placement=placement,
        lattices=draw_lattices(streams),
    )


def daylight(brightness: np.ndarray, warmth: np.ndarray) -> np.ndarray:
    """Turn two uniform draws (B,) into a factor per colour channel, float32 (B, 3)."""
    level = 0.82 + 0.26 * brightness
    shift = 0.08 * (warmth - 0.5)
    return np.stack([level + shift, level, level - shift], axis=1).astype(np.float32)


def render(batch: Scenes, size: int, *, objects: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draw scenes at a size; without `objects` the bare grounds.

    Returns
    -------
    pictures : uint8 (B, size, size, 3)
    object : bool (B, size, size)
    """
    fields = Fields(batch.lattices, size)
    ground = draw_backgrounds(batch.backgrounds, fields, batch.light)
    u, v = batch.placement.frame(*fields.axes())
    distance = np.empty_like(u)
    for name in np.unique(batch.shapes):
        members = np.flatnonzero(batch.shapes == name)
        distance[members] = SHAPES[str(name)](u[members], v[members])
    cover = coverage(distance, batch.placement.radius, size) * np.float32(objects)
    return blend(ground, paint(u, v, distance, batch.textures, batch.tints), cover)


def _choose(names: dict, picks: np.ndarray) -> np.ndarray:
    return np.asarray(list(names))[(picks * len(names)).astype(int)]
