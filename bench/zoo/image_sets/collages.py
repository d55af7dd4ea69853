"""Collages of four distinct objects out of N, with exact labels: the ground truth of the identifiability benchmark."""

from __future__ import annotations

import numpy as np

from ...images import ImageSet
from ...registry import LimenError, registered
from ..drawing.backgrounds import BACKGROUNDS
from ..drawing.compose import Placement, batches, generators
from ..drawing.noise import draw_lattices
from ..drawing.shapes import SHAPES
from ..drawing.surfaces import COLOURS, TEXTURES
from ..pool import Pool, check_size, check_split
from .scenes import TILT, Scenes, daylight, render

COUNTS = {"train": 2000, "test": 2000}
LIMIT = len(SHAPES) * len(COLOURS) // 2
_STREAM = 0xC011


def kinds(objects: int) -> tuple[tuple[str, str, str], ...]:
    """List the first `objects` kinds as (texture, colour, shape); shapes, colours and textures repeat across kinds."""
    shapes, colours, textures = list(SHAPES), list(COLOURS), list(TEXTURES)
    return tuple(
        (textures[(i + i // 4) % len(textures)], colours[i % len(colours)], shapes[i % len(shapes)])
        for i in range(objects)
    )


@registered("images", version=1, citation="arXiv:2502.12892")
def collages(split: str, *, size: int = 64, objects: int = 10) -> Pool:
    """Return 2 x 2 collages of scenes; `concepts` says which four of the `objects` kinds are in.

    `labels` is the kind in the upper left quarter; nothing is meant to be classified here.
    """
    check_split("collages", split, COUNTS)
    check_size("collages", size)
    if size % 2:
        raise LimenError(f"image set 'collages', option 'size': given {size}, allowed is an even number of pixels.")
    if not 4 <= objects <= LIMIT:
        raise LimenError(f"image set 'collages', option 'objects': given {objects}, allowed is 4 to {LIMIT}.")
    quarters = _quarters(split, objects)
    names = tuple(" ".join(kind) for kind in kinds(objects))

    def draw(indices: np.ndarray) -> ImageSet:
        drawn = [_draw(split, batch, quarters[batch], size) for batch in batches(indices, size)]
        pictures, masks = (np.concatenate(part) for part in zip(*drawn, strict=True))
        return ImageSet(
            name="collages",
            pictures=pictures,
            labels=quarters[indices, 0],
            classes=names,
            ids=tuple(f"collage-{objects}-{split}-{i:05d}" for i in indices),
            masks={"object": masks, "background": ~masks},
            concepts=(quarters[indices, :, None] == np.arange(objects)).any(axis=1),
            concept_names=names,
        )

    return Pool(labels=quarters[:, 0].copy(), draw=draw)


def _quarters(split: str, objects: int) -> np.ndarray:
    """Choose the kinds of each collage, int64 (N, 4): distinct, in reading order."""
    generator = np.random.default_rng([_STREAM, list(COUNTS).index(split), objects])
    return np.argsort(generator.random((COUNTS[split], objects)), axis=1)[:, :4].astype(np.int64)


def _draw(split: str, indices: np.ndarray, quarters: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    batch = sample(split, indices, quarters)
    pictures, objects = render(batch, size // 2)
    return _tile(pictures), _tile(objects)


def _tile(quarters: np.ndarray) -> np.ndarray:
    """Join (4B, s, s, ...) into (B, 2s, 2s, ...), in reading order."""
    side = quarters.shape[1]
    grid = quarters.reshape(-1, 2, 2, *quarters.shape[1:])
    return np.moveaxis(grid, 3, 2).reshape(len(grid), 2 * side, 2 * side, *quarters.shape[3:])


def sample(split: str, indices: np.ndarray, quarters: np.ndarray) -> Scenes:
    """Decide what the four scenes of each collage hold; scenes 4i..4i+3 belong to collage `indices[i]`."""
    cells = (indices[:, None] * 4 + np.arange(4)).ravel()
    streams = generators(cells, _STREAM, list(COUNTS).index(split), 1)
    picks = np.stack([stream.random(10, dtype=np.float32) for stream in streams])
    catalogue = np.asarray(kinds(LIMIT))[quarters.ravel()]
    textures, colours, shapes = catalogue.T
    radius = 0.50 + 0.25 * picks[:, 0]
    base = np.asarray([COLOURS[str(name)] for name in colours], dtype=np.float32)
    return Scenes(
        shapes=shapes,
        colours=colours,
        textures=textures,
        backgrounds=np.asarray(list(BACKGROUNDS))[(picks[:, 1] * len(BACKGROUNDS)).astype(int)],
        tints=np.clip(base + 0.10 * (picks[:, 2:5] - 0.5), 0, 1),
        light=daylight(picks[:, 5], picks[:, 6]),
        placement=Placement(
            centre=(2 * picks[:, 7:9] - 1) * (0.98 - radius)[:, None],
            radius=radius,
            angle=TILT * (2 * picks[:, 9] - 1),
            mirror=np.ones(len(cells), dtype=np.float32),
        ),
        lattices=draw_lattices(streams),
    )
