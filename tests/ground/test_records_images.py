"""Rows and pictures: what crosses from one package to the next."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.images import ImageSet, encode_png, picture_hash, read_picture
from bench.records import PredictionRow, check_columns, columns, frame
from bench.registry import LimenError


def test_frame_has_the_record_s_columns_in_order():
    row = PredictionRow(image_id="a", index=0, predicted=1, predicted_class="b", probability=0.5, correct=True)
    assert list(frame(PredictionRow, [row]).columns) == columns(PredictionRow)
    assert list(frame(PredictionRow, []).columns) == columns(PredictionRow)


def test_a_missing_column_is_named():
    table = pd.DataFrame({"image_id": [], "index": []})
    with pytest.raises(
        LimenError, match="export.csv: columns predicted, predicted_class, probability, correct missing"
    ):
        check_columns(table, PredictionRow, "export.csv")


def test_unreadable_picture_is_one_sentence(tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8))[:40])
    with pytest.raises(LimenError, match=r"torn.png: cannot be read as a picture"):
        read_picture(torn)
    with pytest.raises(LimenError, match="no such picture"):
        read_picture(tmp_path / "none.png")


def test_picture_is_resized_and_centre_cropped(tmp_path):
    Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(tmp_path / "wide.png")
    assert read_picture(tmp_path / "wide.png", size=20).shape == (20, 20, 3)


def test_hash_tells_pictures_apart_and_png_bytes_are_stable():
    first = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert picture_hash(first) == picture_hash(first.copy())
    assert picture_hash(first) != picture_hash(first.reshape(2, 8, 3))
    assert encode_png(first) == encode_png(first.copy())


def test_image_set_refuses_parts_that_disagree():
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(LimenError, match="2 pictures but 1 labels"):
        ImageSet("toy", pictures, np.zeros(1, int), ("a",), ("x", "y"))
    with pytest.raises(LimenError, match="ids repeat"):
        ImageSet("toy", pictures, np.zeros(2, int), ("a",), ("x", "x"))
    with pytest.raises(LimenError, match="allowed is uint8"):
        ImageSet("toy", pictures.astype(float), np.zeros(2, int), ("a",), ("x", "y"))


def test_take_keeps_every_part_in_step():
    pictures = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    masks = {"object": pictures[..., 0] > 1}
    full = ImageSet("toy", pictures, np.arange(3), ("a", "b", "c"), ("x", "y", "z"), ("g", "h", "i"), masks)
    part = full.take([2, 0])
    assert part.ids == ("z", "x")
    assert part.groups == ("i", "g")
    assert part.labels.tolist() == [2, 0]
    assert part.masks["object"].any(axis=(1, 2)).tolist() == [True, False]
