"""Pictures as plain arrays: the image-set type, reading, writing and hashing, without torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .registry import LimenError
from .store import sha256_bytes

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageSet:
    """A set of labelled pictures, in memory.

    Attributes
    ----------
    name : str
    pictures : uint8 (N, H, W, 3)
    labels : int64 (N,), index into `classes`
    classes : class names
    ids : N unique names, stable between runs
    groups : N names, '' where the set says nothing ('congruent', 'conflict' on `scenes_biased`)
    masks : name -> bool (N, H, W), exact regions where they are known ('object', 'background' ...)
    concepts : bool (N, C) multi-hot labels, or None
    concept_names : C names
    """

    name: str
    pictures: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] = ()
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    concepts: np.ndarray | None = None
    concept_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.pictures)
        if self.pictures.dtype != np.uint8 or self.pictures.ndim != 4 or self.pictures.shape[-1] != 3:
            raise LimenError(
                f"image set '{self.name}': given pictures of {self.pictures.dtype} {self.pictures.shape}, "
                "allowed is uint8 (N, H, W, 3)."
            )
        if len(self.labels) != count or len(self.ids) != count or (self.groups and len(self.groups) != count):
            raise LimenError(
                f"image set '{self.name}': {count} pictures but {len(self.labels)} labels, {len(self.ids)} ids "
                f"and {len(self.groups)} groups; they must agree."
            )
        if len(set(self.ids)) != count:
            raise LimenError(f"image set '{self.name}': image ids repeat; each must be unique.")

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> int:
        """Height of the pictures in pixels."""
        return int(self.pictures.shape[1])

    def take(self, indices: Sequence[int] | np.ndarray) -> ImageSet:
        """Return the set restricted to `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        return ImageSet(
            name=self.name,
            pictures=self.pictures[index],
            labels=self.labels[index],
            classes=self.classes,
            ids=tuple(self.ids[i] for i in index),
            groups=tuple(self.groups[i] for i in index) if self.groups else (),
            masks={name: mask[index] for name, mask in self.masks.items()},
            concepts=None if self.concepts is None else self.concepts[index],
            concept_names=self.concept_names,
        )


def read_picture(path: str | Path, size: int | None = None) -> np.ndarray:
    """Read one picture as uint8 (H, W, 3), optionally resized and centre-cropped to `size` pixels square.

    Raises
    ------
    LimenError
        If the file is missing, truncated or not a picture.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            picture = opened.convert("RGB")
    except FileNotFoundError:
        raise LimenError(f"{path}: no such picture.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise LimenError(
            f"{path}: cannot be read as a picture ({error}); allowed are {', '.join(sorted(SUFFIXES))} files."
        ) from None
    if size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return np.asarray(picture, dtype=np.uint8)


def encode_png(picture: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) or (H, W) as PNG bytes; equal pictures give equal bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, format="PNG", optimize=False)
    return stream.getvalue()


def picture_hash(picture: np.ndarray) -> str:
    """Return the SHA-256 of a picture's shape and pixels."""
    return sha256_bytes(str(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())


def occluded(picture: np.ndarray, box: Sequence[int], grey: int) -> np.ndarray:
    """Return a copy of a picture uint8 (H, W, 3) with a grey rectangle; `box` = left, top, right, bottom in pixels."""
    left, top, right, bottom = (int(edge) for edge in box)
    found = picture.copy()
    found[top:bottom, left:right] = grey
    return found
