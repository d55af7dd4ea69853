"""NMF, semi-NMF and convex NMF: losses that never rise, scikit-learn's error, planted parts, and codes of new data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from torch import Tensor

from bench.dictionaries._factorise import alternate, clustered
from bench.engine import Draws
from bench.registry import DICTIONARIES, LimenError
from bench.spaces.dictionary import Dictionary
from bench.spaces.nnls import nnls


def fit(name: str, data: Tensor, k: int, seed: int = 0, **options: object) -> Dictionary:
    return DICTIONARIES.load(name)(data, k, draws=Draws(seed), **options)


def parts(n: int, k: int, d: int, *, signed: bool = False, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Return sparse non-negative sums of `k` parts, some rows pure, and the parts (k, d)."""
    draws = Draws(0, "parts")
    atoms = draws.normal(k, d) if signed else draws.uniform(k, d) * draws.bernoulli(0.3, k, d) + torch.eye(k, d)
    codes = draws.uniform(n, k) * draws.bernoulli(0.3, n, k)
    codes[:k] = torch.eye(k)
    other = draws.normal(n, d) if signed else draws.uniform(n, d)
    return codes @ atoms + noise * other, atoms


def recovery(atoms: Tensor, truth: Tensor) -> float:
    """Return the least cosine of the best one-to-one matching."""
    cosines = (atoms @ torch.nn.functional.normalize(truth, dim=1).T).numpy()
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].min())


def error(dictionary: Dictionary, data: Tensor) -> float:
    left = data - dictionary.decode(dictionary.encode(data))
    return float(left.norm() / (data - dictionary.mean).norm())


FIXTURES = {
    "planted": (lambda: parts(400, 25, 50)[0], 25),
    "digits": (lambda: torch.from_numpy(load_digits().data[:600]).float(), 10),
    "random": (lambda: Draws(5).uniform(200, 30), 8),
}


@pytest.mark.parametrize("fixture", FIXTURES)
def test_nmf_reaches_scikit_learns_minimum_with_no_part_dead(fixture: str) -> None:
    build, k = FIXTURES[fixture]
    data = build()
    peer = NMF(k, solver="cd", max_iter=1000, random_state=0).fit(data.numpy()).reconstruction_err_ / float(data.norm())
    for seed in range(2):
        dictionary = fit("nmf", data, k, seed)
        assert error(dictionary, data) <= 1.01 * peer
        assert not dictionary.dead().any()


def test_nmf_finds_twenty_five_planted_parts() -> None:
    data, truth = parts(400, 25, 50)
    assert recovery(fit("nmf", data, 25).atoms, truth) > 0.95


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_units_of_the_activations_do_not_change_the_atoms_of_nmf(scale: float) -> None:
    data, _ = parts(200, 5, 20)
    torch.testing.assert_close(fit("nmf", data * scale, 5).atoms, fit("nmf", data, 5).atoms, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "signed"),
    [
        ("nmf", {}, False),
        ("semi_nmf", {}, True),
        ("semi_nmf", {"update": "multiplicative"}, True),
        ("convex_nmf", {}, False),
        ("convex_nmf", {}, True),
        ("convex_nmf", {"centre": True}, True),
    ],
)
def test_the_loss_never_rises(name: str, options: dict[str, object], signed: bool) -> None:
    data, _ = parts(120, 6, 20, signed=signed, noise=0.2)
    errors = [
        fit(name, data, 6, iterations=count, **options).provenance["relative_error"] for count in (1, 2, 3, 6, 12, 24)
    ]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize("name", ["nmf", "semi_nmf", "convex_nmf"])
def test_exact_codes_fit_as_well_as_the_factorisation_or_better(name: str) -> None:
    data, _ = parts(150, 6, 20, noise=0.2)
    dictionary = fit(name, data, 6)
    reported = dictionary.provenance["relative_error"]
    assert 0.9 * reported < error(dictionary, data) <= reported * 1.001


def test_ding_and_coordinates_arrive_at_the_same_error() -> None:
    data, _ = parts(80, 4, 16, signed=True, noise=0.2)
    slow = fit("semi_nmf", data, 4, update="multiplicative", iterations=1000)
    fast = fit("semi_nmf", data, 4)
    assert fast.provenance["relative_error"] <= 1.02 * slow.provenance["relative_error"]


