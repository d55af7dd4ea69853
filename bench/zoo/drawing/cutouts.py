"""Objects that are pictures with a transparent ground: cut-outs from a folder, or the glyphs of a colour-emoji font."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from scipy.ndimage import map_coordinates

from ...registry import LimenError
from .compose import Placement

EMOJI = (
    "\U0001f34e\U0001f697\U0001f436\U0001f332\U0001f388\U0001f3b8\U0001f511\U0001f41f\U0001f3e0\U0001f33b"
    "\U0001f344\U0001f6b2\U0001f418\U0001f354\U0001f680\U0001f40c\U0001f453\U0001f9e6\U0001f955\U0001f98b"
    "\U0001f3c0\U0001f422\U0001f48e\U0001f6d2"
)
"""Things of distinct shape and colour, one glyph each; a smaller choice is part of a larger one."""
FONT_SIZES = (109, 160, 136, 128, 96, 64, 32)
"""Bitmap fonts have one size: 109 in Noto (CBDT), others elsewhere; vector fonts take the first."""
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",
    "~/.local/share/fonts/NotoColorEmoji.ttf",
    "~/.fonts/NotoColorEmoji.ttf",
    "/System/Library/Fonts/Apple Color Emoji.ttc",
    "C:/Windows/Fonts/seguiemj.ttf",
)
_NO_CHARACTER = "\U0010ffff"
_VISIBLE = 1 / 255
_LEAST_ALPHA = 8


@dataclass(frozen=True)
class CutOut:
    """An object on a transparent ground.

    Attributes
    ----------
    name : str
    pixels : float32 (side, side, 4) in [0, 1]
        Colours multiplied by alpha; the object is centred and fills a disc of the square's width.
    """

    name: str
    pixels: np.ndarray


def from_folder(folder: str, where: str) -> list[CutOut]:
    """Read every PNG of a folder, in the order of names.

    Raises
    ------
    LimenError
        If the folder is missing, or a file has no transparent ground or nothing on it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise LimenError(f"{where}: given 'folder:{folder}', no such folder; allowed is a folder of PNG cut-outs.")
    found = []
    for path in sorted(root.glob("*.png")):
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGBA")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise LimenError(f"{path}: cannot be read as a picture ({error}); allowed are PNG cut-outs.") from None
        if np.asarray(picture)[..., 3].min() == 255:
            raise LimenError(f"{path}: has no transparent pixel; allowed is an object on a transparent ground (RGBA).")
        found.append(_cut(path.stem.replace("_", " "), picture, str(path)))
    return found


def from_font(count: int, font: str | None, where: str) -> list[CutOut]:
    """Render the first `count` of `EMOJI`.

    Parameters
    ----------
    font : path of a colour-emoji font, or None to look for one that the system has

    Raises
    ------
    LimenError
        If there is no such font, or it lacks a glyph.
    """
    path = find_font(where) if font is None else font
    face = _face(path, where)
    missing = _glyph(face, _NO_CHARACTER).tobytes()
    lacks = [glyph for glyph in EMOJI[:count] if _glyph(face, glyph).tobytes() == missing]
    if lacks:
        raise LimenError(
            f"{where}: font {path} lacks {len(lacks)} of {count} glyphs, first {unicodedata.name(lacks[0])}; allowed is "
            "a colour-emoji font."
        )
    return [
        _cut(unicodedata.name(glyph).lower(), _glyph(face, glyph), f"{where}, font {path}, glyph {ord(glyph):#x}")
        for glyph in EMOJI[:count]
    ]


def find_font(where: str, paths: Sequence[str] = FONTS) -> str:
    """Return the path of a colour-emoji font: what fontconfig knows, then the usual places.

    Raises
    ------
    LimenError
        Says where it was looked for.
    """
    if shutil.which("fc-list"):
        listed = subprocess.run(["fc-list", ":color=true", "file"], capture_output=True, text=True, check=False).stdout
        files = sorted(line.rstrip(": ") for line in listed.splitlines())
        for file in files:
            if "emoji" in Path(file).name.lower():
                return file
    for known in paths:
        if Path(known).expanduser().is_file():
            return str(Path(known).expanduser())
    raise LimenError(
        f"{where}: given 'emoji', and no colour-emoji font was found by fontconfig or in {len(paths)} usual places; "
        "allowed is a system with one (Debian: fonts-noto-color-emoji), or the option 'font' with the path of one."
    )


def _face(path: str, where: str) -> ImageFont.FreeTypeFont:
    reason = ""
    for size in FONT_SIZES:
        try:
            return ImageFont.truetype(path, size)
        except OSError as error:
            reason = str(error)
    raise LimenError(f"{where}: font {path} cannot be opened ({reason}); allowed is a TrueType or OpenType font.")


def _glyph(face: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    left, top, right, bottom = (int(edge) for edge in face.getbbox(glyph))
    canvas = Image.new("RGBA", (max(1, right - left) + 4, max(1, bottom - top) + 4), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((2 - left, 2 - top), glyph, font=face, embedded_color=True, fill=(60, 60, 60, 255))
    return canvas


def _cut(name: str, picture: Image.Image, where: str) -> CutOut:
    """Trim a picture to what is visible, and centre that in a square whose inscribed disc holds it."""
    pixels = np.asarray(picture, dtype=np.float32) / 255
    seen = pixels[..., 3] >= _LEAST_ALPHA / 255
    if not seen.any():
        raise LimenError(f"{where}: shows nothing; allowed is an object on a transparent ground.")
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels = pixels * np.where(seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1, 0)[..., None]
    pixels[..., :3] *= pixels[..., 3:]
    height, width = pixels.shape[:2]
    side = int(np.ceil(np.hypot(height, width)))
    square = np.zeros((side, side, 4), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return CutOut(name, square)


def place(cutouts: Sequence[CutOut], placement: Placement, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Put one cut-out into each picture of a batch.

    Returns
    -------
    surface : float32 (B, size, size, 3)
    cover : float32 (B, size, size), share of each pixel that the object covers
    """
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2 - 1
    u, v = placement.frame(axis[None, None, :], axis[None, :, None])
    drawn = np.stack(
        [_sampled(one, v[index], u[index], size * placement.radius[index]) for index, one in enumerate(cutouts)]
    )
    cover = np.where(drawn[..., 3] >= _VISIBLE, np.clip(drawn[..., 3], 0, 1), 0).astype(np.float32)
    surface = drawn[..., :3] / np.where(cover > 0, cover, 1)[..., None]
    return np.clip(surface, 0, 1).astype(np.float32), cover


def _sampled(cutout: CutOut, down: np.ndarray, across: np.ndarray, width: float) -> np.ndarray:
    """Read a cut-out, first shrunk to the size it is drawn at so that nothing is skipped, at places in [-1, 1]."""
    side = max(2, min(len(cutout.pixels), round(float(width))))
    shrunk = np.stack(
        [
            np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BOX))
            for channel in np.moveaxis(cutout.pixels, 2, 0)
        ]
    )
    places = np.stack([(down + 1) / 2 * side - 0.5, (across + 1) / 2 * side - 0.5])
    read = [map_coordinates(channel, places, order=1, mode="constant") for channel in shrunk]
    return np.stack(read, axis=-1)
