"""Every sketch by its id: the id alone decides each stroke, so a sketch can be made again wherever its id is known.

`glyph-5-003/0012` is variant 12 of sign 3 of the alphabet with seed 5, `doodle-house/0000` the first variant of the
house. Two variants of a category differ as two drawings of one thing do: each stroke is moved a little, the whole is
turned, stretched, slanted and bent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from bench.registry import LimenError, unknown

from ..balance import seeded
from .doodles import STROKES
from .lines import Sketch, resampled

DOODLES = tuple(sorted(STROKES))
_ID = re.compile(r"^(?:(glyph)-(\d+)-(\d+)|(doodle)-([a-z]+))(?:/(\d+))?$")
KINDS = ("line", "arc", "hook", "zigzag", "ring")
SPACING = 0.02
"""Distance of the points of a stroke, in sides of the paper."""


def glyph_name(seed: int, number: int) -> str:
    """Return the name of a category of signs."""
    return f"glyph-{seed}-{number:03d}"


def doodle_name(word: str) -> str:
    """Return the name of a category of things."""
    return f"doodle-{word}"


def sketch_id(category: str, variant: int) -> str:
    """Return the id of one sketch of a category."""
    return f"{category}/{variant:04d}"


def category_of(name: str) -> str:
    """Return the category of a sketch id."""
    return name.partition("/")[0]


def sketch(name: str) -> Sketch:
    """Make a sketch from its id.

    Raises
    ------
    LimenError
        If the text is no id of a sketch.
    """
    matched = _ID.match(name)
    if matched is None or matched[6] is None:
        raise LimenError(f"sketch '{name}': not of the form glyph-SEED-NUMBER/VARIANT or doodle-WORD/VARIANT.")
    if matched[1]:
        base = _glyph(int(matched[2]), int(matched[3]))
    elif matched[5] in STROKES:
        base = tuple(STROKES[matched[5]])
    else:
        raise unknown("sketch, doodle", matched[5], DOODLES)
    return variant(base, seeded(0, "variant", name))


def variant(base: Sequence[np.ndarray], draws: np.random.Generator, amount: float = 1.0) -> Sketch:
    """Draw another drawing of the same thing.

    Parameters
    ----------
    base
        The strokes to start from.
    draws
        A seeded generator.
    amount
        How far it may differ: 1 is the variation within a category, 0 gives the same strokes.
    """
    turn, slant = amount * draws.normal(0, np.radians(5)), amount * draws.normal(0, 0.08)
    wide, high = np.exp(amount * draws.normal(0, 0.08, 2))
    shape = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array(
        [[wide, slant], [0, high]]
    )
    shift = amount * draws.normal(0, 0.02, 2)
    bend, phase = amount * draws.normal(0, 0.015, (2, 2)), draws.uniform(0, 2 * np.pi, (2, 2))
    found = []
    for stroke in base:
        moved = resampled(stroke, SPACING) + amount * draws.normal(0, 0.012, 2)
        waves = np.stack(
            [(bend[axis] * np.sin(2 * np.pi * moved + phase[axis])).sum(axis=1) for axis in (0, 1)], axis=1
        )
        found.append((moved + waves - 0.5) @ shape.T + 0.5 + shift)
    return _on_paper(found)


def _on_paper(strokes: Sequence[np.ndarray], margin: float = 0.06) -> Sketch:
    """Shrink and move strokes so that all of them lie on the paper; strokes that do are left alone."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min(1.0, (1 - 2 * margin) / max(float((high - low).max()), 1e-9))
    middle = (low + high) / 2
    shrunk = [(stroke - middle) * scale + middle for stroke in strokes]
    half = (high - low) * scale / 2
    shift = np.clip(middle, margin + half, 1 - margin - half) - middle
    return tuple(stroke + shift for stroke in shrunk)


def _glyph(seed: int, number: int) -> Sketch:
    """Make up a sign of two to four strokes between places of a grid of three by three."""
    draws = seeded(seed, "glyph", number)
    places = [np.array([x, y]) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)]
    free = list(draws.permutation(len(places)))
    strokes, here = [], places[free.pop()]
    for _ in range(int(draws.integers(2, 5))):
        if draws.random() < 0.5:
            here = places[free.pop()]
        there = places[free.pop()]
        kind = KINDS[int(draws.integers(len(KINDS)))]
        strokes.append(_stroke(kind, here, there, draws))
        here = there
    return _on_paper(strokes)


def _stroke(kind: str, start: np.ndarray, end: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return one stroke from a place to another."""
    along = end - start
    across = np.array([-along[1], along[0]]) * draws.choice([-1, 1])
    t = np.linspace(0, 1, 25)[:, None]
    bulge = draws.uniform(0.35, 0.7)
    if kind == "line":
        return np.stack([start, end])
    if kind == "arc":
        return np.asarray(start + along * t + across * bulge * 4 * t * (1 - t) / 2)
    if kind == "hook":
        return np.stack([start, end, end + 0.4 * across / max(float(np.hypot(*across)), 1e-9)])
    if kind == "zigzag":
        return np.stack([start, start + along / 3 + across * 0.35, start + 2 * along / 3 - across * 0.35, end])
    radius = draws.uniform(0.1, 0.17)
    ring = start + radius * np.concatenate([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1)
    return np.concatenate([ring, end[None]]) if draws.random() < 0.5 else np.asarray(ring)
