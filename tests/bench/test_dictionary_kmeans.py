"""k-means beside scikit-learn's, on planted centres and on a stream; the frozen-centroid control."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor

from bench.dictionaries import _lloyd
from bench.dictionaries._lloyd import clusters, kmeans_centroids
from bench.dictionaries.centroids import centroids
from bench.dictionaries.kmeans import kmeans
from bench.engine import Activations, Draws
from bench.registry import LimenError
from bench.spaces.dictionary import Dictionary


def blobs(n: int = 1500, k: int = 12, d: int = 8, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Rows around planted centres far from the origin, and the centres."""
    draws = torch.Generator().manual_seed(0)
    centres = 50 + 5 * torch.randn(k, d, generator=draws)
    member = torch.randint(k, (n,), generator=draws)
    return centres[member] + spread * torch.randn(n, d, generator=draws), centres


def inertia(rows: Tensor, centroids: Tensor) -> float:
    return float(torch.cdist(rows.double(), centroids.double()).amin(dim=1).square().mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("source", ["blobs", "digits"])
def test_the_inertia_is_within_one_percent_of_scikit_learns(source: str, seed: int) -> None:
    rows = blobs()[0] if source == "blobs" else torch.from_numpy(load_digits().data).float()
    found = clusters(rows, 12, draws=Draws(seed))
    peer = KMeans(12, n_init=4, random_state=seed).fit(rows.double().numpy()).inertia_ / len(rows)
    assert found.inertia <= 1.01 * peer
    assert found.inertia == pytest.approx(inertia(rows, found.centroids), rel=1e-4)


@pytest.mark.parametrize(("spread", "most"), [(0.2, 1.15), (3.0, 1.02)])
def test_many_clusters_are_seeded_as_well_as_scikit_learns(spread: float, most: float) -> None:
    """Of 300 clusters far apart one that is missed costs a tenth, and either seeding misses one now and then."""
    rows, _ = blobs(4000, 300, spread=spread)
    found = clusters(rows, 300, draws=Draws(0), n_init=1)
    peer = KMeans(300, n_init=1, random_state=0).fit(rows.double().numpy()).inertia_ / len(rows)
    assert found.inertia <= most * peer


def test_planted_centres_are_found() -> None:
    rows, centres = blobs(spread=0.01)
    dictionary = kmeans(rows, 12, draws=Draws(0))
    centroids = dictionary.parameters["centroids"] + dictionary.mean
    gaps = torch.cdist(centres, centroids)
    assert gaps.amin(dim=1).max() < 0.01
    assert sorted(gaps.argmin(dim=1).tolist()) == list(range(12))


def test_decoding_gives_the_nearest_centroid() -> None:
    rows, _ = blobs()
    dictionary = kmeans(rows, 12, draws=Draws(0))
    centroids = (dictionary.parameters["centroids"] + dictionary.mean).double()
    nearest = centroids[torch.cdist(rows.double(), centroids).argmin(dim=1)]
    torch.testing.assert_close(dictionary.decode(dictionary.encode(rows)).double(), nearest, rtol=0, atol=1e-4)
    assert ((dictionary.encode(rows) > 0).sum(dim=1) == 1).all()


@pytest.mark.parametrize("k", [12, 300])
def test_a_stream_comes_near_all_rows_at_once(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    rows, _ = blobs(6000, 40)
    whole = clusters(rows, k, draws=Draws(0), n_init=1)
    monkeypatch.setattr(_lloyd, "FIT_NUMBERS", 4000 * 8)
    streamed = clusters(rows, k, draws=Draws(0))
    assert streamed.streamed
    assert not whole.streamed
    assert inertia(rows, streamed.centroids) <= 1.1 * inertia(rows, whole.centroids)
    assert torch.equal(streamed.centroids, clusters(Activations.of(rows), k, draws=Draws(0)).centroids)


def test_no_cluster_stays_empty() -> None:
    """Three far rows and one crowd: every start in the crowd leaves clusters without rows on the way."""
    rows = torch.cat([torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) * 1e-3, torch.eye(2) * 100])
    for seed in range(5):
        centroids = kmeans_centroids(rows, 6, draws=Draws(seed))
        assert len(torch.cdist(rows, centroids).argmin(dim=1).unique()) == 6


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    rows = Activations.of(torch.tensor([[0.0], [1.0], [2.0], [9.0]]))
    _, means, total = _lloyd._pass(rows, torch.tensor([[1.0], [100.0]]))
    assert means[:, 0].tolist() == [1.0, 9.0]
    assert total == pytest.approx((1 + 0 + 1 + 64) / 4)


def test_fewer_kinds_of_rows_than_clusters_are_no_fault() -> None:
    rows = torch.eye(3).repeat(5, 1)
    assert inertia(rows, kmeans_centroids(rows, 6, draws=Draws(0))) < 1e-12


def test_the_mean_of_all_rows_is_a_dead_atom() -> None:
    rows, _ = blobs()
    dictionary = kmeans(rows, 1, draws=Draws(0))
    assert dictionary.dead().all()
    torch.testing.assert_close(dictionary.decode(dictionary.encode(rows))[0], rows.mean(dim=0))


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(LimenError, match="given k = 21, allowed is 1 to 20, the number of rows"):
        kmeans(blobs(20)[0], 21, draws=Draws(0))


@pytest.mark.parametrize("options", [{"n_init": 0}, {"iterations": 0}, {"tolerance": -1.0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(LimenError, match="allowed are 1 or more, 1 or more and 0 or more"):
        kmeans(blobs(20)[0], 3, draws=Draws(0), **options)


def r2(rows: Tensor, dictionary: Dictionary) -> float:
    left = rows - dictionary.decode(dictionary.encode(rows))
    return float(1 - left.square().sum() / (rows - rows.mean(dim=0)).square().sum())


def test_frozen_centroids_are_the_same_for_every_seed() -> None:
    rows, _ = blobs(spread=2.0)
    one, other = (centroids(rows, 30, draws=Draws(seed)) for seed in (0, 1))
    assert torch.equal(one.atoms, other.atoms)
    again = centroids(rows, 30, draws=Draws(1), shared=False)
    assert not torch.allclose(one.atoms, again.atoms)


def test_frozen_centroids_keep_their_number_of_atoms_a_row() -> None:
    rows, _ = blobs(spread=2.0)
    codes = centroids(rows, 30, draws=Draws(0), active=4).encode(rows)
    assert (codes > 0).sum(dim=1).max() == 4
    assert (codes >= 0).all()


def test_the_gains_of_frozen_centroids_are_the_best_there_are() -> None:
    rows, _ = blobs(spread=2.0)
    fitted = centroids(rows, 30, draws=Draws(0), active=4)
    best = r2(rows, fitted)
    assert best > 0.3
    for seed in range(5):
        noise = 1 + 0.05 * torch.randn(30, generator=torch.Generator().manual_seed(seed))
        gain = fitted.parameters["gain"] * noise
        worse = replace(fitted, parameters={**fitted.parameters, "gain": gain})
        assert r2(rows, worse) < best


@pytest.mark.parametrize("options", [{"active": 0}, {"active": 31}, {"iterations": 0}])
def test_options_of_frozen_centroids_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(LimenError, match="allowed is (a count from )?1 (to k = 30|or more)"):
        centroids(blobs(100)[0], 30, draws=Draws(0), **options)
