"""Held-out R2 of the reconstruction: its formula, its null and its ceiling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import Tensor

from bench.api import fit_dictionary
from bench.engine import Draws
from bench.records import Measurement
from bench.registry import DICTIONARIES, METRICS, LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def data() -> ConceptData:
    """Non-negative activations of low rank whose features differ in mean and scale."""
    scales = torch.linspace(0.5, 4, 12)
    return ConceptData(*((numbers(200, 4, seed=seed).abs() @ numbers(4, 12).abs() * scales) for seed in (1, 2)))


def r2(data: ConceptData, *dictionaries: Dictionary) -> Measurement:
    return METRICS.load("reconstruction_r2")(dictionaries, data, draws=Draws(0))


def fit(name: str, data: ConceptData, k: int, seed: int = 0) -> Dictionary:
    """Fit k atoms; the neuron basis has one size, and there are no more independent components than the rank."""
    rank = int(torch.linalg.matrix_rank(data.train - data.train.mean(dim=0), rtol=1e-5))
    size = {"neurons": data.train.shape[1], "ica": min(k, rank)}.get(name, k)
    return fit_dictionary(name, data.train, size, seed=seed)


@pytest.mark.parametrize("name", DICTIONARIES.names())
def test_the_mean_of_the_values_is_r2_from_its_formula(name: str) -> None:
    split = data()
    dictionary = fit(name, split, 3)
    rebuilt = dictionary.decode(dictionary.encode(split.test)).numpy()
    expected = r2_score(split.test.numpy(), rebuilt, multioutput="variance_weighted")
    assert r2(split, dictionary).values.mean() == pytest.approx(expected, abs=1e-5)


def test_neurons_keep_everything() -> None:
    result = r2(data(), fit("neurons", data(), 12))
    np.testing.assert_array_equal(result.values, 1.0)
    np.testing.assert_array_equal(result.extra["relative_error"], 0.0)


@pytest.mark.parametrize("name", ["nmf", "pca"])
def test_planted_rank_is_reconstructed_and_random_directions_are_beaten(name: str) -> None:
    result = r2(data(), fit(name, data(), 4))
    assert result.values.mean() > 0.999
    assert result.null.mean() < 0.9


def test_predicting_each_features_mean_scores_zero() -> None:
    split = data()
    blind = Dictionary(
        name="blind", atoms=torch.zeros(2, 12), mean=split.test.mean(dim=0), encoder="nnls", signed=False
    )
    assert r2(split, blind).values.mean() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", DICTIONARIES.names())
@pytest.mark.parametrize("k", [1, 3, 12])
def test_no_dictionary_passes_the_ceiling(name: str, k: int) -> None:
    result = r2(data(), fit(name, data(), k))
    assert result.values.mean() <= result.ceiling.mean() + 1e-6


def test_a_random_dictionary_scores_its_null() -> None:
    split = ConceptData(numbers(300, 40), numbers(300, 40, seed=1))
    result = r2(split, *(fit("random", split, 10, seed=seed) for seed in range(5)))
    assert result.values.mean() == pytest.approx(result.null.mean(), abs=0.02)


def test_several_fits_are_averaged() -> None:
    split = data()
    first, second = fit("nmf", split, 2, seed=0), fit("pca", split, 2)
    mean = (r2(split, first).values + r2(split, second).values) / 2
    np.testing.assert_allclose(r2(split, first, second).values, mean, atol=1e-12)


def test_rows_that_are_all_the_same_are_refused() -> None:
    flat = ConceptData(numbers(5, 3), torch.ones(5, 3))
    with pytest.raises(LimenError, match="held-out rows of variance 0, allowed are one or more and rows that differ"):
        r2(flat, fit("pca", flat, 2))
