"""What every metric of dictionaries holds to, whichever dictionary it is given."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import ScoreResult, fit_dictionary, needs_k, score_dictionaries
from bench.registry import DICTIONARIES, METRICS, LimenError
from bench.spaces.concept_data import ConceptData, Truth
from bench.spaces.dictionary import Dictionary

ALONE = {"universality": "its metrics read the codes of several networks"}
"""Questions whose metrics cannot be given just any dictionary, and why; they have tests of their own."""
SLOW = {"energy_matched", "identifiability", "k_sparse_probing"}
NAMES = [
    pytest.param(name, marks=pytest.mark.long) if name in SLOW else name
    for name in METRICS.names()
    if METRICS.card(name).of == "dictionary" and METRICS.group(name) not in ALONE  # type: ignore[attr-defined]
]
QUICK = ("kmeans", "neurons", "pca", "random")
METHODS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.long)
    for name in DICTIONARIES.names()
    if name != "universal"
]
K, D, SIDE, LABELS, CLASSES = 6, 9, 4, 2, 4
UNDEFINED = {
    ("morans_i", "neurons"): "ReLU units that speak at nearly all positions",
    ("morans_i", "random"): "dense codes speak at all positions",
    ("morans_i", "pca"): "dense codes speak at all positions",
    ("morans_i", "ica"): "dense codes speak at all positions",
}
"""Pairs of a metric and a dictionary whose values may all be undefined, and why."""
NOT_AT_NULL = {
    "negative_interference": "least-squares codes of atoms that lean together are pushed apart",
}
"""Metrics that a random dictionary does not bring to their null on noise, and why."""


PAIRS = 6
"""Pairs of random dictionaries behind a comparison with a null."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def assembled(train_maps: Tensor, test_maps: Tensor, parts: dict[str, object], seed: int) -> ConceptData:
    """Put maps together with a linear head and noise that moves activations."""
    weights, bias = normal(CLASSES, D, seed=seed), normal(CLASSES, seed=seed + 1)
    test = test_maps.mean(dim=1)
    return ConceptData(
        train=train_maps.mean(dim=1),
        test=test,
        label_names=tuple("ab"),
        train_maps=train_maps,
        test_maps=test_maps,
        grid=(SIDE, SIDE),
        head=lambda maps: maps.mean(dim=1) @ weights.T + bias,
        head_weights=weights,
        head_bias=bias,
        targets=(test @ weights.T + bias).argmax(dim=1),
        class_names=("w", "x", "y", "z"),
        noisy=lambda level, draw: test + level * normal(*test.shape, seed=1000 + draw),
        **parts,  # type: ignore[arg-type]
    )


@functools.cache
def structured() -> ConceptData:
    """Non-negative activations of six planted atoms, each in one quarter of the picture, with labels that they carry."""
    atoms = normal(K, D, seed=0).abs()
    atoms = atoms / atoms.norm(dim=1, keepdim=True)
    codes, maps = [], []
    for count, seed in ((60, 1), (50, 2)):
        present = torch.rand(count, K, generator=generator(seed)) < 0.4
        size = 1 + torch.rand(count, K, generator=generator(seed + 10))
        where = torch.zeros(SIDE, SIDE, K)
        for atom in range(K):
            row, column = divmod(atom % 4, 2)
            where[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, atom] = 1
        placed = (present * size)[:, None, None] * where
        codes.append(placed.flatten(1, 2).mean(dim=1))
        maps.append(placed.flatten(1, 2) @ atoms + 0.01 * normal(count, SIDE**2, D, seed=seed + 20).abs())
    parts = {
        "train_labels": codes[0][:, :LABELS] > 0,
        "test_labels": codes[1][:, :LABELS] > 0,
        "test_position_labels": placed.flatten(1, 2)[:, :, :LABELS] > 0,
        "layers": {
            "early": (normal(60, 7, seed=5), normal(50, 7, seed=6)),
            "late": (maps[0].mean(dim=1), maps[1].mean(dim=1)),
        },
        "embeddings": codes[1] @ normal(K, 5, seed=7) + 0.1 * normal(50, 5, seed=8),
        "truth": Truth(atoms, *codes),
    }
    return assembled(*maps, parts, seed=30)


@functools.cache
def noise() -> ConceptData:
    """Activations, labels, layers and embeddings that have nothing to do with each other."""
    maps = [normal(count, SIDE**2, D, seed=seed) for count, seed in ((200, 41), (200, 42))]
    labels = [torch.rand(200, LABELS, generator=generator(seed)) < 0.4 for seed in (43, 44)]
    truth = Truth(torch.nn.functional.normalize(normal(K, D, seed=48)), *(normal(200, K, seed=s) for s in (49, 50)))
    parts = {
        "train_labels": labels[0],
        "test_labels": labels[1],
        "test_position_labels": torch.rand(200, SIDE**2, LABELS, generator=generator(45)) < 0.4,
        "layers": {name: (normal(200, 7, seed=s), normal(200, 7, seed=s + 1)) for name, s in (("a", 51), ("b", 53))},
        "embeddings": normal(200, 5, seed=47),
        "truth": truth,
    }
    return assembled(*maps, parts, seed=60)


