"""Collages of cut-outs and emoji: exact labels, exact masks of every object, and labels at a layer's positions."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from bench.registry import LimenError
from bench.spaces.position_labels import position_labels
from bench.zoo import load_images
from bench.zoo.drawing import cutouts
from bench.zoo.drawing.compose import Placement
from bench.zoo.image_sets import collages

COLOURS = {
    "ant": (220, 20, 20),
    "bee": (20, 220, 20),
    "cat": (20, 20, 220),
    "dog": (220, 220, 20),
    "eel": (220, 20, 220),
}
PLAIN_FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five discs, each in a colour of its own, off-centre on a transparent ground."""
    for index, (name, colour) in enumerate(COLOURS.items()):
        picture = Image.new("RGBA", (60 + index, 40), (0, 0, 0, 0))
        ImageDraw.Draw(picture).ellipse((20, 5, 50, 35), fill=(*colour, 255))
        picture.save(tmp_path / f"{name}.png")
    return tmp_path


def test_cut_outs_are_the_kinds_in_the_order_of_their_names(folder: Path) -> None:
    images = load_images("collages", n=40, objects=f"folder:{folder}")
    assert images.concept_names == tuple(COLOURS)
    assert (images.concepts.sum(axis=1) == 4).all()
    assert images.concepts[np.arange(40), images.labels].all()
    assert load_images("collages", n=4, objects=f"folder:{folder}", count=4).concept_names == tuple(COLOURS)[:4]


def test_each_kind_is_where_its_mask_says_and_has_its_own_colour(folder: Path) -> None:
    images = load_images("collages", n=30, objects=f"folder:{folder}", object_masks=True)
    for kind, (name, colour) in enumerate(COLOURS.items()):
        masks = images.masks[name]
        np.testing.assert_array_equal(masks.any(axis=(1, 2)), images.concepts[:, kind])
        seen = images.pictures[masks].astype(float)
        assert np.abs(np.median(seen, axis=0) - colour).max() < 3


def test_the_masks_of_kinds_part_the_object_mask() -> None:
    images = load_images("collages", n=30, objects=8, object_masks=True)
    kinds = np.stack([images.masks[name] for name in images.concept_names])
    np.testing.assert_array_equal(kinds.sum(axis=0), images.masks["object"].astype(int))
    np.testing.assert_array_equal(kinds.any(axis=(2, 3)).T, images.concepts)


def test_outside_the_mask_the_bare_ground_shows(folder: Path) -> None:
    images = load_images("collages", n=20, objects=f"folder:{folder}")
    indices = np.array([int(one.rsplit("-", 1)[1]) for one in images.ids])
    quarters = collages._quarters("test", 5)[indices]
    batch = collages.sample("test", indices, quarters)
    bare = collages._tile(collages.render(batch, 32, objects=False)[0])
    changed = (images.pictures != bare).any(axis=-1)
    assert not (changed & ~images.masks["object"]).any()
    assert changed[images.masks["object"]].mean() > 0.97


def test_asking_for_masks_of_objects_changes_no_picture_and_they_are_not_there_unasked() -> None:
    plain, masked = load_images("collages", n=6), load_images("collages", n=6, object_masks=True)
    np.testing.assert_array_equal(plain.pictures, masked.pictures)
    assert set(plain.masks) == {"object", "background"}


def test_a_number_of_objects_may_come_as_text() -> None:
    as_text, as_number = load_images("collages", n=4, objects="9"), load_images("collages", n=4, objects=9)
    np.testing.assert_array_equal(as_text.pictures, as_number.pictures)


def test_a_cut_out_keeps_its_share_of_the_disc_it_is_placed_in() -> None:
    picture = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    ImageDraw.Draw(picture).rectangle((50, 50, 349, 349), fill=(255, 0, 0, 255))
    cut = cutouts._cut("square", picture, "test")
    ones = np.ones(1, dtype=np.float32)
    placed = Placement(centre=np.zeros((1, 2), np.float32), radius=0.5 * ones, angle=0 * ones, mirror=ones)
    surface, cover = cutouts.place([cut], placed, 128)
    # The square's diagonal is the disc's width, 64 pixels: its area is half of 64 squared.
    assert cover.sum() == pytest.approx(64**2 / 2, rel=0.03)
    np.testing.assert_allclose(surface[cover > 0.5].mean(axis=0), (1, 0, 0), atol=0.02)


def test_half_transparent_edges_keep_the_colour_of_the_object() -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[5:35, 5:35] = (200, 100, 50, 128)
    cut = cutouts._cut("veil", Image.fromarray(pixels), "test")
    ones = np.ones(1, dtype=np.float32)
    placed = Placement(centre=np.zeros((1, 2), np.float32), radius=0.6 * ones, angle=0.4 * ones, mirror=ones)
    surface, cover = cutouts.place([cut], placed, 64)
    assert cover.max() == pytest.approx(128 / 255, abs=0.01)
    np.testing.assert_allclose(
        surface[0][cover[0] > 0.2] * 255, np.array([[200, 100, 50]]).repeat((cover > 0.2).sum(), 0), atol=2
    )


