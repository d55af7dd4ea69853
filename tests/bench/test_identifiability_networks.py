"""Dictionaries at a layer of a trained network: concepts it was trained on are found, others stay at chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import zoo
from bench.api import ScoreResult, fit_dictionary, score_dictionaries
from bench.engine import Engine
from bench.images import ImageSet
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import top_positions


@pytest.fixture(scope="module")
def digits_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine on a small network trained on digits."""
    cache: Path = tmp_path_factory.mktemp("networks")
    return Engine(zoo.load_network("tiny@digits", cache=cache, progress=False), device="cpu", precision="fp32")


def concepts(engine: Engine, train: ImageSet, test: ImageSet, labels: tuple[Tensor, Tensor]) -> ConceptData:
    """Pool the network's default layer over positions."""
    layer = engine.network.layer
    assert layer is not None
    pooled = [engine.tap(engine.inputs(part.pictures), layer).mean(dim=(2, 3)) for part in (train, test)]
    return ConceptData(*pooled, *labels, tuple(str(index) for index in range(labels[0].shape[1])))


def identifiability(data: ConceptData, name: str, k: int) -> ScoreResult:
    fits = [fit_dictionary(name, data.train, k, seed=seed) for seed in (0, 1)]
    return score_dictionaries("identifiability", fits, data)


@pytest.mark.long
def test_the_classes_of_a_network_are_found_in_its_last_stage(digits_engine: Engine) -> None:
    train, test = (zoo.load_images("digits", split, 400, 0) for split in ("train", "test"))
    labels = tuple(torch.nn.functional.one_hot(torch.from_numpy(part.labels), 10).bool() for part in (train, test))
    data = concepts(digits_engine, train, test, labels)
    units = data.train.shape[1]
    neurons, nmf, random = (
        identifiability(data, name, k) for name, k in (("neurons", units), ("nmf", 10), ("random", 10))
    )
    assert nmf.gain.low > 0.3
    assert nmf.value.low > neurons.value.mean
    assert nmf.ceiling.mean() > 0.8
    assert nmf.value.mean < nmf.ceiling.mean() + 0.1
    assert random.at_null


@pytest.mark.long
def test_objects_a_network_never_saw_stay_at_chance(digits_engine: Engine) -> None:
    train, test = (zoo.load_images("collages", split, 400, 0, objects=10) for split in ("train", "test"))
    labels = tuple(torch.from_numpy(part.concepts) for part in (train, test))
    data = concepts(digits_engine, train, test, labels)
    for name, k in (("neurons", data.train.shape[1]), ("pca", 10), ("nmf", 10), ("random", 10)):
        scored = identifiability(data, name, k)
        assert abs(scored.value.mean) < 0.15
        assert abs(scored.ceiling.mean()) < 0.15
        assert scored.extra["published"].mean() == pytest.approx(0.6, abs=0.05)


@pytest.mark.long
def test_crops_of_an_atom_lie_where_its_code_is_largest(digits_engine: Engine) -> None:
    layer = digits_engine.network.layer
    maps = digits_engine.tap(digits_engine.inputs(zoo.load_images("digits", "test", 60, 0).pictures), layer)
    codes = fit_dictionary("nmf", maps, 6).encode(maps)
    chosen = top_positions(codes, 4).numpy()
    strongest = np.sort(codes.numpy().max(axis=(1, 2)), axis=0)[::-1][:4].T
    found = np.array([[codes[tuple(place)][atom] for place in places] for atom, places in enumerate(chosen)])
    np.testing.assert_array_equal(found, strongest)
