"""Gradients of non-negative codes by implicit differentiation: beside central differences and unrolled FISTA."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.engine import Draws
from bench.registry import DICTIONARIES
from bench.spaces.nnls import nnls, sweep


def problem(
    n: int = 6, k: int = 8, d: int = 12, *, positive: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows (n, d), atoms (k, d) and upstream gradients (n, k) in double precision; codes are partly zero."""
    draws = Draws(seed, "problem", positive)
    rows, atoms, upstream = (draws.normal(*shape).double() for shape in ((n, d), (k, d), (n, k)))
    return (rows.abs(), atoms.abs(), upstream) if positive else (rows, atoms, upstream)


def gradients(rows: Tensor, atoms: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    rows, atoms = rows.clone().requires_grad_(), atoms.clone().requires_grad_()
    found: tuple[Tensor, Tensor] = torch.autograd.grad((nnls(rows, atoms) * upstream).sum(), (rows, atoms))
    return found


def differences(of: str, rows: Tensor, atoms: Tensor, upstream: Tensor, step: float = 1e-6) -> Tensor:
    """Return central differences of the weighted sum of codes with respect to the rows or the atoms."""
    moved = rows if of == "rows" else atoms
    slopes = torch.zeros_like(moved)
    for place in range(moved.numel()):
        change = torch.zeros_like(moved)
        change.view(-1)[place] = step
        up, down = (
            (
                nnls(*((moved + sign * change, atoms) if of == "rows" else (rows, moved + sign * change))) * upstream
            ).sum()
            for sign in (1, -1)
        )
        slopes.view(-1)[place] = (up - down) / (2 * step)
    return slopes


def unrolled(rows: Tensor, atoms: Tensor, steps: int) -> Tensor:
    """Codes by `steps` of FISTA in plain operations, which autograd follows one by one."""
    gram, products = atoms @ atoms.T, rows @ atoms.T
    step = 1 / torch.linalg.matrix_norm(gram, 2).detach()
    codes = ahead = torch.zeros_like(products)
    momentum = 1.0
    for _ in range(steps):
        previous, codes = codes, (ahead - step * (ahead @ gram - products)).clamp_min(0)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = codes + (momentum - 1) / faster * (codes - previous)
        momentum = faster
    return codes


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("of", ["rows", "atoms"])
def test_gradients_are_central_differences(of: str, positive: bool) -> None:
    given = problem(4, 5, 7, positive=positive)
    codes = nnls(*given[:2])
    assert 0.1 < float((codes == 0).double().mean()) < 0.9
    found = gradients(*given)[0 if of == "rows" else 1]
    expected = differences(of, *given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_fista_unrolled_a_thousand_times(seed: int) -> None:
    rows, atoms, upstream = problem(seed=seed)
    # Close to orthogonal, so that a thousand steps arrive.
    atoms = torch.eye(*atoms.shape).double() + 0.3 * atoms
    mine = gradients(rows, atoms, upstream)
    leaves = rows.clone().requires_grad_(), atoms.clone().requires_grad_()
    theirs = torch.autograd.grad((unrolled(*leaves, 1000) * upstream).sum(), leaves)
    for one, other in zip(mine, theirs, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 1e-10


def test_fista_unrolled_fifty_times_has_gradients_that_are_off() -> None:
    rows, atoms, upstream = problem()
    leaves = rows.clone().requires_grad_(), atoms.clone().requires_grad_()
    theirs = torch.autograd.grad((unrolled(*leaves, 50) * upstream).sum(), leaves)
    mine = gradients(rows, atoms, upstream)
    assert float((mine[1] - theirs[1]).norm() / mine[1].norm()) > 1e-3


def test_a_rows_gradient_does_not_depend_on_its_batch_mates() -> None:
    rows, atoms, upstream = problem(40, 12, 20)
    whole = gradients(rows, atoms, upstream)[0]
    alone = torch.cat([gradients(rows[i : i + 1], atoms, upstream[i : i + 1])[0] for i in range(len(rows))])
    torch.testing.assert_close(whole, alone, rtol=1e-9, atol=1e-12)


def test_gradients_of_atoms_are_sums_over_rows() -> None:
    rows, atoms, upstream = problem(40, 12, 20)
    whole = gradients(rows, atoms, upstream)[1]
    parts = sum(gradients(rows[i : i + 1], atoms, upstream[i : i + 1])[1] for i in range(len(rows)))
    torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-10)


def test_what_is_off_has_no_gradient() -> None:
    rows, atoms, upstream = problem()
    atoms = torch.cat([atoms, torch.zeros(1, atoms.shape[1]).double()])
    upstream = torch.cat([upstream, torch.ones(len(upstream), 1).double()], dim=1)
    codes = nnls(rows, atoms)
    of_rows, of_atoms = gradients(rows, atoms, upstream * (codes == 0))
    assert (of_rows == 0).all()
    assert (of_atoms == 0).all()
    assert (gradients(rows, atoms, upstream)[1][-1] == 0).all()


def test_more_atoms_than_features_have_gradients_that_keep_the_fit() -> None:
    """Where a row lies in the cone of the atoms its fit is the row itself, whichever codes are chosen."""
    draws = Draws(3)
    atoms = torch.cat([torch.eye(4), draws.uniform(8, 4)]).double()
    rows = draws.uniform(5, 4).double().requires_grad_()
    weights = draws.normal(5, 4).double()
    (slopes,) = torch.autograd.grad((nnls(rows, atoms) @ atoms * weights).sum(), rows)
    torch.testing.assert_close(slopes, weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_and_gradients_keep_the_precision_of_what_was_given(dtype: torch.dtype) -> None:
    rows, atoms, upstream = (part.to(dtype) for part in problem())
    assert nnls(rows, atoms).dtype == dtype
    assert [slopes.dtype for slopes in gradients(rows, atoms, upstream)] == [dtype, dtype]
    exact = gradients(*problem())
    for found, expected in zip(gradients(rows, atoms, upstream), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    rows, atoms, upstream = problem()
    rows.requires_grad_()
    (slopes,) = torch.autograd.grad((nnls(rows, atoms) * upstream).sum(), rows, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        slopes.sum().backward()


@pytest.mark.parametrize("shape", [(2, 5, 9), (4, 9), (2, 9, 3, 2)])
def test_the_codes_of_a_dictionary_are_differentiable(shape: tuple[int, ...]) -> None:
    dictionary = DICTIONARIES.load("nmf")(Draws(0).uniform(60, 9), 4, draws=Draws(1))
    activations = Draws(2).uniform(*shape).requires_grad_()
    codes = dictionary.encode(activations)
    weights = Draws(3).normal(*codes.shape)
    (found,) = torch.autograd.grad((codes * weights).sum(), activations)
    flat = activations.detach().movedim(1, -1) if len(shape) == 4 else activations.detach()
    expected, _ = gradients(
        flat.reshape(-1, 9).double(), dictionary.atoms.double(), weights.reshape(-1, dictionary.k).double()
    )
    placed = found.movedim(1, -1) if len(shape) == 4 else found
    torch.testing.assert_close(placed.reshape(-1, 9).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 7, 40, 70])
def test_a_sweep_is_each_coordinates_optimum_in_turn(k: int) -> None:
    """Slow twin: one coordinate at a time, by the formula."""
    rows, atoms, _ = problem(9, k, 30)
    gram, products = atoms @ atoms.T, atoms @ rows.T
    codes = Draws(1).uniform(k, 9).double()
    expected = codes.clone()
    for _ in range(2):
        for part in range(k):
            step = (products[part] - gram[part] @ expected) / gram[part, part]
            expected[part] = (expected[part] + step).clamp_min(1e-10)
    sweep(codes, products, gram, times=2, floor=1e-10)
    torch.testing.assert_close(codes, expected, rtol=1e-10, atol=1e-12)
