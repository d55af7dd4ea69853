"""Sketches by rule: the same id gives the same strokes, variants differ, and everything lies on the paper."""

from __future__ import annotations

import numpy as np
import pytest

from bench.registry import LimenError
from stimuli.balance import seeded
from stimuli.sketches import (
    DOODLES,
    category_of,
    doodle_name,
    glyph_name,
    ink,
    length,
    picture,
    resampled,
    sketch,
    sketch_id,
    variant,
)

NAMES = [sketch_id(glyph_name(3, number), 0) for number in range(30)]
NAMES += [sketch_id(doodle_name(word), 0) for word in DOODLES]


@pytest.mark.parametrize("name", NAMES)
def test_an_id_decides_the_strokes_and_they_lie_on_the_paper(name: str) -> None:
    first, again = sketch(name), sketch(name)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    points = np.concatenate(first)
    assert points.min() >= 0.05
    assert points.max() <= 0.95
    assert np.ptp(points, axis=0).max() > 0.2


def test_two_variants_differ_and_have_the_same_lines() -> None:
    one, other = (sketch(sketch_id(doodle_name("house"), number)) for number in (0, 1))
    assert len(one) == len(other)
    moved = np.abs(resampled(one[0], 0.1) - resampled(other[0], 0.1)[: len(resampled(one[0], 0.1))])
    assert 0.005 < moved.mean() < 0.2


def test_no_variation_leaves_the_strokes_where_they_are() -> None:
    base = (np.array([[0.2, 0.2], [0.8, 0.2]]), np.array([[0.5, 0.5], [0.5, 0.9]]))
    same = variant(base, seeded(0, "x"), 0.0)
    for before, after in zip(base, same, strict=True):
        assert np.allclose(after[[0, -1]], before, atol=1e-12)


def test_resampling_keeps_the_ends_and_the_length() -> None:
    bent = np.array([[0.0, 0.0], [0.3, 0.0], [0.3, 0.4]])
    found = resampled(bent, 0.1)
    assert np.allclose(found[[0, -1]], bent[[0, -1]])
    assert len(found) == 8
    assert np.allclose(np.hypot(*np.diff(found, axis=0).T), 0.1)
    assert length(found) == pytest.approx(length(bent))
    assert resampled(bent[:1], 0.1).tolist() == [[0.0, 0.0]]


def test_a_line_has_the_ink_of_its_length_and_width() -> None:
    drawn = ink([np.array([[0.2, 0.5], [0.8, 0.5]])], 100, pen=0.04)
    round_ends = np.pi * 0.02**2
    assert drawn.mean() == pytest.approx(0.6 * 0.04 + round_ends, rel=0.06)
    assert drawn.max() == 1
    assert picture([np.array([[0.2, 0.5]])], 50, pen=0.06).min() == 0


@pytest.mark.parametrize(("name", "says"), [
    ("glyph-1-000", "not of the form"), ("doodle-hous/0000", "house"), ("../x", "not of the form"),
])  # fmt: skip
def test_an_unknown_id_is_refused_in_a_sentence(name: str, says: str) -> None:
    with pytest.raises(LimenError, match=says):
        sketch(name)


def test_a_category_is_read_from_an_id() -> None:
    assert category_of("glyph-5-003/0012") == "glyph-5-003"
