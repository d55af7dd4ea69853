"""Archetypal autoencoders: atoms in the hull after every step, exact archetypes found, controls that share the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, nnls
from torch import Tensor

from bench.api import fit_dictionary
from bench.dictionaries._archetypes import Archetypes, Hull, centroids
from bench.engine import Draws
from bench.registry import DICTIONARIES, LimenError
from bench.spaces import Dictionary

QUICK = {"steps": 60, "batch_size": 64, "learning_rate": 1e-2, "active": 2}
FAMILY = ["archetypal", "relaxed_archetypal"]


def rows(n: int = 200, d: int = 8, seed: int = 0) -> Tensor:
    """Rows around a mean of their own."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + 1


def fit(name: str, activations: Tensor, k: int = 6, seed: int = 0, **options: object) -> Dictionary:
    return DICTIONARIES.load(name)(activations, k, draws=Draws(seed), **{**QUICK, **options})


def outside(vectors: Tensor, points: Tensor) -> np.ndarray:
    """Return the distance of each vector to the hull of the points: non-negative least squares with a heavy sum."""
    weight = 1e3 * float(points.abs().max())
    system = np.vstack([points.double().numpy().T, np.full(len(points), weight)])
    distances = []
    for vector in vectors.double().numpy():
        mixture = nnls(system, np.append(vector, weight))[0]
        mixture /= mixture.sum()
        distances.append(np.linalg.norm(vector - mixture @ points.double().numpy()))
    return np.array(distances)


def decoded_atoms(one: Dictionary) -> Tensor:
    """Return the atoms before they were scaled to unit length, from the mean of the rows."""
    return one.atoms * one.parameters["gain"][:, None]


@pytest.mark.parametrize("init", ["points", "eye", "random"])
def test_atoms_lie_in_the_hull_of_the_centroids(init: str) -> None:
    data = rows()
    points = centroids(data, 24, Draws(0), 5) - data.mean(dim=0)
    one = fit("archetypal", data, init=init, centroids_seed=5, points=24)
    assert outside(decoded_atoms(one), points).max() < 1e-4
    assert np.linalg.matrix_rank(one.atoms.numpy()) <= 8


@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_relaxed_atoms_lie_within_delta_of_the_hull(delta: float) -> None:
    data = rows()
    points = centroids(data, 24, Draws(0), 5) - data.mean(dim=0)
    one = fit("relaxed_archetypal", data, centroids_seed=5, points=24, delta=delta, steps=200)
    scale = float(data.var(dim=0, unbiased=False).mean().sqrt())
    away = outside(decoded_atoms(one), points) / scale
    assert away.max() <= delta + 1e-4
    assert away.max() > 0


def test_no_relaxation_is_the_archetypal_fit() -> None:
    data = rows()
    held, loose = fit("archetypal", data), fit("relaxed_archetypal", data, delta=0.0)
    assert torch.equal(held.atoms, loose.atoms)


def test_a_learned_factor_leaves_the_hull_for_its_cone() -> None:
    data = rows()
    points = (centroids(data, 24, Draws(0), 5) - data.mean(dim=0)).double().numpy()
    one = fit("relaxed_archetypal", data, centroids_seed=5, points=24, delta=0.0, scaled=True, steps=200)
    left = [nnls(points.T, atom)[1] for atom in one.atoms.double().numpy()]
    assert max(left) < 1e-4


def test_weights_are_mixtures_and_shifts_bounded_after_every_projection() -> None:
    draws = Draws(1)
    atoms = Archetypes(draws.normal(10, 4), draws.uniform(5, 10), delta=0.3)
    for _ in range(20):
        for leaf in atoms.parameters().values():
            leaf.data += draws.normal(*leaf.shape)
        with torch.no_grad():
            atoms.project()
        assert atoms.weights.min() >= 0
        torch.testing.assert_close(atoms.weights.sum(dim=1), torch.ones(5))
        assert atoms.shift is not None
        assert torch.linalg.vector_norm(atoms.shift, dim=1).max() <= 0.3 + 1e-6


def test_a_row_that_lost_all_weight_becomes_the_even_mixture() -> None:
    atoms = Archetypes(torch.eye(4), torch.ones(2, 4))
    atoms.weights.data[0] = -1.0
    atoms.weights.data[1] = torch.tensor([2.0, -1.0, 0.0, 2.0])
    with torch.no_grad():
        atoms.project()
    torch.testing.assert_close(atoms.weights.detach(), torch.tensor([[0.25] * 4, [0.5, 0.0, 0.0, 0.5]]))


def test_a_projection_changes_nothing_that_is_allowed() -> None:
    atoms = Archetypes(torch.eye(4), Draws(0).uniform(3, 4), delta=1.0)
    before = atoms().detach().clone()
    with torch.no_grad():
        atoms.project()
    torch.testing.assert_close(atoms().detach(), before)