def test_semi_nmf_is_at_least_as_near_as_nmf() -> None:
    data, _ = parts(200, 6, 20, noise=0.3)
    assert error(fit("semi_nmf", data, 6, centre=False), data) <= 1.005 * error(fit("nmf", data, 6), data)


def test_semi_nmf_may_have_more_atoms_than_features() -> None:
    data = Draws(0).normal(60, 4)
    dictionary = fit("semi_nmf", data, 8)
    assert error(dictionary, data) < 0.05


@pytest.mark.parametrize("signed", [False, True])
def test_convex_nmf_finds_parts_that_are_among_the_data(signed: bool) -> None:
    data, truth = parts(150, 5, 20, signed=signed, noise=0.02)
    assert recovery(fit("convex_nmf", data, 5).atoms, truth) > 0.9


def test_atoms_of_convex_nmf_are_mixtures_of_the_data() -> None:
    data, _ = parts(40, 4, 20, signed=True, noise=0.2)
    atoms = fit("convex_nmf", data, 4).atoms
    mixtures = nnls(atoms, data) @ data
    torch.testing.assert_close(mixtures, atoms, rtol=1e-3, atol=1e-3)
    free = nnls(-atoms, data) @ data
    assert float((free + atoms).norm()) > 0.1


def test_convex_nmf_codes_new_data_whatever_their_number() -> None:
    data, _ = parts(120, 5, 20)
    new = Draws(9).uniform(50, 20)
    dictionary = fit("convex_nmf", data, 5)
    whole = dictionary.encode(new)
    assert whole.shape == (50, 5)
    torch.testing.assert_close(torch.cat([dictionary.encode(part) for part in new.split(7)]), whole)
    torch.testing.assert_close(nnls(new, dictionary.atoms), whole)


def test_convex_nmf_says_how_many_rows_it_used() -> None:
    data, _ = parts(120, 5, 20)
    assert fit("convex_nmf", data, 5).provenance["members_used"] == 120
    few = fit("convex_nmf", data, 5, members=30)
    assert few.provenance["members_used"] == 30
    assert few.provenance["rows"] == 120
    with pytest.raises(LimenError, match="given k = 31, allowed is 1 to 30, the number of rows that are used"):
        fit("convex_nmf", data, 31, members=30)


@pytest.mark.parametrize("name", ["semi_nmf", "convex_nmf"])
def test_constant_activations_have_parts_that_are_finite(name: str) -> None:
    for data in (torch.zeros(10, 4), torch.ones(10, 4)):
        dictionary = fit(name, data, 2)
        assert dictionary.dead().all() or error(dictionary, data) < 1e-3


@pytest.mark.parametrize("name", ["semi_nmf", "convex_nmf"])
@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": -1.0}])
def test_options_out_of_range_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(LimenError, match="allowed are 1 or more and 0 or more"):
        fit(name, Draws(0).uniform(10, 4), 2, **options)


def test_alternation_stops_where_the_error_settles_and_no_earlier() -> None:
    errors = iter(torch.tensor([2.0**-step for step in range(1, 21)] + [1e-7] * 100))
    taken, left = alternate(lambda: next(errors), 1.0, 100, 1e-3)
    assert taken == 40
    assert left == pytest.approx(1e-7**0.5)
    assert alternate(lambda: torch.tensor(0.25), 1.0, 3, 0.0) == (3, 0.5)


def test_a_start_has_every_row_in_its_nearest_cluster() -> None:
    rows = torch.cat([centre + 0.01 * Draws(i).normal(20, 3) for i, centre in enumerate(10 * torch.eye(3))])
    codes, weights = clustered(rows, 3, Draws(0))
    assert codes.shape == weights.shape == (3, 60)
    groups = codes.argmax(dim=0).reshape(3, 20)
    assert (groups == groups[:, :1]).all()
    assert groups[:, 0].unique().numel() == 3
    assert (codes > 0).all()
    np.testing.assert_allclose(weights.sum(dim=1), 1 + 0.2 * 60 / 20, rtol=1e-5)
