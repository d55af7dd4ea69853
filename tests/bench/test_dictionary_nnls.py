"""Non-negative least squares beside scipy's, on easy, wide, coherent and degenerate dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls as scipy_nnls

from bench.spaces.nnls import nnls


def problem(n: int, k: int, d: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, d) and atoms (k, d) of one kind."""
    draws = np.random.default_rng(seed)
    rows, atoms = draws.normal(size=(n, d)), draws.normal(size=(k, d))
    if kind == "positive":
        rows, atoms = abs(rows), abs(atoms)
    if kind == "coherent":
        rows, atoms = abs(rows), 1 + 0.01 * atoms
    return rows.astype(np.float32), atoms.astype(np.float32)


def solved(rows: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    return nnls(torch.from_numpy(rows), torch.from_numpy(atoms)).numpy()


@pytest.mark.parametrize("kind", ["signed", "positive", "coherent"])
@pytest.mark.parametrize(("k", "d"), [(1, 4), (10, 20), (20, 20), (60, 64)])
def test_codes_are_scipys(kind: str, k: int, d: int) -> None:
    rows, atoms = problem(40, k, d, kind)
    codes = solved(rows, atoms)
    for row, code in zip(rows, codes, strict=True):
        expected, _ = scipy_nnls(atoms.T.astype(np.float64), row.astype(np.float64), maxiter=10_000)
        np.testing.assert_allclose(code, expected, rtol=1e-4, atol=1e-5 * abs(expected).max() + 1e-12)


@pytest.mark.parametrize("kind", ["signed", "positive", "coherent"])
def test_more_atoms_than_features_reach_scipys_residual(kind: str) -> None:
    rows, atoms = problem(40, 60, 16, kind)
    for row, code in zip(rows, solved(rows, atoms), strict=True):
        _, expected = scipy_nnls(atoms.T.astype(np.float64), row.astype(np.float64), maxiter=10_000)
        assert np.linalg.norm(row - code.astype(np.float64) @ atoms) <= expected + 1e-5 * np.linalg.norm(row)


def test_dependent_and_dead_atoms_reach_scipys_residual() -> None:
    rows, atoms = problem(40, 12, 20, "positive")
    atoms = np.concatenate([atoms, atoms, np.zeros((2, 20), np.float32)])
    codes = solved(rows, atoms)
    assert (codes[:, 24:] == 0).all()
    for row, code in zip(rows, codes, strict=True):
        _, expected = scipy_nnls(atoms.T.astype(np.float64), row.astype(np.float64))
        assert np.linalg.norm(row - code.astype(np.float64) @ atoms) <= expected * (1 + 1e-6)


@settings(max_examples=40, deadline=None)
@given(
    k=st.integers(1, 12),
    d=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 10_000),
)
def test_the_optimality_conditions_hold_at_any_scale(k: int, d: int, scale: float, seed: int) -> None:
    rows, atoms = problem(6, k, d, "signed", seed)
    rows = (rows * scale).astype(np.float32)
    codes = solved(rows, atoms).astype(np.float64)
    unit = np.linalg.norm(atoms, axis=1)
    slope = (codes @ atoms - rows) @ atoms.T / unit
    tolerance = 1e-4 * np.linalg.norm(rows, axis=1, keepdims=True) + 1e-30
    assert (codes >= 0).all()
    assert (slope >= -tolerance).all()
    assert (abs(slope)[codes > 0] <= np.broadcast_to(tolerance, slope.shape)[codes > 0]).all()


def test_a_row_does_not_depend_on_its_batch_mates() -> None:
    rows, atoms = problem(30, 25, 12, "positive")
    alone = np.concatenate([solved(row[None], atoms) for row in rows])
    np.testing.assert_allclose(solved(rows, atoms), alone, rtol=1e-5, atol=1e-6)


def test_rows_of_zeros_and_no_rows_have_codes_of_zero() -> None:
    _, atoms = problem(1, 4, 6, "positive")
    assert (solved(np.zeros((3, 6), np.float32), atoms) == 0).all()
    assert solved(np.zeros((0, 6), np.float32), atoms).shape == (0, 4)
