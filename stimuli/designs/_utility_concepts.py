"""Concept explanations in the utility protocol: the concepts that weigh most in an image, where they are, what they look like.

Each row of the picture is a concept: its map on the image, then crops of other images that hold it. No crop is cut from
an image of the study, so that what is learnt from a crop is no answer to a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.overlay import enlarge, overlay
from bench.registry import LimenError

from ..protocol import Material
from ..render import Album

ROLE = "concept_explanations/"


@dataclass(frozen=True)
class Concepts:
    """What is drawn of the concepts of some images.

    Attributes
    ----------
    maps : float (n, m, h, w)
        Codes of the m concepts that weigh most in each image, most important first.
    numbers : int (n, m)
        Which concepts of the image's class these are.
    crops : list (n) of list (m) of list of uint8 (a, b, 3)
        Parts of other images that hold the concept most, strongest first.
    sources : list (n) of list (m) of list of str
        The images they are cut from.
    """

    maps: np.ndarray
    numbers: np.ndarray
    crops: list[list[list[np.ndarray]]]
    sources: list[list[list[str]]]


@dataclass(frozen=True)
class _Bank:
    """The arrays of the artifact, and the images they are about."""

    tensors: Mapping[str, np.ndarray]
    donors: pd.DataFrame
    """Images that crops may be cut from, by row number."""


def top_concepts(material: Material, label: str, shown: pd.DataFrame, count: int, crops: int) -> Concepts:
    """Find the concepts to show of some images.

    Parameters
    ----------
    material
        The run; its plan has the key 'craft'.
    label
        Of the concept explanations.
    shown
        The images of the study, in the order of the result.
    count, crops
        Concepts an image, and crops a concept, each of an image of its own.

    Raises
    ------
    LimenError
        If the artifact is of other images, or an image has too few concepts that other images hold.
    """
    tensors = material.artifact(ROLE + label).tensors("concepts.safetensors")
    where = f"study '{material.study.study}', concepts '{label}'"
    if len(tensors["importance"]) != len(material.images):
        raise LimenError(
            f"{where}: given concepts of {len(tensors['importance'])} images, allowed is {len(material.images)}, one row for "
            "each image of the run."
        )
    bare = material.images.drop_duplicates("sha256")
    donors = bare[~bare["sha256"].isin(set(shown["sha256"]))].set_index("index")
    bank = _Bank(tensors, donors)
    found: dict[int, dict[int, list[tuple[int, int]]]] = {}
    maps, numbers, cuts, sources = [], [], [], []
    for index, image in zip(shown["index"], shown["image_id"], strict=True):
        answered = int(tensors["answered"][index])
        held = found.setdefault(answered, _held(bank, answered, crops))
        weights = tensors["importance"][index]
        order = [int(k) for k in np.argsort(-weights, kind="stable") if int(k) in held][:count]
        if len(order) < count:
            raise LimenError(
                f"{where}, image '{image}': given {len(order)} concepts that {crops} images outside the study hold, allowed "
                f"are {count} or more; give the plan more images, or lower design.concepts or design.crops."
            )
        maps.append(tensors["codes"][index][order])
        numbers.append(order)
        cuts.append([[_cut(material, bank, *place) for place in held[k]] for k in order])
        sources.append([[str(donors.loc[donor, "image_id"]) for donor, _ in held[k]] for k in order])
    return Concepts(np.stack(maps), np.asarray(numbers), cuts, sources)


def _held(bank: _Bank, answered: int, crops: int) -> dict[int, list[tuple[int, int]]]:
    """Return concept -> the best crop (image, crop) of each of the images outside the study that hold it most."""
    members = [int(i) for i in bank.donors.index if bank.tensors["answered"][i] == answered]
    if not members:
        return {}
    codes = bank.tensors["crop_codes"][members]
    best = codes.max(axis=1)
    found = {}
    for concept in range(codes.shape[2]):
        order = np.argsort(-best[:, concept], kind="stable")[:crops]
        if len(order) == crops and best[order[-1], concept] > 0:
            found[concept] = [(members[i], int(codes[i, :, concept].argmax())) for i in order]
    return found


def _cut(material: Material, bank: _Bank, image: int, crop: int) -> np.ndarray:
    picture = material.pictures[image]
    height, width = picture.shape[:2]
    top, left, tall, wide = bank.tensors["crops"][crop] * np.array([height, width, height, width])
    rows, columns = max(1, round(tall)), max(1, round(wide))
    first, side = min(round(top), height - rows), min(round(left), width - columns)
    return np.asarray(picture[first : first + rows, side : side + columns])


def board(
    album: Album,
    picture: np.ndarray,
    maps: np.ndarray,
    crops: list[list[np.ndarray]],
    ends: Sequence[tuple[float, float]],
    size: int,
) -> str:
    """Draw the concepts of one image and keep the picture: a row a concept, its map first, then its crops.

    Parameters
    ----------
    album
        Takes the picture.
    picture
        uint8 (H, W, 3).
    maps
        (m, h, w), most important concept first.
    crops
        For each concept, as many uint8 pictures.
    ends
        For each concept, the values drawn at no and at full strength.
    size
        Width of the board in pixels. Between the tiles it is transparent, so that it stands on a light and on a dark page.

    Returns
    -------
    SHA-256 of the picture
    """
    columns = 1 + len(crops[0])
    gap = max(2, size // 64)
    side = (size - gap * (columns - 1)) // columns
    rows = [
        [overlay(picture, one, span, side), *(_fitted(crop, picture, side) for crop in row)]
        for one, row, span in zip(maps, crops, ends, strict=True)
    ]
    tall = rows[0][0].shape[0]
    canvas = np.zeros((len(rows) * tall + gap * (len(rows) - 1), size, 4), dtype=np.uint8)
    canvas[..., :3] = 128
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = i * (tall + gap), j * (side + gap)
            canvas[top : top + tall, left : left + side, :3] = tile
            canvas[top : top + tall, left : left + side, 3] = 255
    return album.add(canvas)


def _fitted(crop: np.ndarray, picture: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a crop to exactly the tile of its picture."""
    tall = max(1, round(side * picture.shape[0] / picture.shape[1]))
    tile = enlarge(crop, side)
    if len(tile) >= tall:
        return tile[:tall]
    return np.pad(tile, ((0, tall - len(tile)), (0, 0), (0, 0)), mode="edge")
