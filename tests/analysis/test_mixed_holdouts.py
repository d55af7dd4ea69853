"""Mixed models of many shapes against a slow likelihood by dense algebra, and at its maximum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize, special

from analysis.mixed_models import mixedlm

Effects = list[tuple[str, list[str], bool]]
"""Grouping columns joined by ':', effects ('1' or a column), correlated."""


def simulate(
    seed: int, *, people: int = 12, items: int = 7, slope: float = 0.6, rho: float = 0.0, person_sd: float = 0.7
) -> pd.DataFrame:
    """People and items crossed, unbalanced; `c` within both, `s` a third grouping, `n` trials, `o` an offset."""
    draws = np.random.default_rng(seed)
    table = pd.DataFrame([(p, i, c) for p in range(people) for i in range(items) for c in (-0.5, 0.5) if draws.random() > 0.25],
                         columns=["p", "i", "c"])  # fmt: skip
    u = draws.normal(size=(people, 2))
    u[:, 1] = rho * u[:, 0] + np.sqrt(1 - rho**2) * u[:, 1]
    table["s"], table["two"] = draws.integers(0, 6, len(table)), table["p"] % 2
    table["class"] = table["p"] % 4
    table["o"], table["n"] = draws.normal(0, 0.3, len(table)), draws.integers(1, 7, len(table))
    eta = 0.3 + 0.5 * table["c"] + table["o"] + person_sd * u[table["p"], 0] + slope * u[table["p"], 1] * table["c"]
    eta = eta + draws.normal(0, 0.5, items)[table["i"]] + draws.normal(0, 0.5, 6)[table["s"]]
    table["y"] = draws.binomial(table["n"], special.expit(eta))
    table["one"] = draws.binomial(1, special.expit(eta))
    return table.assign(z=eta + draws.normal(0, 0.6, len(table)))


def dense(data: pd.DataFrame, effects: Effects) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray], int]:
    """Return Z (N, Q), a function from the factors' entries to the block-diagonal factor (Q, Q), and how many entries there are."""
    blocks, shapes = [], []
    for group, names, correlated in effects:
        codes = pd.factorize(data[group.split(":")].astype(str).agg(":".join, axis=1))[0]
        values = [np.ones(len(data)) if name == "1" else data[name].to_numpy(dtype=float) for name in names]
        for part in [values] if correlated else [[one] for one in values]:
            z = np.zeros((len(data), (codes.max() + 1) * len(part)))
            for k, one in enumerate(part):
                z[np.arange(len(data)), codes * len(part) + k] = one
            blocks.append(z)
            shapes.append((codes.max() + 1, len(part)))

    def factor(theta: np.ndarray) -> np.ndarray:
        made, place = [], 0
        for count, size in shapes:
            lower = np.zeros((size, size))
            lower[np.tril_indices(size)] = theta[place : place + size * (size + 1) // 2]
            place += size * (size + 1) // 2
            made.append(np.kron(np.eye(count), lower))
        return linalg.block_diag(*made)

    return np.hstack(blocks), factor, sum(size * (size + 1) // 2 for _, size in shapes)


def slow_linear(
    y: np.ndarray, x: np.ndarray, z: np.ndarray, factor, theta: np.ndarray, reml: bool
) -> tuple[float, np.ndarray]:
    """Return the log likelihood at relative factors, sigma and effects profiled, from the dense covariance of y."""
    v = z @ factor(theta) @ factor(theta).T @ z.T + np.eye(len(y))
    inverse, (_, log_v) = np.linalg.inv(v), np.linalg.slogdet(v)
    xvx = x.T @ inverse @ x
    beta = np.linalg.solve(xvx, x.T @ inverse @ y)
    rest = y - x @ beta
    n = len(y) - x.shape[1] * reml
    rss = rest @ inverse @ rest
    whole = log_v + n * (1 + np.log(2 * np.pi * rss / n)) + (np.linalg.slogdet(xvx)[1] if reml else 0.0)
    return float(-whole / 2), beta


def slow_logistic(
    y: np.ndarray, n: np.ndarray, o: np.ndarray, x: np.ndarray, z: np.ndarray, factor, values: np.ndarray
) -> float:
    """Return the Laplace log likelihood at effects and factors, the modes found by plain Newton steps with dense matrices."""
    p = x.shape[1]
    m = z @ factor(values[p:])
    u = np.zeros(m.shape[1])

    def penalised(at: np.ndarray) -> float:
        eta = o + x @ values[:p] + m @ at
        return float(-2 * (y * eta - n * np.logaddexp(0, eta)).sum() + at @ at)

    for _ in range(60):
        mean = special.expit(o + x @ values[:p] + m @ u)
        h = m.T @ (m * (n * mean * (1 - mean))[:, None]) + np.eye(len(u))
        step = np.linalg.solve(h, m.T @ (y - n * mean) - u)
        size = 1.0
        while penalised(u + size * step) > penalised(u) and size > 1e-6:
            size /= 2
        u = u + size * step
        if np.abs(step).max() < 1e-10:
            break
    mean = special.expit(o + x @ values[:p] + m @ u)
    h = m.T @ (m * (n * mean * (1 - mean))[:, None]) + np.eye(len(u))
    return -(penalised(u) + float(np.linalg.slogdet(h)[1])) / 2


PEOPLE, ITEMS = ("p", ["1"], True), ("i", ["1"], True)
SHAPES: dict[str, tuple[str, Effects, dict[str, float]]] = {
    "crossed": ("(1|p) + (1|i)", [PEOPLE, ITEMS], {}),
    "uncorrelated slope": ("(1 + c||p) + (1|i)", [("p", ["1", "c"], False), ITEMS], {}),
    "correlated slope": ("(1 + c|p) + (1|i)", [("p", ["1", "c"], True), ITEMS], {"rho": 0.7}),
    "nested": ("(1|class/p) + (1|i)", [("class", ["1"], True), ("class:p", ["1"], True), ITEMS], {}),
    "three groupings": ("(1|p) + (1|i) + (1|s)", [PEOPLE, ITEMS, ("s", ["1"], True)], {}),
    "two levels": ("(1|two) + (1|i)", [("two", ["1"], True), ITEMS], {}),
    "nearly no variance": (
        "(1|p) + (0+c|p) + (1|i)",
        [("p", ["1", "c"], False), ITEMS],
        {"slope": 0.0, "person_sd": 0.05},
    ),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_linear_model_is_the_maximum_of_the_dense_likelihood(shape: str, reml: bool) -> None:
    text, effects, options = SHAPES[shape]
    data = simulate(1, **options)
    found = mixedlm(f"z ~ c + {text}", data, reml=reml, offset="o").fit()
    z, factor, _ = dense(data, effects)
    x, y = np.column_stack([np.ones(len(data)), data["c"]]), (data["z"] - data["o"]).to_numpy()
    here, beta = slow_linear(y, x, z, factor, found.fit.theta, reml)
    assert found.llf == pytest.approx(here, abs=1e-7)
    assert list(found.params) == pytest.approx(list(beta), abs=1e-7)
    best = optimize.minimize(
        lambda t: -slow_linear(y, x, z, factor, t, reml)[0],
        found.fit.theta + 0.15,
        method="Powell",
        options={"maxfev": 300},
    )
    assert found.llf >= -best.fun - 1e-5


@pytest.mark.parametrize("response", ["one", "y"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_logistic_model_is_the_maximum_of_the_dense_laplace_likelihood(shape: str, response: str) -> None:
    text, effects, options = SHAPES[shape]
    data = simulate(2, **options)
    found = mixedlm(
        f"{response} ~ c + {text}", data, family="binomial", offset="o", trials="n" if response == "y" else None
    ).fit()
    assert found.converged
    z, factor, _ = dense(data, effects)
    x, y = np.column_stack([np.ones(len(data)), data["c"]]), data[response].to_numpy(dtype=float)
    n = data["n"].to_numpy(dtype=float) if response == "y" else np.ones(len(data))
    at = np.concatenate([found.params, found.fit.theta])

    def slow(values: np.ndarray) -> float:
        return -slow_logistic(y, n, data["o"].to_numpy(), x, z, factor, values)

    assert found.llf == pytest.approx(-slow(at), abs=1e-7)
    # At its maximum the slow likelihood has no slope in the effects, nor in factors that are not zero.
    free = [k for k in range(len(at)) if k < 2 or abs(at[k]) > 1e-3]
    steps = 1e-4 * np.eye(len(at))
    slopes = [(slow(at + steps[k]) - slow(at - steps[k])) / 2e-4 for k in free]
    assert np.abs(slopes).max() < 2e-3
    for scale in (0.9, 1.1):
        assert slow(np.concatenate([at[:2], at[2:] * scale + 0.02])) >= slow(at) - 1e-8
