"""Recovery of planted atoms: closed forms, chance, ceiling, a slow twin and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from bench.api import fit_dictionary, score_dictionaries
from bench.engine import Draws
from bench.metrics.identifiability.recovery import _best_threshold
from bench.registry import LimenError
from bench.spaces import ConceptData, Dictionary
from bench.spaces.concept_data import Truth
from bench.zoo.planted import Planted, sparse


@pytest.fixture(scope="module")
def planted() -> Planted:
    """Twenty-four atoms in sixteen dimensions, two a row."""
    return sparse(atoms=24, d=16, rows=600, test_rows=300, active=2, noise=0.01)


def dictionary(atoms: Tensor, mean: Tensor, signed: bool = False) -> Dictionary:
    """Return atoms that are read by least squares of smallest norm, or without a sign by their positive answers."""
    if signed:
        filters = torch.linalg.pinv(atoms).T
        return Dictionary(
            name="planted", atoms=atoms, mean=mean, encoder="linear", signed=True, parameters={"filters": filters}
        )
    parameters = {"filters": atoms, "bias": torch.full_like(atoms[:, 0], -0.3)}
    return Dictionary(name="planted", atoms=atoms, mean=mean, encoder="relu", signed=False, parameters=parameters)


def test_the_true_dictionary_in_any_order_is_recovered_whole(planted: Planted) -> None:
    order = Draws(0).permutation(planted.k)
    one = dictionary(planted.atoms[order], planted.offset)
    found = score_dictionaries("recovery", [one], planted.concept_data())
    np.testing.assert_allclose(found.values, 1, atol=1e-6)
    np.testing.assert_allclose(found.extra["centred"], 1, atol=1e-6)
    assert (order.numpy()[found.extra["atom"].astype(int)] == np.arange(planted.k)).all()
    assert (found.ceiling == 1).all()


def test_opposite_atoms_are_the_same_only_where_codes_have_a_sign(planted: Planted) -> None:
    data = planted.concept_data()
    turned = score_dictionaries("recovery", [dictionary(-planted.atoms, planted.offset, signed=True)], data)
    np.testing.assert_allclose(turned.values, 1, atol=1e-6)
    plain = score_dictionaries("recovery", [dictionary(-planted.atoms, planted.offset)], data)
    assert plain.values.mean() < 0.7


def test_the_sign_of_a_partner_turns_its_codes(planted: Planted) -> None:
    data = planted.concept_data()
    straight, turned = (
        score_dictionaries("recovery", [dictionary(sign * planted.atoms, planted.offset, signed=True)], data)
        for sign in (1, -1)
    )
    np.testing.assert_allclose(straight.extra["f1"], turned.extra["f1"], atol=0.02)


def test_random_atoms_score_the_floor(planted: Planted) -> None:
    data = planted.concept_data()
    fits = [fit_dictionary("random", data.train, planted.k, seed=seed) for seed in range(6)]
    found = score_dictionaries("recovery", fits, data, null_draws=10)
    assert found.values.mean() == pytest.approx(found.null.mean(), abs=0.02)
    assert found.extra["centred"].mean() == pytest.approx(found.extra["centred_null"].mean(), abs=0.03)


def test_fewer_atoms_lower_the_ceiling_and_the_rest_has_no_partner(planted: Planted) -> None:
    found = score_dictionaries("recovery", [dictionary(planted.atoms[:6], planted.offset)], planted.concept_data())
    assert found.ceiling == pytest.approx(0.25)
    np.testing.assert_allclose(found.values[:6], 1, atol=1e-6)
    assert (found.values[6:] == 0).all()
    assert (found.extra["atom"][6:] == -1).all()
    assert (found.extra["f1"][6:] == 0).all()


def test_atoms_that_never_fire_recover_nothing(planted: Planted) -> None:
    asleep = dictionary(planted.atoms, planted.offset)
    bias = asleep.parameters["bias"].clone()
    bias[:4] = -1e6
    asleep = Dictionary(
        name="planted",
        atoms=asleep.atoms,
        mean=asleep.mean,
        encoder="relu",
        signed=False,
        parameters={**asleep.parameters, "bias": bias},
    )
    found = score_dictionaries("recovery", [asleep], planted.concept_data())
    assert (found.values[:4] == 0).all()
    np.testing.assert_allclose(found.values[4:], 1, atol=1e-6)


def test_a_reader_that_was_told_the_truth_is_near_perfect_and_above_the_floor(planted: Planted) -> None:
    found = score_dictionaries("recovery", [dictionary(planted.atoms, planted.offset)], planted.concept_data())
    assert found.extra["f1_ceiling"].mean() > 0.97
    assert found.extra["f1"].mean() > found.extra["f1_null"].mean() + 0.3
    assert (found.extra["f1"] <= 1).all()


def test_the_threshold_is_the_best_of_all(planted: Planted) -> None:
    draws = Draws(3)
    present = draws.bernoulli(0.3, 60, 4).bool()
    codes = (present + draws.normal(60, 4)).round(decimals=1)
    best = _best_threshold(codes, present)
    for column in range(4):
        said, truth = codes[:, column].numpy(), present[:, column].numpy()
        trials = [f1_score(truth, said > cut) for cut in (-np.inf, *np.unique(said)[:-1])]
        assert f1_score(truth, said > float(best[column])) == pytest.approx(max(trials))


def test_f1_is_scikit_learns(planted: Planted) -> None:
    one = dictionary(planted.atoms, planted.offset)
    found = score_dictionaries("recovery", [one], planted.concept_data())
    truth, active = (planted.test_codes > 0).numpy(), (one.encode(planted.test) != 0).numpy()
    expected = [f1_score(truth[:, atom], active[:, atom]) for atom in range(planted.k)]
    np.testing.assert_allclose(found.extra["f1_active"], expected)


def test_data_without_a_truth_are_refused(planted: Planted) -> None:
    data = ConceptData(planted.train, planted.test)
    with pytest.raises(LimenError, match="metric 'recovery': given 1 dictionaries and no truth, allowed are"):
        score_dictionaries("recovery", [dictionary(planted.atoms, planted.offset)], data)


def test_a_truth_of_another_shape_is_refused(planted: Planted) -> None:
    with pytest.raises(LimenError, match="concept data, truth: given atoms .*allowed are atoms"):
        ConceptData(planted.train, planted.test, truth=Truth(planted.atoms, planted.test_codes, planted.test_codes))