@pytest.mark.parametrize("name", FAMILY)
def test_archetypes_that_the_rows_hold_are_found(name: str) -> None:
    draws = Draws(0)
    corners = torch.linalg.qr(draws.normal(12, 12)).Q[:6]
    data = draws.subsets(600, 6, 1) * (1 + 2 * draws.uniform(600, 6)) @ corners + 0.01 * draws.normal(600, 12)
    options = {"delta": 0.1} if name == "relaxed_archetypal" else {}
    trained = {"active": 1, "steps": 300, "batch_size": 128, "learning_rate": 1e-2}
    # As many atoms as archetypes may strand one, as k-means may; a few more find them all.
    one = fit(name, data, k=12, points=24, init="random", standardise="none", **trained, **options)
    cosines = (one.atoms @ corners.T).numpy()
    assert cosines[linear_sum_assignment(cosines, maximize=True)].min() > 0.99
    left = (data - one.decode(one.encode(data))).square().sum() / (data - data.mean(dim=0)).square().sum()
    assert float(left) < 0.01


@pytest.mark.parametrize("name", FAMILY)
def test_rows_that_are_not_standardised_decode_into_their_cone(name: str) -> None:
    data = rows().abs()
    options = {"delta": 1e-6} if name == "relaxed_archetypal" else {}
    one = fit(name, data, standardise="none", init="eye", steps=100, **options)
    assert (one.mean == 0).all()
    points = data.double().numpy()
    left = [nnls(points.T, row)[1] for row in one.decode(one.encode(data[:20])).double().numpy()]
    assert max(left) < 1e-3


def test_the_seed_of_the_centroids_is_shared_or_the_fits_own() -> None:
    data = rows()
    assert torch.equal(centroids(data, 9, Draws(0), 5), centroids(data, 9, Draws(1), 5))
    assert not torch.allclose(centroids(data, 9, Draws(0), None), centroids(data, 9, Draws(1), None))


@pytest.mark.parametrize(("free", "held"), [("centroids", "eye"), ("mixtures", "random")])
def test_a_free_autoencoder_starts_where_the_archetypal_one_does(free: str, held: str) -> None:
    data = rows()
    still = {"steps": 1, "learning_rate": 1e-12, "centroids_seed": 5, "points": 24}
    one, other = fit("topk", data, init=free, **still), fit("archetypal", data, init=held, **still)
    torch.testing.assert_close(one.atoms, other.atoms, rtol=0, atol=1e-5)


def test_centroids_that_a_free_start_does_not_use_are_refused() -> None:
    with pytest.raises(LimenError, match="'points' and 'centroids_seed': given 24 and None with init = 'random'"):
        fit("topk", rows(), points=24)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("points", [5, 201])
def test_fewer_points_than_atoms_or_more_than_rows_are_refused(name: str, points: int) -> None:
    with pytest.raises(
        LimenError, match=f"dictionary '{name}', option 'points': given {points} for 6 atoms, allowed is 6"
    ):
        fit(name, rows(), points=points)


def test_a_negative_relaxation_is_refused() -> None:
    with pytest.raises(LimenError, match="option 'delta': given -0.1, allowed is 0 or more"):
        fit("relaxed_archetypal", rows(), delta=-0.1)


@pytest.mark.parametrize("init", ["points", "eye", "random"])
def test_every_atom_starts_somewhere_of_its_own(init: str) -> None:
    points = Draws(0).normal(20, 6)
    atoms = Hull(init=init).atoms(points, 7, Draws(1))().detach()
    gaps = torch.cdist(atoms, atoms) + torch.eye(7)
    assert gaps.min() > 1e-3
    assert (atoms.norm(dim=1) > 0).all()


def test_a_killed_fit_ends_where_a_whole_one_does(tmp_path: Path) -> None:
    data, file = rows(), tmp_path / "fit"
    options = {"steps": 504, "batch_size": 16}
    whole = fit("relaxed_archetypal", data, **options)

    class Killed(Exception):
        pass

    def kill(step: int, steps: int) -> None:
        if step == 502:
            raise Killed

    with pytest.raises(Killed):
        fit("relaxed_archetypal", data, checkpoint=file, progress=kill, **options)
    resumed = fit("relaxed_archetypal", data, checkpoint=file, **options)
    assert torch.equal(resumed.atoms, whole.atoms)
    assert torch.equal(resumed.encode(data), whole.encode(data))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("preset", ["overcomplete", "ra-sae"])
def test_as_published_fits_on_the_same_rows_share_centroids_and_start(name: str, preset: str) -> None:
    data, still = rows(), {"steps": 1, "learning_rate": 1e-12}
    one, other = (fit_dictionary(name, data, 20, seed=seed, preset=preset, **still) for seed in (0, 1))
    torch.testing.assert_close(one.atoms, other.atoms, rtol=0, atol=1e-5)
    assert one.parameters["active"] == 2


@pytest.mark.parametrize("name", FAMILY)
def test_a_loaded_fit_is_the_saved_one(name: str, tmp_path: Path) -> None:
    one = fit(name, rows())
    one.save(tmp_path / "one.safetensors")
    other = Dictionary.load(tmp_path / "one.safetensors")
    assert torch.equal(one.encode(rows(seed=3)), other.encode(rows(seed=3)))
    assert other.provenance == one.provenance
    assert other.provenance["options"]["points"] == 24
