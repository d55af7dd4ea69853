"""Where the eye of a simulated player goes: to the parts of a picture whose colour differs most from the rest of it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from stimuli.trials import Reveal

CELLS = 32
"""A picture is looked at in so many cells a side."""
SHARE = 0.1
"""Share of the cells that stand out."""


def attentive(
    trial: Reveal, picture: Path, boxes: int, draw: np.random.Generator, *, attention: float
) -> list[list[float]]:
    """Return strokes `[ms, x, y]` of somebody who knows where the picture stands out, and goes there.

    A share `attention` of the steps leads towards a place drawn among the cells that stand out, then to another one; the
    other steps are those of a random walk. Clicks are such places, or any.

    Parameters
    ----------
    boxes
        Number of strokes, at most what the trial takes.
    """
    edge = np.array(trial.size) - 1e-3
    cells = standing_out(picture)
    reach = min(float(trial.step_px), *edge)
    here, aim = draw.uniform(0, 1, 2) * edge, _place(cells, edge, draw)
    strokes = []
    for index in range(min(boxes, trial.max_boxes)):
        if trial.mode == "click":
            here = _place(cells, edge, draw) if draw.random() < attention else draw.uniform(0, 1, 2) * edge
        elif index:
            aimed = draw.random() < attention
            step = np.clip(aim - here, -reach, reach) if aimed else draw.uniform(-1, 1, 2) * reach
            here = edge - np.abs(edge - np.abs(here + step))
            aim = _place(cells, edge, draw) if np.abs(aim - here).max() < reach else aim
        start = trial.lockout_ms if trial.mode == "click" else 0
        strokes.append([round(float(start + trial.sample_ms * index), 3), float(here[0]), float(here[1])])
    return strokes


@lru_cache(maxsize=256)
def standing_out(picture: Path) -> np.ndarray:
    """Return row and column (n, 2) of the cells whose colour is furthest from the picture's mean, in a grid of 32 x 32.

    References
    ----------
    The frequency-tuned rule of salience in its plainest form: Achanta et al. 2009, doi:10.1109/CVPR.2009.5206596.
    """
    with Image.open(picture) as image:
        small = image.convert("RGB").resize((CELLS, CELLS), Image.Resampling.BOX)
    colours = np.asarray(small, dtype=float)
    distance = ((colours - colours.mean(axis=(0, 1))) ** 2).sum(axis=2).ravel()
    most = np.argsort(-distance, kind="stable")[: round(SHARE * CELLS**2)]
    return np.stack(np.divmod(most, CELLS), axis=1)


def _place(cells: np.ndarray, edge: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    row, column = cells[int(draw.integers(len(cells)))]
    return (np.array([column, row]) + draw.random(2)) / CELLS * edge
