"""Pictures: what is drawn follows the map and the stated rule of normalisation, and equal input gives equal bytes."""

from __future__ import annotations

import numpy as np
import pytest

from bench.images import encode_png
from bench.overlay import enlarge, overlay, span
from bench.registry import LimenError
from stimuli.render import Album, check_finite, spans, strength

GREY = np.full((16, 16, 3), 128, dtype=np.uint8)


def _ramp() -> np.ndarray:
    return np.tile(np.linspace(0, 1, 16), (16, 1))


def test_pictures_have_the_asked_width_and_keep_their_proportions() -> None:
    assert enlarge(np.zeros((10, 20, 3), dtype=np.uint8), 320).shape == (160, 320, 3)


def test_a_stronger_place_is_drawn_lighter() -> None:
    drawn = overlay(GREY, _ramp(), span(_ramp(), 99), 64).astype(float) @ [0.2126, 0.7152, 0.0722]
    columns = drawn.mean(axis=0)[4:-4]
    assert columns[-1] > columns[0] + 80


def test_magnitude_ignores_the_sign_and_positive_drops_the_negative() -> None:
    maps = np.array([[[-2.0, 1.0]]])
    assert strength(maps, "magnitude").tolist() == [[[2.0, 1.0]]]
    assert strength(maps, "positive").tolist() == [[[0.0, 1.0]]]
    assert strength(maps, "signed").tolist() == maps.tolist()


def test_a_signed_map_is_orange_for_and_blue_against() -> None:
    maps = np.ones((16, 16))
    maps[:, :8] = -1
    drawn = overlay(GREY, maps, span(maps, 99, signed=True), 64, signed=True).astype(int)
    against, favour = drawn[32, 4], drawn[32, -4]
    assert against[2] > against[0] + 60
    assert favour[0] > favour[2] + 60


def test_an_offset_shared_by_all_places_is_not_drawn() -> None:
    ramp = _ramp()
    first, second = (overlay(GREY, maps, span(maps, 99), 32) for maps in (ramp, ramp + 5))
    assert np.abs(first.astype(int) - second.astype(int)).max() <= 1


def test_a_flat_map_leaves_the_picture_bare() -> None:
    flat = np.full((16, 16), 0.3)
    assert (overlay(GREY, flat, span(flat, 99), 32) == overlay(GREY, 0 * flat, span(0 * flat, 99), 32)).all()


def test_a_map_with_one_bright_pixel_is_still_drawn() -> None:
    single = np.zeros((64, 64))
    single[3, 4] = 2.0
    assert span(single, 99) == (0.0, 2.0)


def test_an_outlier_does_not_take_the_range() -> None:
    maps = np.tile(np.linspace(0, 1, 64), (64, 1))
    maps[0, 0] = 1000
    assert span(maps, 99)[1] <= 1.0


def test_the_scope_decides_what_shares_a_scale() -> None:
    maps = {"a": np.stack([_ramp(), 2 * _ramp()]), "b": np.stack([10 * _ramp(), 20 * _ramp()])}
    image, condition, study = (spans(maps, scope, 100) for scope in ("image", "condition", "global"))
    assert [ends[1] for ends in image["a"]] == [1.0, 2.0]
    assert [ends[1] for ends in condition["a"]] == [2.0, 2.0]
    assert condition["b"][0] == (0.0, 20.0)
    assert study["a"] == study["b"]
    assert study["a"][0][1] == 20.0


def test_equal_pixels_give_equal_bytes_without_metadata() -> None:
    first = encode_png(GREY)
    assert first == encode_png(GREY.copy())
    assert b"tEXt" not in first
    assert b"tIME" not in first


def test_an_album_keeps_one_copy_under_the_hash_of_its_bytes() -> None:
    album = Album()
    assert album.add(GREY) == album.add(GREY.copy())
    assert len(album.pictures) == 1


def test_a_map_that_is_not_finite_is_refused_by_name() -> None:
    maps = np.zeros((3, 2, 2))
    maps[1, 0, 0] = np.nan
    with pytest.raises(LimenError, match=r"here: the map of image 'b' holds values that are not finite;"):
        check_finite(maps, "abc", "here")
