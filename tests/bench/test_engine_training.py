"""The training loop: it learns, it is seeded, and it leaves the caller's state alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.engine.random import Draws
from bench.engine.training import accuracy, augmented, train_classifier
from bench.registry import LimenError

FACTS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "device": "cpu"}


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with horizontal (0), vertical (1) or no (2) stripes of one of two phases."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count)
    data = random.integers(60, 120, size=(count, 16, 16, 3))
    stripes = np.where(np.arange(16) // 2 % 2, 90, 0)
    for picture, label in zip(data, labels, strict=True):
        if label == 0:
            picture += np.roll(stripes, random.integers(4))[:, None, None]
        elif label == 1:
            picture += np.roll(stripes, random.integers(4))[None, :, None]
    return data.astype(np.uint8), labels


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )


def train(seed: int = 0, epochs: int = 1, **options) -> nn.Module:
    return train_classifier(small(), *pictures(96, 0), epochs=epochs, batch_size=32, seed=seed, **FACTS, **options)


def test_it_learns_what_can_be_learnt() -> None:
    module = small()
    test = pictures(150, 1)
    assert accuracy(module, *test, **FACTS) < 0.6
    train_classifier(module, *pictures(300, 0), epochs=8, batch_size=32, learning_rate=0.02, **FACTS)
    assert accuracy(module, *test, **FACTS) > 0.95


def test_it_cannot_learn_labels_that_mean_nothing() -> None:
    data, labels = pictures(300, 0)
    shuffled = np.random.default_rng(0).permutation(labels)
    module = train_classifier(small(), data, shuffled, epochs=3, batch_size=32, **FACTS)
    assert accuracy(module, *pictures(150, 1), **FACTS) < 0.7


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    first, again, other = (train(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_trained_module_is_frozen_and_in_evaluation_mode() -> None:
    module = train()
    assert not module.training
    assert not any(value.requires_grad for value in module.parameters())


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    train()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_step_is_told() -> None:
    told: list[tuple[int, int, float]] = []
    train(epochs=2, on_step=lambda *facts: told.append(facts))
    assert [(done, total) for done, total, _ in told] == [(step, 6) for step in range(1, 7)]
    assert told[-1][2] < told[0][2]


def test_accuracy_leaves_the_mode_of_the_module() -> None:
    module = small().train()
    accuracy(module, *pictures(8, 0), **FACTS)
    assert module.training


def test_accuracy_is_the_share_of_right_answers() -> None:
    class Brightest(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    data = np.zeros((4, 4, 4, 3), np.uint8)
    data[[0, 1, 2, 3], :, :, [0, 1, 2, 2]] = 255
    found = accuracy(Brightest(), data, np.array([0, 1, 2, 0]), mean=(0.0,) * 3, std=(1.0,) * 3, batch_size=3)
    assert found == 0.75


def test_moved_pictures_agree_with_a_slow_twin() -> None:
    images = torch.from_numpy(pictures(6, 0)[0]).permute(0, 3, 1, 2)
    draws = Draws(0)
    down, right = (draws.integers(5, 6) - 2 for _ in range(2))
    found = augmented(images, Draws(0), shift=2, flip=False)
    for index in range(6):
        for row in range(16):
            for column in range(16):
                source_row = min(max(row - int(down[index]), 0), 15)
                source_column = min(max(column - int(right[index]), 0), 15)
                assert torch.equal(found[index, :, row, column], images[index, :, source_row, source_column])
    assert len(set(down.tolist())) > 1


def test_half_of_the_pictures_are_mirrored() -> None:
    images = torch.from_numpy(pictures(200, 0)[0]).permute(0, 3, 1, 2)
    found = augmented(images, Draws(0), shift=0, flip=True)
    mirrored = [torch.equal(one, image.flip(2)) for one, image in zip(found, images, strict=True)]
    same = [torch.equal(one, image) for one, image in zip(found, images, strict=True)]
    assert sum(mirrored) + sum(same) == 200
    assert 70 < sum(mirrored) < 130


def test_without_augmentation_pictures_stay_as_they_are() -> None:
    images = torch.from_numpy(pictures(3, 0)[0]).permute(0, 3, 1, 2)
    assert torch.equal(augmented(images, Draws(0), shift=0, flip=False), images)


def test_data_that_disagree_are_refused() -> None:
    data, labels = pictures(4, 0)
    with pytest.raises(LimenError, match="given 4 pictures and 3 labels"):
        train_classifier(small(), data, labels[:3], **FACTS)
    with pytest.raises(LimenError, match="training data: given float32"):
        accuracy(small(), data.astype(np.float32), labels, **FACTS)


def test_training_that_diverges_is_told() -> None:
    with pytest.raises(LimenError, match="the weights are no longer finite at a learning rate of inf"):
        train(learning_rate=float("inf"))
