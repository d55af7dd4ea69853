"""Folds of the zoo: each training picture is held out by one network, and known by its content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.engine import Draws, Engine
from bench.engine.training import kept_cells, train_classifier
from bench.registry import LimenError
from bench.zoo import Folds, load_folds, load_images, load_network
from bench.zoo.folds import digests
from bench.zoo.recipes import MEAN, RECIPES, STD
from bench.zoo.training import training_record

SMALL = replace(RECIPES["tiny@digits"], train=240, epochs=1, floor=0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of networks trained for one epoch on 240 digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny@digits", SMALL)
        yield tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def folds(cache: Path) -> Folds:
    return load_folds("tiny@digits", 3, cache=cache, device="cpu", progress=False)


def test_every_training_picture_is_in_one_fold_and_the_folds_are_balanced(folds: Folds) -> None:
    images = load_images("digits", "train", 240)
    fold = folds.of(images.pictures)
    assert np.bincount(fold).tolist() == [80, 80, 80]
    for label in range(10):
        sizes = np.bincount(fold[images.labels == label], minlength=3)
        assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(folds.labels(images.pictures), images.labels)


def test_a_network_is_the_one_trained_on_the_other_folds(folds: Folds) -> None:
    images = load_images("digits", "train", 240)
    seen = folds.of(images.pictures) != 1
    module = train_classifier(
        SMALL.build(10), images.pictures[seen], images.labels[seen], mean=MEAN, std=STD, epochs=1, batch_size=64,
        learning_rate=1e-2, device="cpu",
    )  # fmt: skip
    for name, value in module.state_dict().items():
        assert torch.equal(value, folds.networks[1].module.state_dict()[name]), name
    assert folds.networks[1].name == "tiny@digits without fold 2 of 3"
    assert len({network.fingerprint for network in folds.networks}) == 3


def test_images_are_known_by_content_in_any_order_normalised_or_not(folds: Folds) -> None:
    images = load_images("digits", "train", 50)
    expected = folds.of(images.pictures)
    inputs = Engine(folds.networks[0], device="cpu").inputs(images.pictures)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(folds.of(inputs), expected)
    np.testing.assert_array_equal(folds.of(inputs[order]), expected[order])
    # What another device changes in the last digits is forgiven.
    np.testing.assert_array_equal(folds.of(inputs * (1 + 1e-6)), expected)


def test_a_picture_in_no_fold_is_told(folds: Folds) -> None:
    train, test = load_images("digits", "train", 3).pictures, load_images("digits", "test", 2).pictures
    with pytest.raises(
        LimenError, match=r"2 of 5 images \(index 3, 4\) are in no fold; .*'digits', 'train', 240, size=32"
    ):
        folds.of(np.concatenate([train, test]))


def test_folds_are_recalled_from_the_cache(folds: Folds, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("bench.zoo.training.train_classifier", never)
    again = load_folds("tiny@digits", 3, cache=cache, device="cpu", progress=False)
    assert [one.fingerprint for one in again.networks] == [one.fingerprint for one in folds.networks]
    assert again.held_out == folds.held_out


def test_the_folds_do_not_touch_the_network_trained_on_everything(folds: Folds, cache: Path) -> None:
    assert training_record("tiny@digits", cache=cache) is None
    whole = load_network("tiny@digits", cache=cache, device="cpu", progress=False)
    assert whole.fingerprint not in {network.fingerprint for network in folds.networks}


def test_another_seed_deals_other_folds(folds: Folds, cache: Path) -> None:
    other = load_folds("tiny@digits", 3, seed=1, cache=cache, device="cpu", progress=False)
    assert other.held_out.keys() == folds.held_out.keys()
    assert other.held_out != folds.held_out


@pytest.mark.parametrize(
    ("name", "k", "said"),
    [
        ("tiny@digit", 4, "unknown name 'tiny@digit'.*did you mean 'tiny@digits'"),
        ("untrained@digits", 4, "folds of a network of the zoo: unknown name 'untrained@digits'"),
        ("tiny@digits", 1, "given k=1, allowed is 2 or more"),
        ("tiny@digits", 241, "given k=241, allowed is 2 to 240, the number of pictures"),
    ],
)
def test_what_cannot_be_folded_is_told(name: str, k: int, said: str, cache: Path) -> None:
    with pytest.raises(LimenError, match=said):
        load_folds(name, k, cache=cache, progress=False)


def test_folds_of_your_own_networks(folds: Folds) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    own = Folds.of_pictures("mine", folds.networks, pictures, [2, 0, 1, 1], [5, 6, 7, 8])
    assert own.of(pictures[::-1]).tolist() == [1, 1, 0, 2]
    assert own.labels(pictures).tolist() == [5, 6, 7, 8]
    with pytest.raises(LimenError, match="given 3 networks and folds 0 to 3"):
        Folds.of_pictures("mine", folds.networks, pictures, [0, 1, 2, 3], [0, 0, 0, 0])


def test_equal_pictures_have_one_digest_and_shapes_count() -> None:
    pictures = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    first, second = digests(pictures)
    assert first == second
    assert digests(pictures.reshape(2, 2, 8, 3))[0] != first


def test_a_recipe_without_deletion_keeps_its_key() -> None:
    assert "deletion" not in RECIPES["tiny@digits"].facts()
    assert RECIPES["tiny@digits_deletion"].facts()["deletion"] == 4


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 1.0, 1.0), (0.5, 0.4, 0.6)])
def test_one_cell_is_deleted_in_a_share_of_the_pictures(share: float, low: float, high: float) -> None:
    kept = kept_cells(torch.zeros(400, 3, 16, 16), 4, Draws(0), share=share)
    gone = (1 - kept).flatten(1).sum(dim=1)
    assert set(gone.tolist()) <= {0.0, 16.0}
    assert low <= (gone > 0).float().mean() <= high
    cells = (1 - kept).reshape(400, 4, 4, 4, 4).mean(dim=(2, 4)).flatten(1)
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    # Every one of the 16 cells is drawn.
    assert (cells.sum(dim=0) > 0).all()


@pytest.mark.long
def test_a_network_trained_on_deletions_reads_deleted_digits(tmp_path: Path) -> None:
    network = load_network("tiny@digits_deletion", cache=tmp_path, device="cpu", progress=False)
    record = training_record("tiny@digits_deletion", cache=tmp_path)
    assert record is not None
    assert record["test_accuracy"] > 0.9
    assert record["deletion_accuracy"] > record["test_accuracy"] - 0.05
    # The same through the engine: each cell set to the normalised 0 in turn.
    images = load_images("digits", n=200)
    engine = Engine(network, device="cpu")
    inputs = engine.inputs(images.pictures)
    right = []
    for row in range(4):
        for column in range(4):
            copies = inputs.clone()
            copies[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 0
            right.append((engine.scores(copies).argmax(dim=1).numpy() == images.labels).mean())
    assert np.mean(right) == pytest.approx(record["deletion_accuracy"], abs=0.04)
