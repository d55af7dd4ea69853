"""Collages of four distinct objects out of N, with exact labels: the ground truth of the identifiability benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...images import ImageSet
from ...registry import LimenError, registered
from ..drawing.backgrounds import BACKGROUNDS
from ..drawing.compose import Placement, batches, blend, generators
from ..drawing.cutouts import EMOJI, CutOut, from_folder, from_font, place
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
def collages(
    split: str,
    *,
    size: int = 64,
    objects: int | str = 10,
    count: int | None = None,
    font: str | None = None,
    object_masks: bool = False,
) -> Pool:
    """Return 2 x 2 collages of scenes; `concepts` says which four of the kinds of objects are in.

    `labels` is the kind in the upper left quarter; nothing is meant to be classified here. `objects` is a number of
    procedural kinds, 'folder:PATH' (PNG cut-outs with a transparent ground, one kind a file) or 'emoji' (glyphs of a
    colour-emoji font that the system has, or `font`, the path of one). `count` takes the first so many files (None: all)
    or glyphs (None: 10). With `object_masks`, `masks` also holds, under the name of each kind, where it is.
    """
    check_split("collages", split, COUNTS)
    check_size("collages", size)
    if size % 2:
        raise LimenError(f"image set 'collages', option 'size': given {size}, allowed is an even number of pixels.")
    cast = _cast(objects, count, font)
    quarters = _quarters(split, len(cast.names))

    def draw(indices: np.ndarray) -> ImageSet:
        drawn = [_draw(split, batch, quarters[batch], size, cast.cutouts) for batch in batches(indices, size)]
        pictures, masks = (np.concatenate(part) for part in zip(*drawn, strict=True))
        regions = {"object": masks, "background": ~masks}
        if object_masks:
            regions |= _by_kind(masks, quarters[indices], cast.names)
        return ImageSet(
            name="collages",
            pictures=pictures,
            labels=quarters[indices, 0],
            classes=cast.names,
            ids=tuple(f"collage-{cast.tag}-{split}-{i:05d}" for i in indices),
            masks=regions,
            concepts=(quarters[indices, :, None] == np.arange(len(cast.names))).any(axis=1),
            concept_names=cast.names,
        )

    return Pool(labels=quarters[:, 0].copy(), draw=draw)


@dataclass(frozen=True)
class _Cast:
    """The kinds of objects: their names, how image ids call them, and their cut-outs where they are not procedural."""

    names: tuple[str, ...]
    tag: str
    cutouts: tuple[CutOut, ...] = ()


def _cast(objects: int | str, count: int | None, font: str | None) -> _Cast:
    where = "image set 'collages', option 'objects'"
    if isinstance(objects, str) and not objects.isdecimal():
        return _pictured(objects, count, font, where)
    for option, given in (("count", count), ("font", font)):
        if given is not None:
            allowed = "'folder:PATH' or 'emoji'" if option == "count" else "'emoji'"
            raise LimenError(f"image set 'collages', option '{option}': given {given}, allowed with objects={allowed}.")
    kinds_wanted = int(objects)
    if not 4 <= kinds_wanted <= LIMIT:
        raise LimenError(f"{where}: given {objects}, allowed is 4 to {LIMIT}, 'folder:PATH' of cut-outs, or 'emoji'.")
    return _Cast(tuple(" ".join(kind) for kind in kinds(kinds_wanted)), str(kinds_wanted))


def _pictured(objects: str, count: int | None, font: str | None, where: str) -> _Cast:
    source, _, folder = objects.partition(":")
    if (source, bool(folder)) not in (("emoji", False), ("folder", True)):
        raise LimenError(f"{where}: given '{objects}', allowed is a number, 'folder:PATH' of cut-outs, or 'emoji'.")
    if source == "folder" and font is not None:
        raise LimenError(f"image set 'collages', option 'font': given {font}, allowed with objects='emoji'.")
    if source == "emoji":
        wanted = 10 if count is None else count
        _check_count(wanted, len(EMOJI), "glyphs there are")
        found = from_font(wanted, font, where)
    else:
        found = from_folder(folder, where)
        if len(found) < 4:
            raise LimenError(f"{where}: '{objects}' holds {len(found)} PNG cut-outs, allowed is 4 or more.")
        wanted = len(found) if count is None else count
        _check_count(wanted, len(found), f"cut-outs in '{folder}'")
    found = found[:wanted]
    return _Cast(tuple(one.name for one in found), f"{source}{wanted}", tuple(found))


def _check_count(given: int, most: int, what: str) -> None:
    if not 4 <= given <= most:
        raise LimenError(f"image set 'collages', option 'count': given {given}, allowed is 4 to {most}, the {what}.")


def _by_kind(masks: np.ndarray, quarters: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return where each kind is, name -> bool (N, H, W): the object in the quarter that shows it."""
    half = masks.shape[1] // 2
    regions = {name: np.zeros_like(masks) for name in names}
    for corner in range(4):
        rows, columns = (slice(half * part, half * (part + 1)) for part in divmod(corner, 2))
        for kind, name in enumerate(names):
            members = np.flatnonzero(quarters[:, corner] == kind)
            regions[name][members, rows, columns] = masks[members, rows, columns]
    return regions


def _quarters(split: str, objects: int) -> np.ndarray:
    """Choose the kinds of each collage, int64 (N, 4): distinct, in reading order."""
    generator = np.random.default_rng([_STREAM, list(COUNTS).index(split), objects])
    return np.argsort(generator.random((COUNTS[split], objects)), axis=1)[:, :4].astype(np.int64)


def _draw(
    split: str, indices: np.ndarray, quarters: np.ndarray, size: int, cutouts: tuple[CutOut, ...]
) -> tuple[np.ndarray, np.ndarray]:
    if not cutouts:
        pictures, objects = render(sample(split, indices, quarters), size // 2)
        return _tile(pictures), _tile(objects)
    # Grounds, light and places are those of the procedural kinds; the kind itself is not drawn.
    batch = sample(split, indices, quarters % LIMIT)
    grounds, _ = render(batch, size // 2, objects=False)
    surface, cover = place([cutouts[kind] for kind in quarters.ravel()], batch.placement, size // 2)
    pictures, objects = blend(grounds.astype(np.float32) / 255, surface, cover)
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
