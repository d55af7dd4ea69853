"""Drawings made by rule that mark the plane of diversity and recognisability: what copying, bending and guessing give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.registry import unknown
from stimuli.balance import seeded
from stimuli.sketches import Sketch, category_of, sketch, sketch_id, variant

CONTROLS = ("copier", "bender", "wild bender", "stranger", "generator")
FIRST = 2000
"""First variant of a category that the generator draws: neither shown, nor a critic's reference."""


def control(name: str, item: str, items: Sequence[str], count: int, seed: int) -> list[Sketch]:
    """Draw `count` samples for an exemplar.

    Parameters
    ----------
    name
        'copier': the exemplar again, moved by a tenth of the variation within categories; 'bender': varied as categories
        vary; 'wild bender': three times as much; 'stranger': drawings of other categories; 'generator': of its own.
    item, items
        The exemplar's id, and all ids of the study.

    Raises
    ------
    UnknownName
        If there is no such control.
    """
    draws = seeded(seed, "control", name, item)
    amount = {"copier": 0.1, "bender": 1.0, "wild bender": 3.0}.get(name)
    if amount is not None:
        return [variant(sketch(item), draws, amount) for _ in range(count)]
    if name == "generator":
        return [sketch(sketch_id(category_of(item), FIRST + number)) for number in range(count)]
    if name == "stranger":
        others = [other for other in items if other != item]
        chosen = draws.integers(len(others), size=count)
        return [
            sketch(sketch_id(category_of(others[place]), FIRST + number))
            for number, place in enumerate(np.asarray(chosen))
        ]
    raise unknown("drawings, control", name, CONTROLS)
