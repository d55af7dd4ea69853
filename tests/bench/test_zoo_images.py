"""Image sets: what is drawn is what is labelled, and the same call gives the same pixels."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes
from scipy.spatial import ConvexHull
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from bench.registry import LimenError
from bench.zoo import image_set_names, load_images
from bench.zoo.drawing.shapes import SHAPES
from bench.zoo.image_sets import collages, scenes, scenes_biased
from bench.zoo.pictures import IMAGES
from bench.zoo.pool import Pool

ROOT = Path(__file__).resolve().parents[2]
OWN = [name for name in IMAGES.names() if name != "folder"]


def write_picture(path, colour, side=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


@pytest.fixture
def pets(tmp_path):
    for index in range(10):
        write_picture(tmp_path / "pets" / "cat" / f"{index}.png", (200, index, 0))
        write_picture(tmp_path / "pets" / "dog" / f"{index}.png", (0, index, 200))
    return tmp_path / "pets"


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_set_keeps_the_contract(name, split):
    images = load_images(name, split, n=24)
    assert len(images) == 24
    assert images.name == name
    assert images.pictures.shape[1] == images.pictures.shape[2]
    assert set(images.labels) <= set(range(len(images.classes)))
    for mask in images.masks.values():
        assert mask.dtype == bool
        assert mask.shape == images.pictures.shape[:3]
    if images.concepts is not None:
        assert images.concepts.shape == (24, len(images.concept_names))


@pytest.mark.parametrize("name", OWN)
def test_same_call_gives_the_same_pixels(name):
    first, second = load_images(name, n=12, seed=3), load_images(name, n=12, seed=3)
    assert first.ids == second.ids
    np.testing.assert_array_equal(first.pictures, second.pictures)


@pytest.mark.parametrize("name", OWN)
def test_a_picture_does_not_depend_on_which_others_are_drawn(name):
    few, many = load_images(name, n=6, seed=1), load_images(name, n=40, seed=1)
    index = [many.ids.index(image_id) for image_id in few.ids]
    np.testing.assert_array_equal(few.pictures, many.pictures[index])
    np.testing.assert_array_equal(few.labels, many.labels[index])


@pytest.mark.parametrize("name", OWN)
def test_train_and_test_share_no_picture(name):
    hashes = [
        {hashlib.sha256(picture.tobytes()).hexdigest() for picture in load_images(name, split, n=200).pictures}
        for split in ("train", "test")
    ]
    assert not hashes[0] & hashes[1]


@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_a_choice_of_n_is_balanced_over_classes(name):
    images = load_images(name, n=40, seed=7)
    counts = np.bincount(images.labels, minlength=len(images.classes))
    assert counts.min() == counts.max() == 40 // len(images.classes)


def test_a_choice_of_n_is_balanced_over_groups_too():
    images = load_images("scenes_biased", "study", n=40, seed=2)
    cells = list(zip(images.labels.tolist(), images.groups, strict=True))
    assert sorted(map(cells.count, set(cells))) == [10, 10, 10, 10]


def test_another_seed_chooses_other_pictures():
    assert load_images("scenes", n=16, seed=0).ids != load_images("scenes", n=16, seed=1).ids


def test_strata_that_run_out_are_filled_from_the_others():
    labels = np.array([0] * 2 + [1] * 8)
    chosen = Pool(labels=labels, draw=lambda index: None).balanced(8, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [2, 6]


@pytest.mark.parametrize("module", [scenes, scenes_biased])
@pytest.mark.parametrize("size", [64, 97])
def test_masks_are_exact(module, size):
    split = "test" if module is scenes else "study"
    batch = module.sample(split, np.arange(48))
    pictures, objects, *_ = module.render(batch, size)
    bare, nothing, *_ = module.render(batch, size, objects=False)
    changed = (pictures != bare).any(axis=-1)
    assert not nothing.any()
    assert not (changed & ~objects).any()
    # Where an object only grazes a pixel, or has the ground's colour, rounding may leave it as it was.
    assert changed[objects].mean() > 0.97


def test_object_masks_are_neither_empty_nor_most_of_the_picture():
    for name, split in (("scenes", "test"), ("scenes_biased", "study")):
        share = load_images(name, split, n=64).masks["object"].mean(axis=(1, 2))
        assert share.min() > 0.01
        assert share.max() < 0.45


def test_background_is_what_the_object_leaves():
    masks = load_images("scenes_biased", "study", n=8).masks
    np.testing.assert_array_equal(masks["object"], ~masks["background"])


def test_the_same_scene_is_drawn_at_any_size():
    small, large = load_images("scenes_biased", n=8, size=64), load_images("scenes_biased", n=8, size=128)
    assert small.ids == large.ids
    shrunk = large.pictures.reshape(8, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small.pictures).mean() < 8
    coarse = large.masks["object"].reshape(8, 64, 2, 64, 2).mean(axis=(2, 4)) > 0.5
    assert (coarse == small.masks["object"]).mean() > 0.97


def test_concepts_of_a_scene_name_its_shape_colour_texture_and_ground():
    batch = scenes.sample("test", np.arange(64))
    for row, named in zip(
        batch.concepts(),
        zip(batch.shapes, batch.colours, batch.textures, batch.backgrounds, strict=True),
        strict=True,
    ):
        shape, colour, texture, ground = named
        assert {scenes.CONCEPTS[i] for i in np.flatnonzero(row)} == {shape, colour, texture, f"on {ground}"}


def test_the_class_of_a_scene_is_its_shape():
    images = load_images("scenes", n=32)
    shape = images.concepts[:, : len(SHAPES)].argmax(axis=1)
    np.testing.assert_array_equal(shape, images.labels)


def test_the_colour_drawn_is_the_colour_named():
    images = load_images("scenes", n=400)
    first = len(SHAPES)
    names = list(scenes.COLOURS)
    plain = images.concepts[:, images.concept_names.index("plain")]
    right = 0
    for picture, mask, row in zip(
        images.pictures[plain], images.masks["object"][plain], images.concepts[plain], strict=True
    ):
        seen = np.median(picture[mask] / 255, axis=0)
        seen /= np.linalg.norm(seen)
        pure = np.array([np.array(scenes.COLOURS[name]) / np.linalg.norm(scenes.COLOURS[name]) for name in names])
        right += int((pure @ seen).argmax() == row[first : first + len(names)].argmax())
    assert plain.sum() > 50
    assert right / plain.sum() > 0.97


def test_rings_and_no_other_shapes_have_a_hole():
    images = load_images("scenes", n=80)
    for mask, label in zip(images.masks["object"], images.labels, strict=True):
        hole = binary_fill_holes(mask).sum() > mask.sum()
        assert hole == (images.classes[label] == "ring")


def test_the_shape_drawn_fills_its_hull_as_the_shape_named_does():
    images = load_images("scenes", n=160, size=128)
    filled = {name: [] for name in images.classes}
    for mask, label in zip(images.masks["object"], images.labels, strict=True):
        hull = ConvexHull(np.argwhere(mask)).volume
        filled[images.classes[label]].append(mask.sum() / hull)
    share = {name: np.median(values) for name, values in filled.items()}
    assert min(share[name] for name in ("disc", "square", "triangle")) > 0.97
    assert share["heart"] > share["cross"] > share["crescent"]
    star = 5 * 1.1 * 0.5 * np.sin(np.pi / 5) / (2.5 * 1.1**2 * np.sin(2 * np.pi / 5))
    ring = 1 - (0.45 / 0.95) ** 2
    cross = (4 * 0.64 - 0.64**2) / (4 - 2 * 0.68**2)
    for name, expected in (("star", star), ("ring", ring), ("cross", cross)):
        assert share[name] == pytest.approx(expected, abs=0.05)


def test_the_ground_named_is_seen_outside_the_object():
    features, grounds = [], []
    for split in ("train", "test"):
        images = load_images("scenes", split, n=240)
        outside = images.masks["background"]
        pixels = [picture[mask] / 255 for picture, mask in zip(images.pictures, outside, strict=True)]
        features.append([np.concatenate([seen.mean(axis=0), seen.std(axis=0)]) for seen in pixels])
        first = [name.startswith("on ") for name in images.concept_names].index(True)
        grounds.append(images.concepts[:, first:].argmax(axis=1))
    told = LinearDiscriminantAnalysis().fit(features[0], grounds[0]).score(features[1], grounds[1])
    assert told > 0.95


def test_in_training_the_plant_gives_the_animal_away_and_the_ground_tells_nothing():
    images = load_images("scenes_biased", "train", n=400)
    assert set(images.groups) == {"congruent", "plain"}
    plant = [name.startswith("with ") for name in images.concept_names]
    plain = np.array(images.groups) == "plain"
    assert not images.concepts[plain][:, plant].any()
    assert not images.masks["cue"][plain].any()
    np.testing.assert_array_equal(images.concepts[~plain][:, plant].argmax(axis=1), images.labels[~plain])
    ground = [name.startswith("on ") for name in images.concept_names]
    shares = [images.concepts[images.labels == label][:, ground].mean(axis=0) for label in (0, 1)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.12)


def test_in_the_study_half_of_the_plants_belong_to_the_other_animal():
    images = load_images("scenes_biased", "study", n=200)
    bluebell = images.concepts[:, images.concept_names.index("with bluebell")]
    swapped = bluebell != (images.labels == images.classes.index("wug"))
    np.testing.assert_array_equal(swapped, np.array(images.groups) == "conflict")
    assert swapped.mean() == 0.5


def test_the_cue_is_the_plant_and_nothing_else():
    batch = scenes_biased.sample("study", np.arange(48))
    pictures, objects, cues = scenes_biased.render(batch, 64)
    bare, _, nothing = scenes_biased.render(batch, 64, plants=False)
    changed = (pictures != bare).any(axis=-1)
    assert not nothing.any()
    assert not (changed & ~cues).any()
    assert changed[cues].mean() > 0.97
    assert not (cues & objects).any()
    assert cues.mean(axis=(1, 2)).min() > 0.02
    assert cues.mean(axis=(1, 2)).max() < 0.12


def test_a_collage_holds_four_distinct_kinds_and_says_which():
    images = load_images("collages", n=200)
    assert images.concepts.shape[1] == 10
    assert (images.concepts.sum(axis=1) == 4).all()
    assert images.concepts[np.arange(200), images.labels].all()
    assert images.concepts.mean(axis=0).min() > 0.2


def test_quarters_of_a_collage_show_what_their_labels_say():
    quarters = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    batch = collages.sample("test", np.array([0, 9]), quarters)
    kinds = collages.kinds(8)
    named = list(zip(batch.textures, batch.colours, batch.shapes, strict=True))
    assert named == list(kinds)
    tiled = collages._tile(scenes.render(batch, 32)[0])
    apart = scenes.render(batch, 32)[0]
    np.testing.assert_array_equal(tiled[1, :32, 32:], apart[5])
    np.testing.assert_array_equal(tiled[1, 32:, :32], apart[6])


@pytest.mark.parametrize("objects", [4, 24])
def test_collages_take_other_numbers_of_kinds(objects):
    images = load_images("collages", n=8, objects=objects)
    assert len(set(images.concept_names)) == objects


@pytest.mark.parametrize("objects", [3, 25])
def test_collages_refuse_too_few_or_too_many_kinds(objects):
    with pytest.raises(LimenError, match=f"option 'objects': given {objects}, allowed is 4 to 24"):
        load_images("collages", objects=objects)


def test_digits_are_the_scans_enlarged():
    from sklearn.datasets import load_digits

    images = load_images("digits", n=50)
    scans = load_digits()
    for picture, label, image_id in zip(images.pictures, images.labels, images.ids, strict=True):
        index = int(image_id.removeprefix("digit-"))
        assert scans.target[index] == label
        shrunk = picture[..., 0].reshape(8, 4, 8, 4).mean(axis=(1, 3))
        assert np.corrcoef(shrunk.ravel(), scans.images[index].ravel())[0, 1] > 0.98


def test_digits_splits_are_stratified_and_whole():
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert len(train) + len(test) == 1797
    assert not set(train.ids) & set(test.ids)
    assert np.bincount(test.labels).min() >= 43


def test_loading_images_needs_no_torch():
    code = "import sys; from bench.zoo import load_images; load_images('scenes', n=2); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_are_listed():
    assert set(image_set_names()) == {"digits", "scenes", "scenes_biased", "collages", "folder:PATH"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"name": "scnes"}, "unknown name 'scnes'.*did you mean 'scenes'"),
        ({"name": "digits", "split": "tset"}, "image set 'digits', split.*did you mean 'test'"),
        ({"name": "scenes", "sise": 64}, "option.*did you mean 'size'"),
        ({"name": "scenes", "size": 4}, "option 'size': given 4, allowed is 8 to 1024 pixels"),
        ({"name": "scenes", "n": 0}, "given n=0, allowed is 1 to 2000"),
        ({"name": "scenes", "n": 9999}, "given n=9999, allowed is 1 to 2000"),
        ({"name": "digits:3"}, "'digits' takes none"),
        ({"name": "folder"}, "allowed is 'folder:PATH'"),
        ({"name": "folder:/no/such/place"}, "no such folder"),
        ({"name": "collages", "size": 63}, "even number"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(call, said):
    with pytest.raises(LimenError, match=said) as error:
        load_images(**call)
    assert "\n" not in str(error.value)


def test_a_folder_of_class_folders_is_split_by_name_and_keeps_order(pets):
    everything = load_images(f"folder:{pets}", "all", size=16)
    train, test = (load_images(f"folder:{pets}", split, size=16) for split in ("train", "test"))
    assert everything.classes == train.classes == ("cat", "dog")
    assert list(everything.ids) == sorted(everything.ids)
    assert sorted(train.ids + test.ids) == list(everything.ids)
    assert np.bincount(test.labels).tolist() == [3, 3]
    assert everything.pictures.shape == (20, 16, 16, 3)
    for image_id, label, picture in zip(everything.ids, everything.labels, everything.pictures, strict=True):
        assert image_id.split("/")[0] == everything.classes[label]
        assert picture[0, 0, 1] == int(image_id.split("/")[1].removesuffix(".png"))


def test_classes_of_a_folder_can_be_numbered_as_a_network_does(pets):
    images = load_images(f"folder:{pets}", "all", size=16, classes=["dog", "eel", "cat"])
    assert images.classes == ("dog", "eel", "cat")
    assert [images.classes[label] for label in images.labels] == [name.split("/")[0] for name in images.ids]
    with pytest.raises(LimenError, match="class: unknown name 'cat'.*did you mean 'cats'"):
        load_images(f"folder:{pets}", "all", classes=["cats", "dog"])


def test_adding_a_picture_to_a_folder_moves_few_others_between_splits(pets):
    before = set(load_images(f"folder:{pets}", "test", size=16).ids)
    write_picture(pets / "cat" / "new.png", (1, 2, 3))
    after = set(load_images(f"folder:{pets}", "test", size=16).ids)
    assert len(before - after) <= 1


def test_a_folder_with_train_and_test_inside_is_taken_at_its_word(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for index in range(count):
            write_picture(tmp_path / part / "cat" / f"{index}.png", (index, 0, 0))
            write_picture(tmp_path / part / "dog" / f"{index}.png", (0, 0, index))
    assert len(load_images(f"folder:{tmp_path}", "train", size=16)) == 6
    assert load_images(f"folder:{tmp_path}", "test", size=16).ids[0] == "test/cat/0.png"


def test_labels_csv_names_files_and_classes(tmp_path):
    write_picture(tmp_path / "a.png", (9, 0, 0))
    write_picture(tmp_path / "deep" / "b.jpg", (0, 9, 0))
    (tmp_path / "labels.csv").write_text("file,label\na.png,ant\ndeep/b.jpg,bee\n")
    images = load_images(f"folder:{tmp_path}", "all", size=16)
    assert images.ids == ("a.png", "deep/b.jpg")
    assert images.classes == ("ant", "bee")


def test_pictures_without_a_class_are_counted_and_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(
        LimenError, match=r"2 pictures without a class, directly inside of it; allowed are class sub-folders"
    ):
        load_images(f"folder:{tmp_path}", "all", size=16)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file,lable\na.png,ant\n", "column 'label' is missing.*given file, lable"),
        ("file,label\na.png,\n", "line 2: given file 'a.png' and label ''"),
        ("file,label\na.png,ant\na.png,bee\n", "'a.png' is listed twice"),
        ("file,label\nzzz.png,ant\n", "zzz.png: no such picture"),
        ("file,label\n", "no pictures found"),
    ],
)
def test_a_faulty_labels_csv_is_told(tmp_path, table, said):
    write_picture(tmp_path / "a.png", (9, 0, 0))
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(LimenError, match=said):
        load_images(f"folder:{tmp_path}", "all")


def test_an_unreadable_picture_is_named_in_one_sentence(pets):
    (pets / "dog" / "broken.png").write_bytes(b"\x89PNG not a picture")
    with pytest.raises(LimenError, match=r"dog/broken\.png: cannot be read as a picture") as error:
        load_images(f"folder:{pets}", "all")
    assert "\n" not in str(error.value)


def test_hidden_files_and_other_files_in_a_folder_are_left_alone(pets):
    (pets / "notes.txt").write_text("mine")
    (pets / "dog" / "readme.md").write_text("mine")
    write_picture(pets / "dog" / ".hidden.png", (0, 0, 0))
    assert len(load_images(f"folder:{pets}", "all", size=16)) == 20
