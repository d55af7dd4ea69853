"""Contract of every registered dictionary, and what each one promises beyond it."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA
from torch import Tensor

from bench.engine import Draws
from bench.registry import DICTIONARIES, LimenError
from bench.spaces.dictionary import Dictionary

NAMES = DICTIONARIES.names()
K = 5


def rows(n: int = 120, d: int = 9, seed: int = 0) -> Tensor:
    """Non-negative activations, as after a ReLU."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).clamp_min(0)


def fit(name: str, activations: Tensor, k: int = K, seed: int = 0, **options: object) -> Dictionary:
    """Fit one dictionary; the neuron basis has one size only, and a contract does not hang on long training."""
    size = activations.shape[1] if name == "neurons" else k
    function = DICTIONARIES.load(name)
    if "steps" in inspect.signature(function).parameters:
        options.setdefault("steps", 40)
    return function(activations, size, draws=Draws(seed), **options)


@pytest.mark.parametrize("name", NAMES)
def test_the_type_is_whole(name: str) -> None:
    data = rows()
    dictionary = fit(name, data)
    assert dictionary.name == name
    assert dictionary.d == data.shape[1]
    assert dictionary.atoms.dtype == dictionary.encode(data).dtype == torch.float32
    assert dictionary.encode(data).shape == (len(data), dictionary.k)
    assert dictionary.signed or bool((dictionary.encode(data) >= 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_atoms_have_unit_length(name: str) -> None:
    torch.testing.assert_close(fit(name, rows()).atoms.norm(dim=1), torch.ones(9 if name == "neurons" else K))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_fixes_the_dictionary(name: str) -> None:
    assert torch.equal(fit(name, rows(), seed=3).atoms, fit(name, rows(), seed=3).atoms)


@pytest.mark.parametrize("name", NAMES)
def test_the_activations_are_left_untouched(name: str) -> None:
    data = rows()
    before = data.clone()
    dictionary = fit(name, data)
    dictionary.encode(data)
    assert torch.equal(data, before)


@pytest.mark.parametrize("name", NAMES)
def test_codes_do_not_depend_on_the_batch(name: str) -> None:
    data = rows()
    dictionary = fit(name, data)
    parts = torch.cat([dictionary.encode(part) for part in data.split(7)])
    torch.testing.assert_close(dictionary.encode(data), parts, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_fitted_on_all_their_positions(name: str) -> None:
    maps = rows(24, 9).reshape(4, 2, 3, 9).movedim(-1, 1)
    flat = maps.movedim(1, -1).reshape(-1, 9)
    on_maps, on_rows = fit(name, maps, k=9), fit(name, flat, k=9)
    assert torch.equal(on_maps.atoms, on_rows.atoms)
    assert on_maps.provenance == on_rows.provenance


@pytest.mark.parametrize("name", NAMES)
def test_provenance_tells_data_seed_and_options(name: str) -> None:
    here, elsewhere = fit(name, rows(), seed=3).provenance, fit(name, rows(seed=1)).provenance
    assert here["data"] != elsewhere["data"]
    assert here["rows"] == 120
    assert here["draws"] == repr(Draws(3))
    assert name == "neurons" or here["options"]["k"] == K


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_dictionary_is_the_same_when_loaded(name: str, tmp_path: Path) -> None:
    dictionary = fit(name, rows())
    dictionary.save(tmp_path / "d.safetensors")
    loaded = Dictionary.load(tmp_path / "d.safetensors")
    assert torch.equal(loaded.encode(rows(seed=2)), dictionary.encode(rows(seed=2)))
    assert loaded.provenance == dictionary.provenance


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [0, -1])
def test_no_atoms_are_refused(name: str, k: int) -> None:
    with pytest.raises(LimenError, match=f"dictionary '{name}': given k = {k}, allowed is "):
        DICTIONARIES.load(name)(rows(), k, draws=Draws(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [torch.full((4, 3), torch.nan), torch.ones(1, 3), torch.ones(2, 2, 2, 2, 2)])
def test_activations_that_cannot_be_fitted_are_refused(name: str, data: Tensor) -> None:
    with pytest.raises(LimenError, match="activations.*allowed are"):
        DICTIONARIES.load(name)(data, 3, draws=Draws(0))


@pytest.mark.parametrize("name", ["nmf", "pca"])
@pytest.mark.parametrize(("shape", "most"), [((120, 9), 9), ((6, 9), 6)])
def test_more_atoms_than_rows_or_features_are_refused(name: str, shape: tuple[int, int], most: int) -> None:
    with pytest.raises(LimenError, match=f"given k = {most + 1}, allowed is 1 to {most}, the smaller of"):
        fit(name, rows(*shape), k=most + 1)


def test_the_neuron_basis_is_the_identity() -> None:
    data = rows()
    dictionary = DICTIONARIES.load("neurons")(data, draws=Draws(0))
    assert dictionary.k == 9
    assert torch.equal(dictionary.encode(data), data)
    assert torch.equal(dictionary.decode(data), data)
    assert not dictionary.signed
    assert DICTIONARIES.load("neurons")(data - 1, draws=Draws(0)).signed


def test_the_neuron_basis_has_one_size() -> None:
    with pytest.raises(LimenError, match="given k = 5, allowed is 9, the number of units, or nothing"):
        DICTIONARIES.load("neurons")(rows(), 5, draws=Draws(0))


@pytest.mark.parametrize("shape", [(120, 9), (7, 9)])
def test_principal_components_are_scikit_learns_up_to_sign(shape: tuple[int, int]) -> None:
    data = rows(*shape)
    dictionary, peer = fit("pca", data), PCA(K).fit(data.double().numpy())
    cosines = (dictionary.atoms.double().numpy() * peer.components_).sum(axis=1)
    np.testing.assert_allclose(abs(cosines), 1, atol=1e-6)
    np.testing.assert_allclose(dictionary.encode(data).numpy(), peer.transform(data.numpy()) * cosines, atol=1e-5)


def test_the_largest_entry_of_a_principal_component_is_positive() -> None:
    atoms = fit("pca", rows()).atoms
    assert (atoms.gather(1, atoms.abs().argmax(dim=1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("name", ["neurons", "pca"])
def test_the_order_of_rows_does_not_change_what_draws_nothing(name: str) -> None:
    data = rows()
    shuffled = data[torch.randperm(len(data), generator=torch.Generator().manual_seed(5))]
    torch.testing.assert_close(fit(name, data).atoms, fit(name, shuffled).atoms, rtol=0, atol=1e-5)


def test_random_codes_are_the_least_squares_codes_of_their_atoms() -> None:
    data = rows()
    dictionary = fit("random", data)
    best = torch.linalg.lstsq(dictionary.atoms.T, (data - dictionary.mean).T).solution.T
    torch.testing.assert_close(dictionary.encode(data), best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["nmf", "random"])
def test_another_seed_gives_other_atoms(name: str) -> None:
    assert not torch.allclose(fit(name, rows(), seed=0).atoms, fit(name, rows(), seed=1).atoms)


def sparse_parts(n: int = 600, k: int = 8, d: int = 30) -> tuple[Tensor, Tensor]:
    """Sparse sums of `k` sparse non-negative parts, each with a feature of its own: NMF is then unique."""
    draws = np.random.default_rng(0)
    parts = draws.random((k, d)) * (draws.random((k, d)) < 0.3)
    parts[:, :k] = np.eye(k)
    codes = draws.random((n, k)) * (draws.random((n, k)) < 0.3)
    codes[:k] = np.eye(k)
    return torch.from_numpy(codes @ parts).float(), torch.from_numpy(parts).float()


@pytest.mark.parametrize("seed", range(3))
def test_nmf_recovers_planted_parts(seed: int) -> None:
    data, parts = sparse_parts()
    atoms = fit("nmf", data, k=8, seed=seed).atoms
    cosines = (atoms @ (parts / parts.norm(dim=1, keepdim=True)).T).numpy()
    assert cosines[linear_sum_assignment(cosines, maximize=True)].min() > 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("source", ["digits", "rectified noise", "planted parts"])
def test_the_error_of_nmf_is_at_most_one_percent_above_scikit_learns(source: str, seed: int) -> None:
    data = {
        "digits": lambda: torch.from_numpy(load_digits().data).float(),
        "rectified noise": lambda: rows(500, 40),
        "planted parts": lambda: sparse_parts()[0] + 0.05 * rows(600, 30),
    }[source]()
    dictionary = fit("nmf", data, k=10, seed=seed)
    ours = float((data - dictionary.decode(dictionary.encode(data))).norm())
    peer = NMF(10, solver="cd", max_iter=2000, random_state=0).fit(data.numpy()).reconstruction_err_
    assert ours <= 1.01 * peer


def test_the_error_that_nmf_reports_is_that_of_its_codes() -> None:
    data = rows(400, 20)
    dictionary = fit("nmf", data)
    left = float((data - dictionary.decode(dictionary.encode(data))).norm() / data.norm())
    assert left == pytest.approx(dictionary.provenance["relative_error"], rel=1e-3)


def test_more_alternations_never_raise_the_error_of_nmf() -> None:
    errors = [fit("nmf", rows(), iterations=count).provenance["relative_error"] for count in (1, 2, 4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)


def test_parts_that_carry_nothing_are_dead_and_coded_as_zero() -> None:
    dictionary = fit("nmf", torch.zeros(8, 6), k=2)
    assert dictionary.dead().all()
    assert (dictionary.encode(rows(8, 6)) == 0).all()


def test_nmf_refuses_negative_activations_and_names_what_takes_them() -> None:
    with pytest.raises(LimenError) as fault:
        fit("nmf", rows() - 0.5)
    message = str(fault.value)
    assert "given activations as low as -0.5, allowed are 0 or more" in message
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": -1.0}])
def test_nmf_refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(LimenError, match="allowed are 1 or more and 0 or more"):
        fit("nmf", rows(), **options)
