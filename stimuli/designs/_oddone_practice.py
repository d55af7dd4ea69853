"""Practice of the odd-one-out protocol: grey patterns, which no rule of the study is about."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ..balance import seeded
from ..records import ItemRow
from ..render import Album

PATTERNS = ("stripes", "dots", "checks", "rings")
OVERSAMPLE = 4
LIGHT, DARK = 215, 70


@dataclass(frozen=True)
class Question:
    """One practice problem: its pictures in displayed order, and the place of the odd one."""

    item: ItemRow
    pictures: tuple[str, ...]
    odd: int


def practice_questions(album: Album, count: int, size: int, seed: int) -> tuple[Question, ...]:
    """Draw practice problems: three pictures have one pattern, coarser or finer, and one has another."""
    if not count:
        return ()
    draws = seeded(seed, "practice patterns")
    first = draws.permutation(len(PATTERNS))
    places = np.concatenate([draws.permutation(4) for _ in range(-(-count // 4))])
    found = []
    for number in range(count):
        same = int(first[number % 4])
        other = int((same + 1 + draws.integers(3)) % 4)
        odd = int(places[number])
        steps = draws.permutation([0.11, 0.14, 0.18, 0.23])
        names = tuple(
            album.add(_patterned(PATTERNS[other if place == odd else same], float(steps[place]), draws.random(2), size))
            for place in range(4)
        )
        found.append(Question(_item(number, PATTERNS[same], names, odd), names, odd))
    return tuple(found)


def _item(number: int, pattern: str, names: tuple[str, ...], odd: int) -> ItemRow:
    facts = {"pictures": list(names), "odd": names[odd]}
    return ItemRow(
        item_id=f"practice-{number + 1}",
        role="practice",
        picture=names[odd],
        label=pattern,
        predicted="",
        probability=float("nan"),
        model_correct=False,
        group="practice",
        facts=json.dumps(facts, sort_keys=True),
    )


def _patterned(pattern: str, step: float, shift: np.ndarray, size: int) -> np.ndarray:
    """Draw a grey square filled with a pattern of period `step`, a share of the picture."""
    side = OVERSAMPLE * size
    y, x = np.mgrid[0:side, 0:side] / side
    u, v = x / step + shift[0], y / step + shift[1]
    if pattern == "stripes":
        ink = (u % 1) < 0.5
    elif pattern == "dots":
        ink = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09
    elif pattern == "checks":
        ink = (np.floor(u) + np.floor(v)) % 2 == 0
    else:
        ink = (np.hypot(x - 0.5, y - 0.5) / step + shift[0]) % 1 < 0.5
    grey = np.where(ink, DARK, LIGHT)
    frame = (np.abs(x - 0.5) > 0.4) | (np.abs(y - 0.5) > 0.4)
    flat = np.where(frame, 255, grey).reshape(size, OVERSAMPLE, size, OVERSAMPLE).mean(axis=(1, 3))
    return np.repeat(np.round(flat)[..., None], 3, axis=2).astype(np.uint8)
