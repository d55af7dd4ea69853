"""KernelSHAP against exact Shapley values, HSIC against its definition."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from bench import api
from bench.attributions import hsic as hsic_file
from bench.attributions.hsic import dependence, median_gap
from bench.attributions.kernel_shap import Regression, every_subset, least_squares, subsets
from bench.engine import Draws, Engine
from bench.registry import LimenError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    captum = pytest.importorskip("captum.attr")
    from captum.testing.helpers.basic_models import BasicModel_MultiLayer

Game = Callable[[np.ndarray], np.ndarray]
CELLS = 10


class Function(nn.Module):
    """Two logits, 0 and f(flattened image)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.flatten(1))
        return torch.stack([torch.zeros_like(value), value], dim=1)


class Flat(nn.Module):
    """Feeds images (N, 1, 1, 3) to captum's toy network of three features."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BasicModel_MultiLayer()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.flatten(1))


def masks_of(count: int, cells: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (count, cells)).astype(np.float32))


def quadratic_game(seed: int) -> tuple[Game, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    linear, pairs = draw.normal(size=CELLS), np.triu(draw.normal(size=(CELLS, CELLS)), 1)
    return lambda z: z @ linear + np.einsum("ni,ij,nj->n", z, pairs, z) + 0.7, linear, pairs


def table_game(cells: int, seed: int) -> Game:
    """A game whose every subset has a value of its own: interactions of all orders."""
    table = np.random.default_rng(seed).normal(size=2**cells)
    return lambda z: table[(z @ 2.0 ** np.arange(cells)).astype(int)]


def exact_shapley(game: Game, cells: int) -> np.ndarray:
    values = np.zeros(cells)
    for cell in range(cells):
        others = [each for each in range(cells) if each != cell]
        for size in range(cells):
            weight = math.factorial(size) * math.factorial(cells - size - 1) / math.factorial(cells)
            for subset in itertools.combinations(others, size):
                z = np.zeros((2, cells))
                z[:, list(subset)] = 1
                z[1, cell] = 1
                without, with_cell = game(z)
                values[cell] += weight * (with_cell - without)
    return values


def solve(game: Game, chosen: Tensor, weights: Tensor | None = None) -> tuple[np.ndarray, np.ndarray]:
    ends = game(np.stack([np.ones(chosen.shape[1]), np.zeros(chosen.shape[1])]))
    scores = torch.from_numpy(game(chosen.double().numpy()))[None]
    full, empty = (torch.tensor([end], dtype=torch.float64) for end in ends)
    return Regression(chosen, weights).shapley(scores, full, empty)[0].numpy(), ends


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_paired_subsets_give_the_exact_values_of_a_quadratic_game(seed: int) -> None:
    game, linear, pairs = quadratic_game(seed)
    found, _ = solve(game, subsets(Draws(seed, "test"), 800, CELLS))
    closed = linear + (pairs + pairs.T).sum(1) / 2
    np.testing.assert_allclose(exact_shapley(game, CELLS), closed, atol=1e-9)
    np.testing.assert_allclose(found, closed, atol=1e-13)


def test_unpaired_subsets_give_the_exact_values_of_an_additive_game_only() -> None:
    game, linear, pairs = quadratic_game(0)
    chosen = subsets(Draws(0, "test"), 800, CELLS, paired=False)
    np.testing.assert_allclose(solve(lambda z: z @ linear + 2, chosen)[0], linear, atol=1e-13)
    closed = linear + (pairs + pairs.T).sum(1) / 2
    assert 1e-3 < np.abs(solve(game, chosen)[0] - closed).max() < 0.5


@pytest.mark.parametrize("cells", [2, 3, 5, 8])
def test_all_subsets_give_the_exact_values_of_any_game(cells: int) -> None:
    game = table_game(cells, seed=cells)
    found, _ = solve(game, *every_subset(cells, torch.zeros(1)))
    np.testing.assert_allclose(found, exact_shapley(game, cells), atol=1e-13)


def test_drawn_subsets_approach_the_values_of_any_game() -> None:
    game = table_game(6, seed=3)
    found, _ = solve(game, subsets(Draws(0, "test"), 40_000, 6))
    np.testing.assert_allclose(found, exact_shapley(game, 6), atol=0.02)


def test_few_cells_are_enumerated_and_a_product_of_three_is_shared_in_thirds() -> None:
    function = Function(lambda flat: flat[:, 0] * flat[:, 1] * flat[:, 2] + 5 * flat[:, 3])
    engine = Engine(function, device="cpu", precision="fp32")
    image = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]])
    with engine.meter() as cost:
        maps = api.explain("kernel_shap", engine, image, torch.tensor([1]), side=2)
    assert maps.flatten().tolist() == pytest.approx([2, 2, 2, -5], abs=1e-6)
    # 2^4 - 2 subsets, the two ends, and f(x) itself for the number of classes.
    assert cost.forwards == 14 + 2 + 1


def test_values_sum_to_the_score_s_rise_whatever_the_game() -> None:
    draw = np.random.default_rng(3)
    weights = draw.normal(size=(CELLS, 6))
    chosen = subsets(Draws(0, "test"), 60, CELLS)
    found, (full, empty) = solve(lambda z: np.tanh(z @ weights).prod(axis=1) * 5, chosen)
    assert found.sum() == pytest.approx(full - empty, abs=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_sizes_follow_the_shapley_kernel(paired: bool) -> None:
    chosen = subsets(Draws(0, "test"), 40_000, 6, paired=paired)
    sizes = chosen.sum(1).long().numpy()
    weights = np.array([1 / (k * (6 - k)) for k in range(1, 6)])
    np.testing.assert_allclose(np.bincount(sizes, minlength=7)[1:6] / len(sizes), weights / weights.sum(), atol=0.01)
    np.testing.assert_allclose(chosen.mean(0).numpy(), 0.5, atol=1e-6 if paired else 0.01)


def test_complements_follow_their_subsets() -> None:
    chosen = subsets(Draws(0, "test"), 100, 6)
    assert torch.equal(chosen[0::2], 1 - chosen[1::2])


def test_second_moments_are_those_of_the_closed_form() -> None:
    cells = 5
    share = sum(1 / (q * (cells - q)) for q in range(1, cells))
    expected = sum((q - 1) / (cells - q) for q in range(2, cells)) / (cells * (cells - 1) * share)
    assert expected == pytest.approx(0.26)
    chosen = subsets(Draws(0, "test"), 60_000, cells).double()
    moments = chosen.T @ chosen / len(chosen)
    assert (moments[~torch.eye(cells, dtype=torch.bool)] - expected).abs().max() < 0.01


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 16}, "16 subsets do not tell 64 cells apart"),
        ({"samples": 801}, "option 'samples': given 801, allowed is an even number, or paired=False"),
    ],
)
def test_subsets_that_cannot_serve_are_refused(options: dict[str, int], sentence: str) -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), device="cpu")
    with pytest.raises(LimenError, match=sentence):
        api.explain("kernel_shap", engine, torch.randn(2, 3, 8, 8), **options)


def test_too_few_subsets_are_refused_before_the_forwards() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), device="cpu")
    with engine.meter() as cost, pytest.raises(LimenError, match="100 subsets do not tell 64 cells apart"):
        api.explain("kernel_shap", engine, torch.randn(2, 3, 8, 8), torch.tensor([0, 1]), samples=100)
    assert cost.forwards <= 2, "at most those that tell how many classes there are"


@pytest.mark.parametrize("options", [{}, {"paired": False}, {"preset": "xplique"}, {"preset": "captum", "samples": 60}])
def test_linear_network_gets_each_cell_s_contribution(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    engine, images = Engine(module, device="cpu"), torch.randn(3, 3, 8, 8)
    maps = api.explain("kernel_shap", engine, images, 1, side=4, **options)
    credit = (images * module[1].weight[1].reshape(3, 8, 8)).sum(1)
    cells = credit.reshape(3, 4, 2, 4, 2).sum((2, 4))
    torch.testing.assert_close(maps[:, 0, ::2, ::2], cells.detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heavy", [0, 2])
def test_least_squares_equals_scikit_learn_s(heavy: int) -> None:
    chosen, scores = masks_of(40, 6), np.random.default_rng(1).normal(size=(3, 40))
    found = least_squares(chosen, torch.from_numpy(scores), heavy=heavy).numpy()
    weights = np.ones(40)
    weights[40 - heavy :] = 1e6
    for row, own in zip(found, scores, strict=True):
        model = LinearRegression().fit(chosen.double().numpy(), own, sample_weight=weights)
        np.testing.assert_allclose(row, model.coef_, rtol=1e-8, atol=1e-10)


def test_captums_toy_values_are_those_of_all_subsets() -> None:
    engine = Engine(Flat(), device="cpu", precision="fp32")
    maps = api.explain("kernel_shap", engine, torch.tensor([[[[20.0, 50.0, 30.0]]]]), 0, side=None)
    assert maps.flatten().tolist() == pytest.approx([76.667, 196.667, 116.667], abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_captums_estimate_and_its_preset_agree_by_expectation() -> None:
    function = Function(lambda flat: flat[:, 0] * flat[:, 1] * flat[:, 2] + (flat[:, 3] * flat[:, 0]).sin())
    image, engine = torch.tensor([[[[1.0, 2.0], [1.5, -1.0]]]]), Engine(function, device="cpu", precision="fp32")
    exact = api.explain("kernel_shap", engine, image, 1, side=2)
    found = api.explain("kernel_shap", engine, image, 1, side=2, preset="captum", samples=4000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = captum.KernelShap(function).attribute(image, target=1, n_samples=1500, perturbations_per_eval=500)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)
    torch.testing.assert_close(theirs, exact, atol=0.15, rtol=0)


def literal(
    masks: np.ndarray, scores: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray], gram: np.ndarray
) -> np.ndarray:
    """HSIC as the definition has it: one Gram matrix a cell, centred on both sides, and a trace."""
    count = len(scores)
    centre = np.eye(count) - 1 / count
    cells = [kernel(column[:, None], column[None]) for column in masks.T.astype(np.float64)]
    return np.array([np.trace(each @ centre @ gram @ centre) / count**2 for each in cells])


def agree(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x == y).astype(float)


def sobolev(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    gap = np.abs(x - y)
    return 1 + (x - 0.5) * (y - 0.5) + (gap**2 - gap + 1 / 6) / 2


def gaussian(x: np.ndarray, y: np.ndarray, width: float = 0.5) -> np.ndarray:
    return np.exp(-((x - y) ** 2) / (2 * width**2))


KERNELS = {"binary": agree, "sobolev": sobolev, "rbf": gaussian}


def gram_of(scores: np.ndarray, output: str, width: str) -> np.ndarray:
    if output == "sobolev":
        return sobolev(scores[:, None], scores[None])
    gaps = np.abs(scores[:, None] - scores[None])
    scale = np.median(gaps[np.triu_indices(len(scores), 1)]) if width == "distance" else np.median(scores)
    return gaussian(scores[:, None], scores[None], scale)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("output", "width"), [("rbf", "distance"), ("rbf", "value"), ("sobolev", "distance")])
@pytest.mark.parametrize("count", [41, 42])
def test_dependence_equals_its_literal_transcription(kernel: str, output: str, width: str, count: int) -> None:
    draw = np.random.default_rng(count)
    masks = draw.random((count, 7))
    masks = (masks.round() if kernel == "binary" else masks).astype(np.float32)
    scores = 1 / (1 + np.exp(-draw.normal(size=(3, count)) - 2 * masks[:, 3]))
    found = dependence(
        torch.from_numpy(masks), torch.from_numpy(scores), input_kernel=kernel, output_kernel=output, width=width
    )
    expected = np.stack([literal(masks, own, KERNELS[kernel], gram_of(own, output, width)) for own in scores])
    # Indices far below the largest are differences of large sums.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13 * expected.max())
    assert (found.argmax(1) == 3).all()


@pytest.mark.parametrize("kernel", ["binary", "sobolev"])
def test_total_dependence_equals_its_literal_transcription(kernel: str) -> None:
    draw = np.random.default_rng(0)
    masks = draw.random((60, 5))
    masks = masks.round() if kernel == "binary" else masks
    scores = masks[:, 0] * masks[:, 1] + 0.1 * draw.normal(size=60)
    factor = {"binary": lambda x, y: 1.5 - (x - y) ** 2, "sobolev": sobolev}[kernel]
    grams = np.stack([factor(column[:, None], column[None]) for column in masks.T])
    centre, gram = np.eye(60) - 1 / 60, gram_of(scores, "rbf", "distance")
    parts = [np.trace(np.delete(grams, i, 0).prod(0) @ centre @ gram @ centre) for i in range(5)]
    expected = 1 - np.array(parts) / np.trace(grams.prod(0) @ centre @ gram @ centre)
    found = dependence(torch.from_numpy(masks), torch.from_numpy(scores)[None], input_kernel=kernel, order="total")
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-12)


def test_total_dependence_finds_what_two_cells_do_only_together() -> None:
    masks = masks_of(512, 6)
    scores = (masks[:, 0] != masks[:, 1]).float()[None]
    first, total = dependence(masks, scores)[0], dependence(masks, scores, order="total")[0]
    assert first[:2].max() < 0.01
    assert total[:2].min() > 4 * total[2:].max()


def test_total_dependence_of_gaussian_kernels_is_refused(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'order': given 'total' for the input kernel 'rbf'"):
        api.explain("hsic", engine, images, 0, order="total", input_kernel="rbf")


@pytest.mark.parametrize("kernel", KERNELS)
def test_blocks_of_images_and_of_rows_do_not_change_a_dependence(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, scores = masks_of(30, 5), torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    whole = dependence(masks, scores, input_kernel=kernel)
    monkeypatch.setattr(hsic_file, "_NUMBERS", 1000)
    torch.testing.assert_close(dependence(masks, scores, input_kernel=kernel), whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("count", [2, 3, 7, 8, 301])
@pytest.mark.parametrize("tied", [True, False])
def test_median_gap_is_the_median_over_pairs(count: int, tied: bool) -> None:
    values = np.random.default_rng(count).normal(size=(2, count))
    values = values.round() if tied else values
    gaps = np.abs(values[:, :, None] - values[:, None, :])
    expected = [np.median(each[np.triu_indices(count, 1)]) for each in gaps]
    np.testing.assert_allclose(median_gap(torch.from_numpy(values)).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_constant_scores_and_constant_cells_depend_on_nothing(kernel: str) -> None:
    masks = masks_of(32, 5)
    assert dependence(masks, torch.full((1, 32), 3.1), input_kernel=kernel).abs().max() == 0
    masks[:, 2] = 1
    scores = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    assert dependence(masks, scores, input_kernel=kernel)[0, 2] < 1e-15


def test_order_of_the_samples_and_the_sign_of_a_dependence_do_not_matter() -> None:
    masks = masks_of(40, 6)
    scores = (masks @ torch.tensor([3.0, -3.0, 0, 0, 1, 0]))[None]
    found = dependence(masks, scores)
    order = torch.from_numpy(np.random.default_rng(2).permutation(40))
    torch.testing.assert_close(dependence(masks[order], scores[:, order]), found)
    torch.testing.assert_close(dependence(masks, -scores), found)
    assert set(found[0].topk(2).indices.tolist()) == {0, 1}


def test_a_dependence_without_a_slope_is_found_by_the_kernels_of_real_values() -> None:
    masks = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    scores = (masks[:, 1] - 0.5).square()[None]
    assert abs(float(torch.corrcoef(torch.stack([masks[:, 1], scores[0]]))[0, 1])) < 0.2
    for kernel in ("sobolev", "rbf"):
        assert dependence(masks, scores, input_kernel=kernel)[0].argmax() == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_hsic_with_any_kernel_finds_the_pixel_that_counts(kernel: str) -> None:
    engine = Engine(Function(lambda flat: flat[:, 5] * 2 + flat[:, 0] * 0.2), device="cpu", precision="fp32")
    maps = api.explain(
        "hsic", engine, torch.ones(1, 1, 4, 4), 1, side=4, samples=128, input_kernel=kernel, upsampling="nearest"
    )
    assert maps.flatten().argmax() == 5


def test_the_sobolev_kernel_of_logits_is_refused(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'output_kernel': given 'sobolev' for score 'logit'"):
        api.explain("hsic", engine, images, 0, output_kernel="sobolev")
