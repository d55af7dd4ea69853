"""Products with sparse codes: both routes and their gradients beside plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bench.engine.sparse_fit_products import (
    Places,
    chosen_answers,
    decoded,
    largest,
    largest_in_rows,
    summed_by_column,
)

N, K, D = 6, 40, 7
ROUTES = [2, 12]
"""Entries a row: gathered, and dense."""


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def chosen(entries: int, seed: int = 0) -> Places:
    return largest_in_rows(numbers(N, K, seed=seed), entries)


def twin(values: Tensor, places: Places) -> Tensor:
    """Codes written one entry at a time."""
    codes = torch.zeros(places.n, places.k)
    for value, row, column in zip(values, places.rows.tolist(), places.columns.tolist(), strict=True):
        codes[row, column] = codes[row, column] + value
    return codes


def gradients(build: Callable[[], Tensor], leaves: list[Tensor]) -> list[Tensor]:
    out = build()
    return [out.detach(), *torch.autograd.grad((out * numbers(*out.shape, seed=9)).sum(), leaves)]


def test_few_entries_are_gathered_and_many_are_not() -> None:
    assert [chosen(entries).gathered for entries in ROUTES] == [True, False]


@pytest.mark.parametrize("entries", ROUTES)
def test_decoding_and_its_gradients_are_those_of_the_dense_product(entries: int) -> None:
    places, atoms = chosen(entries), numbers(K, D, seed=1).requires_grad_()
    values = numbers(N * entries, seed=2).requires_grad_()
    ours = gradients(lambda: decoded(values, places, atoms), [values, atoms])
    plain = gradients(lambda: twin(values, places) @ atoms, [values, atoms])
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("entries", ROUTES)
def test_chosen_answers_and_their_gradients_are_those_of_the_dense_layer(entries: int) -> None:
    rows, shift = numbers(N, D), numbers(D, seed=1).requires_grad_()
    filters, bias = numbers(K, D, seed=2).requires_grad_(), numbers(K, seed=3).requires_grad_()
    places = chosen(entries)

    def plain() -> Tensor:
        return ((rows - shift) @ filters.T + bias)[places.rows, places.columns]

    ours = gradients(
        lambda: chosen_answers(rows, shift, filters, bias, lambda answers: places)[0], [shift, filters, bias]
    )
    for one, other in zip(ours, gradients(plain, [shift, filters, bias]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("entries", ROUTES)
def test_an_atom_taken_twice_by_a_row_counts_twice(entries: int) -> None:
    columns = torch.arange(N * entries).reshape(N, entries) % K
    columns[:, 1] = columns[:, 0]
    places, atoms = Places.of_rows(columns, K), numbers(K, D)
    values = numbers(N * entries, seed=2)
    torch.testing.assert_close(decoded(values, places, atoms), twin(values, places) @ atoms, rtol=1e-5, atol=1e-5)


def test_rows_without_entries_decode_to_zero() -> None:
    places = Places.of_flat(torch.tensor([K + 3, 4 * K + 1]), N, K)
    assert places.rows.tolist() == [1, 4]
    out = decoded(torch.ones(2), places, numbers(K, D))
    assert out.abs().sum(dim=1).ne(0).tolist() == [False, True, False, False, True, False]


def test_the_sum_by_latent_is_the_transposed_product() -> None:
    places, values, vectors = chosen(5), numbers(N * 5, seed=2), numbers(N, D, seed=3)
    torch.testing.assert_close(
        summed_by_column(values, places, vectors), twin(values, places).T @ vectors, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("shape", "count"), [((64, 160), 30), ((7, 13), 5), ((4, 16), 40)])
def test_the_largest_of_a_batch_are_those_of_a_full_sort(shape: tuple[int, int], count: int) -> None:
    given = numbers(*shape)
    expected = given.flatten().sort(descending=True).indices[:count].sort().values
    assert torch.equal(largest(given, count).flat, expected)


def test_in_bfloat16_gathered_values_stay_exact_for_the_choice_that_was_made() -> None:
    rows, filters = numbers(N, 64), numbers(K, 64, seed=2)
    zero = torch.zeros(64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, places = chosen_answers(rows, zero, filters, zero[:K], lambda given: largest_in_rows(given, 2))
    exact = rows @ filters.T
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, exact[places.rows, places.columns], rtol=1e-5, atol=1e-5)
    best = exact.topk(2, dim=1).values.min(dim=1).values
    assert (values.reshape(N, 2).min(dim=1).values >= best - 0.02 * best.abs()).all()


def test_in_bfloat16_dense_decoding_is_close() -> None:
    places, atoms = chosen(12), numbers(K, D, seed=1)
    values = numbers(N * 12, seed=2)
    exact = decoded(values, places, atoms)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = decoded(values, places, atoms)
    assert low.dtype == torch.float32
    assert 0 < float((low - exact).norm() / exact.norm()) < 0.01
