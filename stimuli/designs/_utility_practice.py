"""The practice machine: drawings and a machine whose rule is known, so that practice tells nothing of the model.

Practice with feedback on the study's own images would be training that is not counted. The practice machine is meant to
tell circles from squares, but goes by whether the shape is filled or drawn in outline; half of its answers are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..balance import seeded
from ..records import ItemRow
from ..render import Album

CLASSES = ("circle", "square")
INKS = ((36, 76, 120), (150, 82, 30), (92, 60, 120), (60, 66, 74))
PAPERS = ((238, 240, 243), (243, 238, 228), (232, 240, 238), (240, 234, 240))


@dataclass(frozen=True)
class Machine:
    """The drawings: worked examples that stay in view, and questions."""

    examples: tuple[ItemRow, ...]
    questions: tuple[ItemRow, ...]

    @property
    def items(self) -> list[ItemRow]:
        return [*self.examples, *self.questions]


def practice_machine(album: Album, questions: int, size: int, seed: int) -> Machine:
    """Draw four worked examples and some questions; no drawing is shown twice."""
    if not questions:
        return Machine((), ())
    draws = seeded(seed, "practice machine")
    taken: set[tuple[object, ...]] = set()
    made = [_item(album, number, size, draws, taken) for number in range(4 + questions)]
    return Machine(tuple(made[:4]), tuple(made[4:]))


def _item(album: Album, number: int, size: int, draws: np.random.Generator, taken: set[tuple[object, ...]]) -> ItemRow:
    shape, filled = number % 2, (number // 2 + number) % 2 == 0
    while (look := (shape, filled, *map(int, draws.integers((3, 3, 3, 4)).tolist()))) in taken:
        continue
    taken.add(look)
    picture = album.add(_drawing(look, size))
    predicted = CLASSES[0] if filled else CLASSES[1]
    return ItemRow(
        item_id=f"practice-{number + 1}",
        role="practice",
        picture=picture,
        label=CLASSES[shape],
        predicted=predicted,
        probability=float("nan"),
        model_correct=CLASSES[shape] == predicted,
        group="",
    )


def _drawing(look: tuple[object, ...], size: int) -> np.ndarray:
    shape, filled, across, down, radius, colour = (int(part) for part in look)  # type: ignore[call-overload]
    side = 4 * size
    ink, paper = INKS[colour], PAPERS[colour]
    canvas = Image.new("RGB", (side, side), paper)
    x, y = side * (0.36 + 0.14 * across), side * (0.36 + 0.14 * down)
    reach = side * (0.17 + 0.05 * radius)
    box = (x - reach, y - reach, x + reach, y + reach)
    draw = ImageDraw.Draw(canvas)
    figure = draw.ellipse if shape == 0 else draw.rectangle
    figure(box, fill=ink if filled else None, outline=ink, width=max(1, round(side * 0.025)))
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)
