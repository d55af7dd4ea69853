"""The floor of identifiability: random latents score exactly what is stated, 0 once corrected, and perfect ones 1."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import ScoreResult, score_dictionaries
from bench.engine import Draws
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary
from bench.zoo.image_sets.collages import _quarters

IMAGES = 2000


def labels(objects: int, split: str) -> Tensor:
    """Which four of the objects each collage of a split shows, bool (2000, objects)."""
    quarters = torch.from_numpy(_quarters(split, objects))
    return torch.zeros(IMAGES, objects, dtype=torch.bool).scatter_(1, quarters, True)


def scored(objects: int, *, noise: float, seed: int = 0, preset: str = "limen") -> ScoreResult:
    """Score latents that are the labels plus noise; infinite noise leaves the noise alone."""
    told = [labels(objects, split) for split in ("train", "test")]
    dust = [Draws(seed, split).normal(IMAGES, objects) for split in ("train", "test")]
    rows = [grain if noise == float("inf") else truth + noise * grain for truth, grain in zip(told, dust, strict=True)]
    names = tuple(f"object {index}" for index in range(objects))
    identity = Dictionary(
        name="latents", atoms=torch.eye(objects), mean=torch.zeros(objects), encoder="identity", signed=True
    )
    data = ConceptData(*rows, *told, names)
    return score_dictionaries("identifiability", [identity], data, seed=seed, preset=preset, null_draws=1)


@cache
def blind(objects: int, preset: str) -> ScoreResult:
    return scored(objects, noise=float("inf"), preset=preset)


@pytest.mark.parametrize("objects", [9, 10, 16, 20])
def test_every_object_is_in_four_of_n_collages(objects: int) -> None:
    often = labels(objects, "test").double().mean(dim=0)
    assert float(often.mean()) == pytest.approx(4 / objects, abs=1e-9)
    assert float((often - 4 / objects).abs().max()) < 4 * (4 / objects / IMAGES) ** 0.5


@pytest.mark.parametrize("objects", [9, 10, 16, 20])
def test_the_published_accuracy_of_random_latents_is_one_minus_four_over_n(objects: int) -> None:
    floor = blind(objects, "ra-sae")
    assert floor.value.mean == pytest.approx(1 - 4 / objects, abs=0.01)
    # Both knew nothing: the stated null is met.
    assert floor.null_value.mean == pytest.approx(floor.value.mean, abs=0.01)


@pytest.mark.parametrize("objects", [9, 10, 16, 20])
def test_random_latents_score_zero_within_the_interval_once_corrected(objects: int) -> None:
    floor = blind(objects, "limen")
    assert floor.value.holds(0)
    assert floor.value.mean == pytest.approx(0, abs=0.01)
    assert floor.gain.mean == pytest.approx(0, abs=0.015)
    assert floor.extra["random_codes"].mean() == pytest.approx(floor.value.mean, abs=0.02)


def test_over_seeds_random_latents_average_to_zero() -> None:
    means = np.array([scored(10, noise=float("inf"), seed=seed).value.mean for seed in range(4)])
    assert abs(means.mean()) < 0.006


@pytest.mark.parametrize("preset", ["limen", "ra-sae"])
@pytest.mark.parametrize("objects", [9, 20])
def test_perfect_latents_score_one(objects: int, preset: str) -> None:
    perfect = scored(objects, noise=0.05, preset=preset)
    # The 'limen' threshold is a percentile of train, so that up to half a percent of the rows lie on its wrong side.
    assert perfect.value.low > (0.97 if preset == "limen" else 0.99)
    assert perfect.value.high <= 1
    assert np.nanmean(perfect.ceiling) > 0.99


def test_a_published_score_on_its_floor_is_zero_once_corrected() -> None:
    # What K-means was published with, .77 on average, is what knowing nothing gives with 17 or 18 objects.
    published, corrected = blind(16, "ra-sae"), blind(16, "limen")
    assert published.value.mean > 0.74
    assert corrected.value.mean < 0.01


def test_scores_rise_from_floor_to_ceiling_as_noise_falls() -> None:
    means = [scored(10, noise=noise).value.mean for noise in (float("inf"), 0.5, 0.05)]
    assert means == sorted(means)
    assert means[1] > 0.2
