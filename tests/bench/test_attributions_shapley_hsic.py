"""KernelSHAP against exact Shapley values, HSIC against its definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from bench import api
from bench.attributions.hsic import dependence
from bench.attributions.kernel_shap import shapley, subsets
from bench.engine import Draws, Engine
from bench.registry import LimenError

CELLS = 10


def masks_of(count, cells, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (count, cells)).astype(np.float32))


def quadratic_game(seed):
    draw = np.random.default_rng(seed)
    linear, pairs = draw.normal(size=CELLS), np.triu(draw.normal(size=(CELLS, CELLS)), 1)
    return lambda z: z @ linear + np.einsum("ni,ij,nj->n", z, pairs, z) + 0.7, linear, pairs


def exact_shapley(game):
    values = np.zeros(CELLS)
    for cell in range(CELLS):
        others = [each for each in range(CELLS) if each != cell]
        for size in range(CELLS):
            weight = math.factorial(size) * math.factorial(CELLS - size - 1) / math.factorial(CELLS)
            for subset in itertools.combinations(others, size):
                z = np.zeros((2, CELLS))
                z[:, list(subset)] = 1
                z[1, cell] = 1
                without, with_cell = game(z)
                values[cell] += weight * (with_cell - without)
    return values


def solve(game, samples=800, seed=0):
    chosen = subsets(Draws(seed, "test"), samples, CELLS)
    ends = game(np.stack([np.ones(CELLS), np.zeros(CELLS)]))
    scores = torch.from_numpy(game(chosen.double().numpy()))[None]
    full, empty = (torch.tensor([end], dtype=torch.float64) for end in ends)
    return shapley(chosen, scores, full, empty)[0].numpy(), ends


@pytest.mark.parametrize("seed", [0, 1])
def test_paired_subsets_give_the_exact_values_of_a_quadratic_game(seed):
    game, linear, pairs = quadratic_game(seed)
    found, _ = solve(game, seed=seed)
    closed = linear + (pairs + pairs.T).sum(1) / 2
    np.testing.assert_allclose(exact_shapley(game), closed, atol=1e-9)
    np.testing.assert_allclose(found, closed, atol=2e-6)


def test_values_sum_to_the_score_s_rise_whatever_the_game():
    draw = np.random.default_rng(3)
    weights = draw.normal(size=(CELLS, 6))
    found, (full, empty) = solve(lambda z: np.tanh(z @ weights).prod(axis=1) * 5, samples=60)
    assert found.sum() == pytest.approx(full - empty, abs=1e-5)


def test_sizes_follow_the_shapley_kernel_and_complements_follow_their_subsets():
    chosen = subsets(Draws(0, "test"), 40_000, 6)
    assert torch.equal(chosen[0::2], 1 - chosen[1::2])
    sizes = chosen.sum(1).long().numpy()
    weights = np.array([1 / (k * (6 - k)) for k in range(1, 6)])
    np.testing.assert_allclose(np.bincount(sizes, minlength=7)[1:6] / len(sizes), weights / weights.sum(), atol=0.01)
    np.testing.assert_allclose(chosen.mean(0).numpy(), 0.5, atol=1e-6)


def test_too_few_subsets_are_refused():
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), device="cpu")
    with pytest.raises(LimenError, match="16 subsets do not tell 64 cells apart"):
        api.explain("kernel_shap", engine, torch.randn(2, 3, 8, 8), samples=16)


def test_linear_network_gets_each_cell_s_contribution():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    engine, images = Engine(module, device="cpu"), torch.randn(3, 3, 8, 8)
    maps = api.explain("kernel_shap", engine, images, 1, side=4, samples=200)
    credit = (images * module[1].weight[1].reshape(3, 8, 8)).sum(1)
    cells = credit.reshape(3, 4, 2, 4, 2).sum((2, 4))
    torch.testing.assert_close(maps[:, 0, ::2, ::2], cells.detach(), atol=1e-4, rtol=1e-4)


def trace_form(masks, scores):
    count = len(scores)
    gaps = np.abs(scores[:, None] - scores[None])
    width = np.median(gaps[np.triu_indices(count, 1)])
    kernel = np.exp(-(gaps**2) / (2 * width**2))
    centre = np.eye(count) - 1 / count
    agree = [(column[:, None] == column[None]).astype(float) for column in masks.T]
    return np.array([np.trace(each @ centre @ kernel @ centre) / count**2 for each in agree])


def test_closed_form_equals_the_trace_form():
    masks = masks_of(41, 7)
    scores = np.random.default_rng(1).normal(size=41) + 2 * masks[:, 3].numpy()
    found = dependence(masks, torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(found, trace_form(masks.numpy(), scores), rtol=1e-5, atol=1e-9)
    assert found.argmax() == 3


def test_constant_scores_and_constant_cells_depend_on_nothing():
    masks = masks_of(32, 5)
    assert dependence(masks, torch.full((32,), 3.0)).abs().max() == 0
    masks[:, 2] = 1
    assert dependence(masks, torch.randn(32, generator=torch.Generator().manual_seed(0)))[2] < 1e-9


def test_order_of_the_samples_and_the_sign_of_a_dependence_do_not_matter():
    masks = masks_of(40, 6)
    scores = masks @ torch.tensor([3.0, -3.0, 0, 0, 1, 0])
    found = dependence(masks, scores)
    order = torch.from_numpy(np.random.default_rng(2).permutation(40))
    torch.testing.assert_close(dependence(masks[order], scores[order]), found)
    torch.testing.assert_close(dependence(masks, -scores), found)
    assert set(found.topk(2).indices.tolist()) == {0, 1}