def test_glyphs_of_a_font_are_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutouts, "EMOJI", "\u2605\u2665\u2663\u2660\u2602")
    monkeypatch.setattr(collages, "EMOJI", "\u2605\u2665\u2663\u2660\u2602")
    images = load_images("collages", n=10, objects="emoji", count=5, font=PLAIN_FONT)
    assert images.concept_names[:2] == ("black star", "black heart suit")
    assert images.masks["object"].mean(axis=(1, 2)).min() > 0.02


def test_a_font_without_the_glyphs_is_refused() -> None:
    with pytest.raises(LimenError, match="lacks 10 of 10 glyphs, first RED APPLE"):
        load_images("collages", objects="emoji", font=PLAIN_FONT)


def test_a_system_without_an_emoji_font_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutouts.shutil, "which", lambda name: None)
    with pytest.raises(LimenError, match="no colour-emoji font was found by fontconfig or in 0 usual places"):
        cutouts.find_font("test", paths=())


def test_emoji_of_the_systems_font_have_colours() -> None:
    try:
        cutouts.find_font("test")
    except LimenError as fault:
        pytest.skip(f"no colour-emoji font on this system: {fault}")
    images = load_images("collages", n=20, objects="emoji", object_masks=True)
    apple = images.pictures[images.masks["red apple"]]
    assert apple[:, 0].mean() > apple[:, 2].mean() + 40


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objects": "emojis"}, "option 'objects': given 'emojis', allowed is a number, 'folder:PATH' of cut-outs"),
        ({"objects": "folder:"}, "option 'objects': given 'folder:', allowed is a number"),
        ({"objects": "folder:/no/such"}, "no such folder"),
        ({"objects": 10, "count": 5}, "option 'count': given 5, allowed with objects='folder:PATH' or 'emoji'"),
        ({"objects": 10, "font": "x.ttf"}, "option 'font': given x.ttf, allowed with objects='emoji'"),
        ({"objects": "emoji", "count": 3}, "option 'count': given 3, allowed is 4 to 24"),
        ({"objects": "emoji", "font": "/no/such.ttf"}, "font /no/such.ttf cannot be opened"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(LimenError, match=said):
        load_images("collages", **options)


def test_a_folder_of_too_few_opaque_or_empty_cut_outs_is_refused(folder: Path) -> None:
    with pytest.raises(LimenError, match="option 'count': given 6, allowed is 4 to 5"):
        load_images("collages", objects=f"folder:{folder}", count=6)
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(folder / "nothing.png")
    with pytest.raises(LimenError, match=r"nothing\.png: shows nothing"):
        load_images("collages", objects=f"folder:{folder}")
    Image.new("RGB", (9, 9), (200, 0, 0)).save(folder / "nothing.png")
    with pytest.raises(LimenError, match=r"nothing\.png: has no transparent pixel"):
        load_images("collages", objects=f"folder:{folder}")
    for path in sorted(folder.glob("*.png"))[3:]:
        path.unlink()
    with pytest.raises(LimenError, match="holds 3 PNG cut-outs, allowed is 4 or more"):
        load_images("collages", objects=f"folder:{folder}")


def test_positions_are_labelled_by_the_share_of_their_cell() -> None:
    masks = np.zeros((1, 2, 4, 8), dtype=bool)
    masks[0, 0, :2, :2] = True
    masks[0, 1, 2:, 4:6] = True
    half, whole = position_labels(masks, (2, 2)), position_labels(masks, (2, 2), share=0.51)
    assert half[0, :, 0].tolist() == [True, False, False, False]
    assert half[0, :, 1].tolist() == [False, False, False, True]
    assert not whole.any()


def test_positions_of_collages_hold_the_kinds_of_their_quarter() -> None:
    images = load_images("collages", n=40, objects=10, object_masks=True)
    masks = np.stack([images.masks[name] for name in images.concept_names], axis=1)
    labels = position_labels(masks, (2, 2), share=0.05)
    assert labels.shape == (40, 4, 10)
    assert (labels.sum(dim=2) <= 1).all()
    upper_left = labels[:, 0].float()
    assert float(upper_left[torch.arange(40), torch.from_numpy(images.labels)].mean()) > 0.9


@pytest.mark.parametrize(
    ("masks", "grid", "share", "said"),
    [
        (np.zeros((2, 3, 4)), (2, 2), 0.5, "masks: given torch.float64"),
        (np.zeros((1, 2, 4, 4), bool), (8, 2), 0.5, r"grid: given \(8, 2\), allowed is 1 to \(4, 4\)"),
        (np.zeros((1, 2, 4, 4), bool), (2, 2), 0.0, "share: given 0.0, allowed is above 0"),
    ],
)
def test_position_labels_refuse_what_does_not_fit(
    masks: np.ndarray, grid: tuple[int, int], share: float, said: str
) -> None:
    with pytest.raises(LimenError, match=said):
        position_labels(masks, grid, share=share)
