"""Planted data are what they say, and on them methods fall into the order that the truth asks for."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import bench
from bench.api import fit_dictionary, score_dictionaries
from bench.registry import LimenError
from bench.zoo.planted import Planted, hierarchy, overlap_of, sparse

SMALL = {"atoms": 20, "d": 12, "rows": 200, "test_rows": 100}


@pytest.mark.parametrize("make", [sparse, hierarchy])
def test_rows_are_codes_times_atoms(make: object) -> None:
    planted = make(noise=0.0, **SMALL)
    for rows, codes in ((planted.train, planted.train_codes), (planted.test, planted.test_codes)):
        torch.testing.assert_close(rows, codes @ planted.atoms + planted.offset)
    torch.testing.assert_close(planted.atoms.norm(dim=1), torch.ones(20))


@pytest.mark.parametrize("make", [sparse, hierarchy])
def test_a_fresh_sample_is_of_the_same_truth_and_test(make: object) -> None:
    one, other, again = make(1, 0, **SMALL), make(1, 1, **SMALL), make(1, 0, **SMALL)
    assert torch.equal(one.atoms, other.atoms)
    assert torch.equal(one.test, other.test)
    assert not torch.equal(one.train, other.train)
    assert torch.equal(one.train, again.train)
    assert not torch.equal(one.atoms, make(2, 0, **SMALL).atoms)


def test_every_row_of_a_sparse_truth_holds_as_many_atoms() -> None:
    planted = sparse(active=3, **SMALL)
    assert ((planted.train_codes > 0).sum(dim=1) == 3).all()
    held = planted.train_codes[planted.train_codes > 0]
    assert held.min() >= 0.5
    assert held.max() < 1.5


def test_shared_is_the_cosine_with_the_common_direction() -> None:
    atoms = sparse(atoms=400, d=40, shared=0.6, rows=10, test_rows=10).atoms
    cosines = atoms @ atoms.T
    apart = cosines[~torch.eye(400, dtype=torch.bool)]
    assert float(apart.mean()) == pytest.approx(0.36, abs=0.01)


def test_positive_data_have_no_negative_number() -> None:
    planted = sparse(positive=True, offset=1.0, **SMALL)
    assert planted.train.min() >= 0
    assert planted.atoms.min() >= 0
    assert float(planted.offset.norm()) == pytest.approx(1.0)


def test_features_of_a_hierarchy_fire_by_zipf_and_only_where_their_root_does() -> None:
    planted = hierarchy(rows=20_000, atoms=64, d=32, correlated=0.0, test_rows=10)
    fires, parents = planted.train_codes > 0, planted.extra["parents"]
    roots = parents < 0
    assert int(roots.sum()) == 16
    expected = 0.4 * torch.arange(1, 17).double() ** -0.5
    np.testing.assert_allclose(fires[:, :16].double().mean(dim=0), expected, atol=0.015)
    for child in (~roots).nonzero()[:, 0].tolist():
        assert not (fires[:, child] & ~fires[:, parents[child]]).any()


def test_common_factors_make_features_fire_together() -> None:
    def together(correlated: float) -> float:
        planted = hierarchy(
            rows=20_000, atoms=32, d=16, correlated=correlated, factors=1, exponent=0.0, children=0, test_rows=10
        )
        codes = (planted.train_codes[:, :8] > 0).numpy()
        return float(np.abs(np.corrcoef(codes.T)[~np.eye(8, dtype=bool)]).mean())

    assert together(0.0) < 0.02
    assert together(0.5) > 0.1


def test_overlap_is_what_was_asked_where_it_can_be_reached() -> None:
    wide = hierarchy(atoms=64, d=64, overlap=0.2, rows=10, test_rows=10)
    assert overlap_of(wide.atoms) <= 0.2
    assert overlap_of(hierarchy(atoms=64, d=64, overlap=1.0, rows=10, test_rows=10).atoms) > 0.25


def test_presence_is_the_label_of_the_metrics() -> None:
    data = sparse(**SMALL).concept_data()
    assert data.truth is not None
    assert data.train_labels is not None
    assert torch.equal(data.train_labels, data.truth.train_support)
    assert len(data.label_names) == 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"active": 21}, "option 'active': given 21, allowed is 1 to 20"),
        ({"noise": -1.0}, "option 'noise': given -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(LimenError, match=f"planted data 'sparse', {said}"):
        sparse(**{**SMALL, **options})


@pytest.fixture(scope="module")
def planted() -> Planted:
    """A small version of the isotropic table."""
    return sparse(atoms=48, d=32, rows=2048, test_rows=512, active=3)


def scores(planted: Planted, method: str, k: int = 48, **options: object) -> dict[str, float]:
    """Return recovery, R2 and stability of two seeds on the same rows."""
    data = planted.concept_data()
    fits = [fit_dictionary(method, data.train, k, seed=seed, **options) for seed in range(2)]
    stable = score_dictionaries("dictionary_stability", fits, data, null_draws=1)
    found = score_dictionaries("recovery", fits, data, null_draws=1)
    return {
        "recovery": found.value.mean,
        "floor": found.null_value.mean,
        "r2": float(stable.extra["r2_first"].mean()),
        "stability": stable.value.mean,
    }


TRAINED = {"active": 3, "steps": 500, "batch_size": 256, "learning_rate": 5e-3}


def test_frozen_centroids_are_stable_and_a_trained_autoencoder_finds_more(planted: Planted) -> None:
    frozen, trained = scores(planted, "centroids", active=3), scores(planted, "topk", **TRAINED)
    assert frozen["stability"] == pytest.approx(1, abs=1e-6)
    assert frozen["r2"] < trained["r2"] - 0.05
    assert frozen["recovery"] < trained["recovery"] - 0.015
    assert trained["recovery"] > trained["floor"] + 0.4


@pytest.mark.long
def test_archetypes_from_mixtures_recover_more_than_free_atoms_from_the_same_mixtures(planted: Planted) -> None:
    options = {"centroids_seed": 0, **TRAINED}
    held, free = (
        scores(planted, "archetypal", init="random", **options),
        scores(planted, "topk", init="mixtures", **options),
    )
    assert held["recovery"] > free["recovery"] + 0.03
    assert held["r2"] > free["r2"] + 0.02
    assert held["recovery"] > 0.85


@pytest.mark.long
def test_a_start_on_the_same_centroids_alone_makes_fits_on_the_same_rows_stabler(planted: Planted) -> None:
    start, chance = (
        scores(planted, "topk", init="centroids", centroids_seed=0, **TRAINED),
        scores(planted, "topk", **TRAINED),
    )
    assert start["stability"] > chance["stability"] + 0.02


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    """The text of the page that `make planted` writes."""
    path = Path(bench.__file__).parent.parent / "docs" / "planted_text.py"
    spec = importlib.util.spec_from_file_location("planted_text", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted_text"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["planted_text"]


def made_up(
    page: ModuleType, gain: float, wobble: float = 0.001
) -> dict[tuple[str, str], dict[str, dict[str, list[float]]]]:
    """Return tables in which the constraint adds `gain` to every score of every truth, give or take."""
    arms = {one.arm for one in page.CONSTRAINT} | {one.against for one in page.CONSTRAINT}
    arms |= {"TopK, random start", "frozen centroids", "RA-SAE, eye", "A-SAE, eye, not centred"}
    noise = [-wobble, wobble, -wobble, wobble]
    tables = {}
    for place in page.NAMES:
        tables[place] = {
            arm: {
                name: [0.5 + (gain + extra if arm.startswith("A-SAE") else 0.0) for extra in noise]
                for name in page.JUDGED
            }
            for arm in arms
        }
    return tables


@pytest.mark.parametrize(
    ("gain", "wobble", "said"),
    [
        (0.1, 0.001, "recovery: yes (9 up, 0 down, 0 open)"),
        (-0.1, 0.001, "recovery: no, the constraint lowers it (0 up, 9 down, 0 open)"),
        (0.001, 0.1, "recovery: cannot be told apart (0 up, 0 down, 9 open)"),
    ],
)
def test_the_page_gives_the_answer_that_the_numbers_give(
    page: ModuleType, gain: float, wobble: float, said: str
) -> None:
    inside = {name: {origin: page.interval([1.0, 1.0]) for origin in ("mean", "zero")} for name, _ in page.NAMES}
    assert said in page.answer(made_up(page, gain, wobble), inside)


def test_an_interval_of_the_page_is_students(page: ModuleType) -> None:
    found = page.interval([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.high - found.mean == pytest.approx(3.1824463 * np.std([1, 2, 3, 4], ddof=1) / 2)
