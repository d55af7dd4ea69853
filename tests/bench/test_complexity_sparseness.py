"""Sparseness against the closed forms of the Gini index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import null, score
from bench.engine import Engine

NO_NULL = np.zeros(1)


def gini(engine: Engine, maps: Tensor) -> float:
    images = torch.zeros(1, 3, *maps.shape[-2:])
    return float(score("sparseness", engine, images, maps.reshape(1, 1, *maps.shape[-2:]), 0, null=NO_NULL).values[0])


@pytest.mark.parametrize("sign", [1, -1])
def test_one_pixel_of_a_hundred_has_a_gini_index_of_99_percent(engine: Engine, sign: int) -> None:
    maps = torch.zeros(10, 10)
    maps[3, 7] = 5 * sign
    assert gini(engine, maps) == pytest.approx(0.99, abs=1e-12)


@pytest.mark.parametrize("level", [0.0, 2.0, -2.0])
def test_a_flat_map_has_a_gini_index_of_zero(engine: Engine, level: float) -> None:
    assert gini(engine, torch.full((10, 10), level)) == pytest.approx(0, abs=1e-12)


def test_a_ramp_has_the_gini_index_of_its_formula(engine: Engine) -> None:
    # For 1 .. n the index is (n - 1) / (3 n).
    assert gini(engine, torch.arange(1.0, 101).reshape(10, 10)) == pytest.approx(99 / 300, abs=1e-9)


def test_scale_and_sign_do_not_change_it(engine: Engine) -> None:
    maps = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    assert gini(engine, -7 * maps) == pytest.approx(gini(engine, maps), abs=1e-7)


def test_it_equals_the_mean_absolute_difference_of_all_pairs(engine: Engine) -> None:
    maps = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    sizes = maps.abs().flatten().double().numpy()
    pairs = np.abs(sizes[:, None] - sizes[None, :]).mean() / (2 * sizes.mean())
    assert gini(engine, maps) == pytest.approx(pairs, abs=1e-9)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(torch.rand, 1 / 3), (torch.randn, 2**0.5 - 1)],
)
def test_independent_noise_has_the_index_of_its_distribution(engine: Engine, draw: object, expected: float) -> None:
    maps = draw(256, 256, generator=torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert gini(engine, maps) == pytest.approx(expected, abs=5e-3)


def test_the_null_is_a_third(engine: Engine, images: Tensor) -> None:
    assert null("sparseness", engine, images).mean() == pytest.approx(1 / 3, abs=0.02)
