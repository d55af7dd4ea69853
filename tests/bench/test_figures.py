"""Figures of a bench report: what is written above a map can be read, and says the method's name."""

from __future__ import annotations

import numpy as np
import pytest

from bench.figures import HEADING, side_by_side
from bench.registry import ATTRIBUTIONS


def headings(*names: str) -> list[str]:
    """Return what is written above the maps of these methods."""
    pictures = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    figure = side_by_side(pictures, ["cat"], {name: np.ones((1, 8, 8)) for name in names})
    return [axis.get_title() for axis in figure.axes][1:]


@pytest.mark.parametrize("name", ATTRIBUTIONS.names())
def test_a_method_is_named_whole_in_lines_that_fit(name: str) -> None:
    (heading,) = headings(name)
    assert heading.replace("\n", "") == name
    assert all(len(line) <= HEADING for line in heading.split("\n"))
    assert ("\n" in heading) == (len(name) > HEADING)


def test_a_bracket_has_its_own_line() -> None:
    assert headings("sobol (cells 8)", "integrated_gradients (steps 5)") == [
        "sobol\n(cells 8)",
        "integrated_\ngradients\n(steps 5)",
    ]
