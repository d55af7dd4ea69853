"""Identifiability: latents that know everything score 1, latents that know nothing 0, and the published floor is met."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from bench.api import fit_dictionary, score_dictionaries
from bench.engine import Draws
from bench.records import Measurement
from bench.registry import METRICS, LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary


def collages(n: int, objects: int, seed: int) -> Tensor:
    """Labels of collages: 4 distinct objects out of `objects` in each, bool (n, objects)."""
    draws = np.random.default_rng(seed)
    labels = torch.zeros(n, objects, dtype=torch.bool)
    for row in labels:
        row[draws.choice(objects, 4, replace=False)] = True
    return labels


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dataset(train: Tensor, test: Tensor, train_labels: Tensor, test_labels: Tensor) -> ConceptData:
    names = tuple(f"object {index}" for index in range(train_labels.shape[1]))
    return ConceptData(train, test, train_labels, test_labels, names)


def known(n: int = 400, objects: int = 10, noise: float = 0.0, order: list[int] | None = None) -> ConceptData:
    """Activations whose features are the objects themselves, in `order`, plus noise."""
    labels = [collages(n, objects, seed) for seed in (1, 2)]
    order = order or list(range(objects))
    rows = [(part[:, order] + noise * numbers(n, objects, seed=seed)) for seed, part in enumerate(labels)]
    return dataset(*rows, *labels)


def neurons(d: int, *, signed: bool = False) -> Dictionary:
    return Dictionary(name="neurons", atoms=torch.eye(d), mean=torch.zeros(d), encoder="identity", signed=signed)


def measure(data: ConceptData, *dictionaries: Dictionary, **options: object) -> Measurement:
    return METRICS.load("identifiability")(dictionaries, data, draws=Draws(0), **options)


def test_perfect_latents_score_one_by_every_rule() -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    result = measure(known(order=order), neurons(10))
    np.testing.assert_allclose(result.values, 1.0)
    np.testing.assert_allclose(result.extra["published"], 1.0)
    np.testing.assert_allclose(result.extra["auroc"], 1.0)
    assert [order[int(atom)] for atom in result.extra["atom"]] == list(range(10))


@pytest.mark.parametrize("objects", [9, 10, 16, 20])
def test_random_latents_score_the_published_floor_and_zero_when_corrected(objects: int) -> None:
    labels = collages(2000, objects, 1), collages(2000, objects, 2)
    data = dataset(numbers(2000, objects), numbers(2000, objects, seed=1), *labels)
    result = score_dictionaries("identifiability", [neurons(objects, signed=True)], data, null_draws=1)
    assert result.extra["published"].mean() == pytest.approx(1 - 4 / objects, abs=0.01)
    assert result.value.mean == pytest.approx(0, abs=0.02)
    assert result.value.holds(0)
    assert result.gain.mean == pytest.approx(0, abs=0.02)
    assert result.extra["random_codes"].mean() == pytest.approx(0, abs=0.015)
    assert result.extra["constant"].mean() == pytest.approx(1 - 4 / objects, abs=1e-9)


def test_the_value_is_the_accuracy_corrected_by_what_random_codes_reach() -> None:
    result = measure(known(noise=0.3), neurons(10))
    accuracy, floor = result.extra["accuracy"], result.extra["floor"]
    np.testing.assert_allclose(result.values, (accuracy - floor) / (1 - floor))
    # A threshold that chance chose on train can only lose to the better constant answer.
    assert -0.03 < (floor - result.extra["constant"]).mean() <= 0
    assert 0 < result.values.mean() < 1


def test_the_threshold_comes_from_train_and_the_score_from_test() -> None:
    data = known(n=300, objects=8, noise=0.4)
    result = measure(data, neurons(8))
    for concept in range(8):
        codes = data.train[:, int(result.extra["atom"][concept])].sort().values.tolist()
        candidates = [-np.inf, *(codes[-(-share * 300 // 100) - 1] for share in range(1, 101))]
        truth = data.train_labels[:, concept]
        column = data.train[:, int(result.extra["atom"][concept])]
        right = [float(((column > candidate) == truth).double().mean()) for candidate in candidates]
        chosen = candidates[int(np.argmax(right))]
        scored = data.test[:, int(result.extra["atom"][concept])] > chosen
        expected = float((scored == data.test_labels[:, concept]).double().mean())
        assert result.extra["accuracy"][concept] == pytest.approx(expected)


def test_the_published_accuracy_is_that_of_the_plain_double_loop() -> None:
    data = known(n=150, objects=8, noise=0.6)
    codes, labels = data.test.numpy(), data.test_labels.numpy()
    expected = np.zeros(8)
    for concept in range(8):
        for atom in range(8):
            for share in range(1, 101):
                threshold = np.percentile(codes[:, atom], share, method="inverted_cdf")
                expected[concept] = max(expected[concept], np.mean((codes[:, atom] > threshold) == labels[:, concept]))
    np.testing.assert_allclose(measure(data, neurons(8)).extra["published"], expected)


def test_auroc_is_scikit_learns_on_the_matched_atom() -> None:
    data = known(noise=0.5)
    result = measure(data, neurons(10))
    expected = [
        roc_auc_score(data.test_labels[:, concept], data.test[:, int(atom)])
        for concept, atom in enumerate(result.extra["atom"])
    ]
    np.testing.assert_allclose(result.extra["auroc"], expected)


def test_one_atom_cannot_answer_for_two_concepts() -> None:
    data = known(objects=8)
    labels = [torch.cat([part, part[:, :1]], dim=1) for part in (data.train_labels, data.test_labels)]
    twice = dataset(data.train, data.test, *labels)
    result = measure(twice, neurons(8))
    assert sorted(result.extra["atom"]) == [-1, *range(8)]
    alone = result.extra["atom"] == -1
    np.testing.assert_array_equal(result.values[alone], 0.0)
    np.testing.assert_array_equal(result.extra["auroc"][alone], 0.5)
    np.testing.assert_array_equal(result.extra["published"], 1.0)


def test_a_code_that_is_low_where_the_concept_is_counts_only_if_signs_are_free() -> None:
    data = known()
    upside_down = dataset(-data.train, -data.test, data.train_labels, data.test_labels)
    np.testing.assert_allclose(measure(upside_down, neurons(10, signed=True)).values, 1.0)
    np.testing.assert_allclose(measure(upside_down, neurons(10, signed=True)).extra["auroc"], 1.0)
    assert measure(upside_down, neurons(10)).values.mean() < 0.3


def mixed(n: int = 400) -> ConceptData:
    """Sparse sums of non-negative object directions, as a network after a ReLU would hold them."""
    draws = np.random.default_rng(0)
    directions = torch.from_numpy(abs(draws.normal(size=(10, 32)))).float()
    labels = [collages(n, 10, seed) for seed in (1, 2)]
    rows = [(part * (1 + numbers(n, 10, seed=seed).abs())) @ directions for seed, part in enumerate(labels)]
    return dataset(*rows, *labels)


def test_planted_objects_are_found_by_nmf_then_neurons_then_chance_below_the_ceiling() -> None:
    data = mixed()
    fits = {name: fit_dictionary(name, data.train, 32 if name == "neurons" else 10) for name in ("neurons", "nmf")}
    scored = {name: score_dictionaries("identifiability", [one], data) for name, one in fits.items()}
    assert scored["nmf"].value.mean > 0.95
    assert scored["nmf"].gain.low > 0.3
    assert scored["nmf"].value.low > scored["neurons"].value.mean
    assert scored["nmf"].ceiling.mean() > 0.95


def test_the_ceiling_reads_what_no_single_atom_holds() -> None:
    data = known(n=600, objects=8)
    rotation = torch.linalg.qr(numbers(8, 8)).Q
    turned = dataset(data.train @ rotation, data.test @ rotation, data.train_labels, data.test_labels)
    result = measure(turned, neurons(8, signed=True))
    assert result.ceiling.mean() > 0.97
    assert result.values.mean() < 0.7


def test_the_preset_gives_published_accuracies_with_their_own_null_and_ceiling() -> None:
    data = known(noise=0.5)
    published, ours = measure(data, neurons(10), preset="ra-sae"), measure(data, neurons(10))
    np.testing.assert_allclose(published.values, ours.extra["published"])
    np.testing.assert_allclose(published.null, ours.extra["published_null"])
    floor = ours.extra["floor"]
    np.testing.assert_allclose((published.ceiling - floor) / (1 - floor), ours.ceiling)
    assert "chosen on the scored split" in published.convention


def test_several_fits_are_averaged() -> None:
    data = mixed(200)
    fits = [fit_dictionary("nmf", data.train, 6, seed=seed) for seed in (0, 1)]
    each = [measure(data, one, null_draws=1).values for one in fits]
    np.testing.assert_allclose(measure(data, *fits, null_draws=1).values, np.mean(each, axis=0))


def test_a_concept_that_does_not_vary_is_left_out_by_name() -> None:
    data = known(objects=8)
    train, test = data.train_labels.clone(), data.test_labels.clone()
    train[:, 2], test[:, 5] = False, True
    result = measure(dataset(data.train, data.test, train, test), neurons(8))
    assert len(result.values) == len(result.samples) == 6
    assert result.convention.endswith("left out, as they do not vary: object 2, object 5")


def test_data_without_labels_are_refused() -> None:
    with pytest.raises(LimenError, match="given 1 dictionaries and no labels, allowed are one or more, and labels"):
        measure(ConceptData(numbers(5, 3), numbers(5, 3)), neurons(3))


def test_labels_of_which_none_varies_are_refused() -> None:
    always = torch.ones(5, 2, dtype=torch.bool)
    with pytest.raises(LimenError, match="given the concepts object 0, object 1, of which none is both"):
        measure(dataset(numbers(5, 3), numbers(5, 3), always, always), neurons(3))