@functools.cache
def fitted(name: str, seed: int = 0) -> Dictionary:
    """Fit a dictionary; what is asked here does not hang on long training."""
    options = {"steps": 40} if "steps" in inspect.signature(DICTIONARIES.load(name)).parameters else {}
    return fit_dictionary(name, structured().train, K if needs_k(name) else None, seed=seed, **options)


@functools.cache
def scored(metric: str, *dictionaries: Dictionary, data: ConceptData | None = None, seed: int = 0) -> ScoreResult:
    return score_dictionaries(metric, dictionaries, structured() if data is None else data, seed=seed)


def reordered(one: Dictionary, order: Tensor) -> Dictionary:
    """Return the dictionary with its atoms in another order."""
    if one.encoder == "identity":
        filters = torch.eye(one.d)[order]
        return dataclasses.replace(one, atoms=one.atoms[order], encoder="linear", parameters={"filters": filters})
    parameters = {
        name: part[order] if part.ndim and len(part) == one.k else part for name, part in one.parameters.items()
    }
    return dataclasses.replace(one, atoms=one.atoms[order], parameters=parameters)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metric", NAMES)
def test_a_metric_scores_every_dictionary(metric: str, method: str) -> None:
    result = scored(metric, fitted(method, 0), fitted(method, 1))
    low, high = result.card.bounds
    known = result.values[np.isfinite(result.values)]
    assert not np.isinf(result.values).any()
    assert len(known) or (metric, method) in UNDEFINED
    assert (known >= low - 1e-9).all()
    assert (known <= high + 1e-9).all()
    assert np.isfinite(result.null[np.isfinite(result.values)]).all()
    assert len(result.samples) == len(result.values)
    assert result.convention
    assert all(len(column) == len(result.values) for column in result.extra.values())


@pytest.mark.parametrize("metric", NAMES)
def test_a_ceiling_is_not_passed(metric: str) -> None:
    result = scored(metric, fitted("kmeans"), fitted("kmeans", 1))
    if result.card.ceiling is None:
        assert np.isnan(result.ceiling).all()
        return
    beyond = result.ceiling - result.values if result.direction == "down" else result.values - result.ceiling
    assert np.isfinite(result.ceiling).any() or metric == "feature_redundancy"
    if metric not in {"feature_redundancy", "k_sparse_probing", "identifiability"}:
        assert np.nanmean(beyond) <= 1e-6


@pytest.mark.parametrize("method", ["kmeans", pytest.param("pca", marks=pytest.mark.long)])
@pytest.mark.parametrize("metric", NAMES)
def test_the_order_of_atoms_changes_no_mean(metric: str, method: str) -> None:
    pair = fitted(method, 0), fitted(method, 1)
    order = torch.randperm(pair[0].k, generator=generator(3))
    plain, other = (scored(metric, *both).value.mean for both in (pair, [reordered(one, order) for one in pair]))
    assert other == pytest.approx(plain, abs=1e-5) or (math.isnan(plain) and math.isnan(other))


@pytest.mark.parametrize("metric", NAMES)
def test_a_metric_leaves_its_inputs_untouched(metric: str) -> None:
    pair = fitted("kmeans", 0), fitted("kmeans", 1)
    tensors = [*pair, structured()]
    before = [{k: v.clone() for k, v in vars(one).items() if isinstance(v, Tensor)} for one in tensors]
    scored.__wrapped__(metric, *pair)
    for one, kept in zip(tensors, before, strict=True):
        assert all(torch.equal(getattr(one, name), value) for name, value in kept.items())


@pytest.mark.parametrize("metric", NAMES)
def test_a_seed_fixes_value_and_null(metric: str) -> None:
    pair = fitted("kmeans", 0), fitted("kmeans", 1)
    first, second = (scored.__wrapped__(metric, *pair, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.null, second.null)


@pytest.mark.parametrize("metric", [name for name in NAMES if name not in list(NOT_AT_NULL)])
def test_a_random_dictionary_of_noise_scores_its_null(metric: str) -> None:
    data = noise()
    blind = [fit_dictionary("random", data.train, K, seed=100 + seed) for seed in range(2 * PAIRS)]
    # Rows and labels share their dictionaries, so that it is pairs of dictionaries that are drawn, each beside its null.
    results = [scored(metric, *blind[2 * pair : 2 * pair + 2], data=data, seed=10 * pair) for pair in range(PAIRS)]
    gains = np.array([result.gain.mean for result in results])
    if not np.isfinite(gains).any():
        assert (metric, "random") in UNDEFINED
        return
    size = np.mean([abs(result.null_value.mean) for result in results])
    assert abs(gains.mean()) <= max(4 * gains.std(ddof=1) / PAIRS**0.5, 0.02 * size, 1e-9)


@pytest.mark.parametrize("metric", NAMES)
def test_no_dictionary_is_refused(metric: str) -> None:
    with pytest.raises(LimenError, match=f"metric '{metric}': given no dictionary"):
        score_dictionaries(metric, [], structured())


@pytest.mark.parametrize("metric", NAMES)
def test_bare_activations_are_scored_or_refused_in_one_sentence(metric: str) -> None:
    data = ConceptData(structured().train, structured().test)
    try:
        result = scored(metric, fitted("kmeans"), fitted("kmeans", 1), data=data)
    except LimenError as error:
        assert str(error).startswith(f"metric '{metric}'")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert np.isfinite(result.values).any()
