"""What a simulated person draws: another example of what the exemplar shows, or of something else."""

from __future__ import annotations

import numpy as np

from stimuli.sketches import DOODLES, Sketch, category_of, doodle_name, glyph_name, length, resampled, sketch, sketch_id
from stimuli.trials import Draw

MS_PER_POINT = 20.0
"""A simulated hand gives a point so often."""
SPACING = 0.02
"""Distance of the points of a stroke, in sides of the canvas."""
VARIANTS = (10_000, 1_000_000)
"""Variants of a category that simulated people draw: none of them is shown, and none is a critic's reference."""
STRANGERS = 10_000
"""Number of the first sign that simulated people draw instead of the one they were shown."""


def drawn(trial: Draw, item: str, draws: np.random.Generator, *, right: bool) -> list[list[list[float]]]:
    """Return the strokes `[[[ms, x, y], ...], ...]` of a drawing in canvas pixels.

    Parameters
    ----------
    item
        The id of the exemplar's sketch; an exemplar that is none of `stimuli.sketches` is answered by a made-up sign.
    right
        Whether the drawing is of the exemplar's category.
    """
    strokes = _sketch(item, draws, right=right)
    width, height = trial.size
    side = min(width, height)
    offset = np.array([(width - side) / 2, (height - side) / 2])
    spacing = max(SPACING, 2 * sum(map(length, strokes)) / trial.max_points)
    lines = [resampled(stroke, spacing) * side + offset for stroke in strokes]
    step = min(MS_PER_POINT, trial.limit_ms / sum(len(line) + 1 for line in lines))
    found: list[list[list[float]]] = []
    clock = 0.0
    for points in lines:
        line = []
        for x, y in points:
            line.append([round(clock, 1), int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))])
            clock += step
        found.append(line)
        clock += step
    return found


def _sketch(item: str, draws: np.random.Generator, *, right: bool) -> Sketch:
    category, number = category_of(item), int(draws.integers(*VARIANTS))
    if right and category.startswith(("glyph-", "doodle-")):
        return sketch(sketch_id(category, number))
    if category.startswith("doodle-"):
        others = [word for word in DOODLES if doodle_name(word) != category]
        return sketch(sketch_id(doodle_name(others[int(draws.integers(len(others)))]), number))
    return sketch(sketch_id(glyph_name(0, STRANGERS + int(draws.integers(1000))), number))
