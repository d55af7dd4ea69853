"""Stability of dictionaries: copies score 1, strangers the published null, and dead atoms are counted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bench.engine import Draws
from bench.metrics.stability import _matching
from bench.metrics.stability._matching import TOLERANCE, match
from bench.metrics.stability.dictionary_stability import _alike
from bench.records import Measurement
from bench.registry import METRICS, LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(atoms: Tensor, *, signed: bool = True, **provenance: object) -> Dictionary:
    return Dictionary(
        name="made",
        atoms=atoms,
        mean=torch.zeros(atoms.shape[1]),
        encoder="linear",
        signed=signed,
        parameters={"filters": atoms},
        provenance=provenance,
    )


def stability(*dictionaries: Dictionary) -> Measurement:
    rows = numbers(20, dictionaries[0].d, seed=99)
    return METRICS.load("dictionary_stability")(dictionaries, ConceptData(rows, rows), draws=Draws(0))


def test_a_permuted_copy_scores_one() -> None:
    atoms = numbers(6, 10)
    order = [3, 1, 5, 0, 2, 4]
    result = stability(made(atoms, signed=False), made(2 * atoms[order], signed=False))
    assert result.values == pytest.approx([1.0])
    assert result.extra["centred"] == pytest.approx([1.0])
    assert result.ceiling == pytest.approx([1.0])


def test_an_opposite_copy_scores_one_where_signs_are_free_and_not_where_they_are_not() -> None:
    atoms = numbers(6, 10)
    flipped = atoms * torch.tensor([1.0, -1, -1, 1, -1, 1])[:, None]
    assert stability(made(atoms), made(flipped)).values == pytest.approx([1.0])
    assert stability(made(atoms, signed=False), made(flipped, signed=False)).values[0] < 0.9


def test_the_matching_is_the_best_of_all_permutations() -> None:
    first, second = numbers(4, 6), numbers(4, 6, seed=1)
    cosines = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2).double().numpy()
    best = max(np.mean([cosines[i, j] for i, j in enumerate(order)]) for order in itertools.permutations(range(4)))
    assert stability(made(first, signed=False), made(second, signed=False)).values == pytest.approx([best], abs=1e-6)


@pytest.mark.parametrize(("k", "d", "published"), [(500, 384, 0.146), (500, 768, None)])
def test_random_dictionaries_score_the_published_null(k: int, d: int, published: float | None) -> None:
    pair = [made(numbers(k, d, seed=seed), signed=False) for seed in (1, 2)]
    result = stability(*pair)
    if published is not None:
        assert result.values == pytest.approx([published], abs=0.003)
    assert result.values == pytest.approx(result.null, abs=0.003)


def test_atoms_around_one_direction_look_stable_until_they_are_centred() -> None:
    shared = 5 * torch.ones(12)
    pair = [made(shared + numbers(8, 12, seed=seed), signed=False) for seed in (1, 2)]
    result = stability(*pair)
    assert result.values[0] > 0.9
    assert result.values[0] < result.extra["null_matched"][0] + 0.05
    assert result.extra["centred"][0] < 0.7


def test_dead_atoms_are_left_out_and_counted() -> None:
    atoms = numbers(6, 10)
    holed = atoms.clone()
    holed[[1, 4]] = 0
    result = stability(made(holed), made(holed.flip(0)))
    assert result.values == pytest.approx([1.0])
    assert (result.extra["dead_first"], result.extra["dead_second"]) == ([2], [2])


def test_an_atom_without_a_partner_counts_as_nothing() -> None:
    atoms = numbers(6, 10)
    assert stability(
        made(torch.linalg.qr(atoms.T).Q.T), made(torch.linalg.qr(atoms.T).Q.T[:3])
    ).values == pytest.approx([0.5])


def test_every_pair_is_a_sample_with_r2_beside_it() -> None:
    fits = [made(torch.linalg.qr(numbers(10, 10, seed=seed)).Q[:k]) for seed, k in ((0, 10), (1, 4), (2, 4))]
    result = stability(*fits)
    assert result.samples == ("fits 1 and 2", "fits 1 and 3", "fits 2 and 3")
    assert result.extra["r2_first"][:2] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert all(column.shape == (3,) for column in result.extra.values())
    rows = numbers(20, 10, seed=99)
    left = (rows - rows @ fits[1].atoms.T @ fits[1].atoms).square().sum() / (rows - rows.mean(0)).square().sum()
    assert result.extra["r2_second"][0] == pytest.approx(1 - float(left), abs=1e-5)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (({"data": "a", "draws": "1"}, {"data": "a", "draws": "2"}), "stability across seeds;"),
        (({"data": "a", "draws": "1"}, {"data": "b", "draws": "2"}), "stability across seeds and resampled data;"),
        (({"data": "a", "draws": "1"}, {"data": "b", "draws": "1"}), "stability across resampled data;"),
        (({}, {}), "the fits differ in nothing on record;"),
    ],
)
def test_the_convention_tells_what_differed_between_the_fits(facts: tuple[dict, dict], said: str) -> None:
    pair = [made(numbers(3, 5), **fact) for fact in facts]
    assert said in stability(*pair).convention


def test_the_same_draws_give_the_same_null() -> None:
    pair = [made(numbers(6, 10, seed=seed)) for seed in (1, 2)]
    assert stability(*pair).null == pytest.approx(stability(*pair).null, abs=0)


@pytest.mark.parametrize(
    ("atoms", "sentence"),
    [
        ([numbers(3, 5)], "given 1 dictionary, allowed are two or more fits"),
        ([numbers(3, 5), numbers(3, 6)], "given dictionaries of 5, 6 features"),
        ([numbers(3, 5), torch.zeros(3, 5)], "has no live atom"),
    ],
)
def test_dictionaries_that_cannot_be_compared_are_refused(atoms: list[Tensor], sentence: str) -> None:
    with pytest.raises(LimenError, match=sentence):
        stability(*(made(part) for part in atoms))


def unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.double(), dim=1)


def clustered(k: int, seed: int, shared: float) -> Tensor:
    return unit(numbers(k, 24, seed=seed) + shared * torch.ones(24))


PAIRS = {
    "strangers": lambda: (clustered(700, 0, 0), clustered(700, 1, 0)),
    "around one direction": lambda: (clustered(700, 0, 3), clustered(700, 1, 3)),
    "noisy copies": lambda: (clustered(700, 0, 0), unit(clustered(700, 0, 0).flip(0) + 0.1 * numbers(700, 24))),
    "copies": lambda: (clustered(700, 0, 0), clustered(700, 0, 0).flip(0)),
    "repeated atoms": lambda: (clustered(100, 0, 0).repeat(7, 1), clustered(700, 1, 0)),
    "fewer than": lambda: (clustered(500, 0, 1), clustered(700, 1, 1)),
    "more than": lambda: (clustered(700, 0, 1), clustered(500, 1, 1)),
    "all but one away": lambda: (-clustered(300, 0, 9), clustered(500, 1, 9)),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("held", [True, False])
def test_the_fast_matching_is_as_good_as_the_dense_one(
    monkeypatch: pytest.MonkeyPatch, kind: str, signed: bool, held: bool
) -> None:
    monkeypatch.setattr(_matching, "_DENSE", 0)
    monkeypatch.setattr(_matching, "_HELD", 2**30 if held else 0)
    monkeypatch.setattr(_matching, "_BLOCK", 2**16)
    first, second = PAIRS[kind]()
    found = match(first, second, signed)
    gains = (first @ second.T).numpy()
    gains = np.abs(gains) if signed else gains
    best = gains[linear_sum_assignment(gains, maximize=True)].sum() / max(gains.shape)
    reached = gains[found.first, found.second].sum() / max(gains.shape)
    assert reached == pytest.approx(found.gains.sum() / max(gains.shape), abs=1e-12)
    assert len(set(found.first)) == len(set(found.second)) == min(gains.shape)
    assert found.gap <= TOLERANCE
    assert best - found.gap - 1e-7 <= reached <= best + 1e-12


def test_a_search_cut_short_tells_what_it_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_matching, "_DENSE", 0)
    monkeypatch.setattr(_matching, "_ROUNDS", 1)
    monkeypatch.setattr(_matching, "_CANDIDATES", 2)
    first, second = PAIRS["around one direction"]()
    found = match(first, second, signed=False)
    gains = (first @ second.T).numpy()
    best = gains[linear_sum_assignment(gains, maximize=True)].sum() / 700
    assert found.gap > TOLERANCE
    assert best <= found.gains.sum() / 700 + found.gap


def test_many_atoms_have_one_null_draw_that_tells_the_next() -> None:
    pair = [made(numbers(2000, 24, seed=seed), signed=False) for seed in (1, 2)]
    rows = numbers(20, 24, seed=99)
    metric, data = METRICS.load("dictionary_stability"), ConceptData(rows, rows)
    one, other = (metric(pair, data, draws=Draws(seed)) for seed in (0, 1))
    assert one.null == pytest.approx(other.null, abs=2e-3)
    assert one.values == pytest.approx(one.null, abs=2e-3)
    assert one.extra["gap"][0] <= TOLERANCE


def test_atoms_drawn_alike_have_the_covariance_of_the_found_ones() -> None:
    atoms = (numbers(4000, 5) @ numbers(5, 5, seed=1) + 2).double()
    drawn = _alike(atoms, Draws(0))
    torch.testing.assert_close(drawn.mean(dim=0), atoms.mean(dim=0), rtol=0, atol=0.2)
    torch.testing.assert_close(drawn.T.cov(), atoms.T.cov(), rtol=0.15, atol=0.3)
