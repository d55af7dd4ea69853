"""Sobol: estimators against their formulas and closed forms, designs, perturbations, and what is never run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import qmc
from torch import Tensor, nn

from bench.api import explain
from bench.attributions._designs import points
from bench.attributions.sobol import replicated, total_indices
from bench.engine import Draws, Engine
from bench.registry import UnknownName
from bench.spaces import Pixels

ESTIMATORS = ("jansen", "homma", "glen", "janon")
DESIGNS = ("scrambled", "lhs", "random", "unscrambled")
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


class Function(nn.Module):
    """Two logits, 0 and f(flattened image)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.flatten(1))
        return torch.stack([torch.zeros_like(value), value], dim=1)


def engine_of(function: Callable[[Tensor], Tensor]) -> Engine:
    return Engine(Function(function), device="cpu", precision="fp32", batch_size=512)


def rows_of(design: str, samples: int, cells: int, seed: int = 0) -> Tensor:
    """All masks of a design at once, (samples (cells + 1), cells)."""
    first, second = points(Draws(seed, "test"), design, samples, 2 * cells).chunk(2, dim=1)
    masks = replicated(first, second)
    index = torch.arange(masks.count)
    return masks.build(torch.zeros_like(index), index)


def indices_of(
    function: Callable[[Tensor], Tensor], cells: int, samples: int, estimator: str, design: str = "scrambled"
) -> Tensor:
    scores = function(rows_of(design, samples, cells).double())
    return total_indices(scores.reshape(1, samples, cells + 1), estimator)[0]


def ishigami(rows: Tensor) -> Tensor:
    first, second, third = (torch.pi * (2 * rows[:, place] - 1) for place in range(3))
    return first.sin() + 7 * second.sin() ** 2 + 0.1 * third**4 * first.sin()


def test_design_holds_each_row_of_a_and_then_it_with_each_column_of_b() -> None:
    first, second = torch.rand(5, 3), torch.rand(5, 3)
    masks = replicated(first, second)
    index = torch.arange(masks.count)
    found = masks.build(torch.zeros_like(index), index)
    mixed = [torch.cat([first[:, :i], second[:, i : i + 1], first[:, i + 1 :]], dim=1) for i in range(3)]
    assert torch.equal(found, torch.stack([first, *mixed], dim=1).flatten(0, 1))
    some = torch.tensor([17, 0, 6])
    assert torch.equal(masks.build(torch.zeros_like(some), some), found[some])


def formula(estimator: str, plain: np.ndarray, mixed: np.ndarray) -> float:
    """The published estimators, on scores centred by the mean of A."""
    count, product, mean = len(plain), (plain * mixed).mean(), plain.mean()
    if estimator == "jansen":
        return float(((plain - mixed) ** 2).sum() / (2 * count * plain.var(ddof=1)))
    if estimator == "homma":
        return float(1 - (product - mean**2) / plain.var())
    if estimator == "glen":
        return float(1 - np.corrcoef(plain, mixed)[0, 1])
    middle = (mean + mixed.mean()) / 2
    return float(1 - (product - middle**2) / (((plain**2 + mixed**2) / 2).mean() - middle**2))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_equal_their_formulas(estimator: str) -> None:
    scores = np.random.default_rng(0).normal(size=(2, 12, 5))
    found = total_indices(torch.from_numpy(scores), estimator).numpy()
    for row, own in zip(found, scores, strict=True):
        plain, mixed = own[:, 0], own[:, 1:].T
        expected = [formula(estimator, plain - plain.mean(), each - plain.mean()) for each in mixed]
        np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_ishigami_has_its_published_indices(estimator: str) -> None:
    found = indices_of(ishigami, 3, 2**14, estimator).tolist()
    assert found == pytest.approx([0.5576, 0.4424, 0.2437], abs=2e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", ["scrambled", "lhs"])
def test_a_linear_function_shares_its_variance(estimator: str, design: str) -> None:
    found = indices_of(lambda rows: rows @ WEIGHTS.double(), 3, 4096, estimator, design)
    torch.testing.assert_close(found, WEIGHTS.square() / WEIGHTS.square().sum(), atol=0.02, rtol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_product_of_two_has_four_sevenths_each(estimator: str) -> None:
    found = indices_of(lambda rows: rows[:, 0] * rows[:, 1], 3, 2**13, estimator).tolist()
    assert found == pytest.approx([4 / 7, 4 / 7, 0], abs=3e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("samples", [8, 64])
def test_indices_do_not_change_under_an_affine_map(estimator: str, samples: int) -> None:
    plain = indices_of(ishigami, 3, samples, estimator)
    moved = indices_of(lambda rows: 10_000 - 3 * ishigami(rows), 3, samples, estimator)
    torch.testing.assert_close(moved, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", DESIGNS)
def test_a_cell_that_is_never_read_has_exactly_nothing(estimator: str, design: str) -> None:
    found = indices_of(lambda rows: rows[:, 0].sin() + rows[:, 2].square(), 3, 16, estimator, design)
    assert abs(float(found[1])) < 1e-12
    assert (found[[0, 2]] > 0.01).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_order_of_the_rows_does_not_matter(estimator: str) -> None:
    scores = torch.randn(2, 16, 5, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(total_indices(scores[:, order], estimator), total_indices(scores, estimator))


def test_the_order_of_the_cells_permutes_the_indices() -> None:
    order = [2, 0, 1]
    found = indices_of(ishigami, 3, 4096, "jansen")
    permuted = indices_of(lambda rows: ishigami(rows[:, order]), 3, 4096, "jansen")
    torch.testing.assert_close(permuted[order], found, atol=0.02, rtol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_constant_score_gives_zeros(estimator: str) -> None:
    assert total_indices(torch.full((2, 8, 5), 0.1), estimator).abs().max() == 0


def additive_sums(design: str, samples: int, seeds: int) -> Tensor:
    """Sum of the unnormalised indices of one additive function over its true variance, for each seed."""
    slopes = torch.linspace(0.5, 1.5, 16, dtype=torch.float64)
    sums = []
    for seed in range(seeds):
        plain, *mixed = (rows_of(design, samples, 16, seed).double() @ slopes).unflatten(0, (samples, 17)).T
        sums.append(sum((plain - each).square().mean() / 2 for each in mixed) / (slopes.square().sum() / 12))
    return torch.stack(sums)


@pytest.mark.parametrize("design", ["scrambled", "lhs", "random"])
@pytest.mark.parametrize("samples", [8, 32])
def test_variances_through_the_cells_of_an_additive_function_sum_to_its_own(design: str, samples: int) -> None:
    sums = additive_sums(design, samples, 100)
    assert abs(float(sums.mean()) - 1) < 4 * float(sums.std()) / 10


def test_unscrambled_they_are_the_same_wrong_sum_for_all_seeds() -> None:
    few, more = additive_sums("unscrambled", 8, 2), additive_sums("unscrambled", 1024, 1)
    assert few[0] == few[1]
    assert abs(float(few[0]) - 1) > 0.1
    assert abs(float(more[0]) - 1) < 0.02


def test_unscrambled_points_are_scipys_and_begin_with_the_mask_that_hides_all() -> None:
    found = points(Draws(0), "unscrambled", 32, 128).numpy()
    np.testing.assert_array_equal(found, qmc.Sobol(128, scramble=False).random(32).astype(np.float32))
    assert found[0].max() == 0


@pytest.mark.parametrize("count", [8, 13])
def test_each_column_of_a_latin_hypercube_has_one_point_a_stratum(count: int) -> None:
    found = points(Draws(0), "lhs", count, 6)
    expected = torch.arange(count)[:, None].expand(count, 6)
    assert torch.equal((found * count).floor().long().sort(dim=0).values, expected)
    assert len({tuple(column) for column in (found * count).floor().T.tolist()}) == 6


@pytest.mark.parametrize("design", DESIGNS)
def test_points_lie_in_the_unit_cube_and_follow_the_seed(design: str) -> None:
    found = points(Draws(0), design, 64, 5)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(points(Draws(0), design, 64, 5), found)
    assert torch.equal(points(Draws(1), design, 64, 5), found) is (design == "unscrambled")


@pytest.mark.parametrize("perturbation", ["inpainting", "blur", "amplitude"])
def test_the_second_design_is_never_run(linear_engine: Engine, small_images: Tensor, perturbation: str) -> None:
    targets = torch.zeros(4, dtype=torch.int64)
    with linear_engine.meter() as cost:
        explain("sobol", linear_engine, small_images, targets, side=4, samples=8, perturbation=perturbation)
    assert cost.forwards == len(small_images) * 8 * (16 + 1)


def test_cells_are_uniform_fractions_of_the_image_whatever_the_estimator() -> None:
    image = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])
    weights = torch.tensor([1.0, 1.0, 2.0, -0.5])
    share = (weights * image.flatten()).square()
    for estimator in ESTIMATORS:
        maps = explain(
            "sobol", engine_of(lambda flat: flat @ weights), image, 1,
            side=2, samples=2048, estimator=estimator, upsampling="nearest",
        )  # fmt: skip
        torch.testing.assert_close(maps.flatten(), share / share.sum(), atol=5e-3, rtol=0)


def test_amplitude_adds_to_the_image_and_does_not_scale_it() -> None:
    weights = torch.tensor([1.0, 1.0, 2.0, -0.5])
    # Added noise moves a linear score by w, whatever the pixel holds; a black image would not move if it were scaled.
    maps = explain(
        "sobol", engine_of(lambda flat: flat @ weights), torch.zeros(1, 1, 2, 2), 1,
        side=2, samples=2048, perturbation="amplitude", sigma=0.5, upsampling="nearest",
    )  # fmt: skip
    torch.testing.assert_close(maps.flatten(), weights.square() / weights.square().sum(), atol=5e-3, rtol=0)


def test_sigma_is_the_range_of_the_amplitude() -> None:
    seen: list[Tensor] = []

    def remember(flat: Tensor) -> Tensor:
        seen.append(flat.clone())
        return flat[:, 0]

    image = torch.full((1, 1, 2, 2), 3.0)
    explain(
        "sobol", engine_of(remember), image, torch.tensor([1]), side=2, samples=256, perturbation="amplitude", sigma=0.5
    )
    values = torch.cat(seen)
    assert values.min() >= 2.75
    assert values.max() <= 3.25
    assert values.max() - values.min() > 0.49


def test_blur_is_the_space_with_that_baseline(engine: Engine, images: Tensor) -> None:
    options = {"side": 4, "samples": 4}
    found = explain("sobol", engine, images, 0, perturbation="blur", **options)
    assert torch.equal(found, explain("sobol", engine, images, 0, space=Pixels("blur"), **options))


def test_an_unknown_estimator_is_refused_with_what_there_is(engine: Engine, images: Tensor) -> None:
    with pytest.raises(Exception, match="option 'estimator': given 'saltelly'.*jansen"):
        explain("sobol", engine, images, 0, estimator="saltelly")


def test_an_unknown_preset_is_refused_with_what_there_is(engine: Engine, images: Tensor) -> None:
    with pytest.raises(UnknownName, match="did you mean 'xplique'"):
        explain("sobol", engine, images, 0, preset="xpliqe")


def test_many_cells_need_no_design_in_memory() -> None:
    side, samples = 32, 4
    first, second = points(Draws(0), "random", samples, 2 * side * side).chunk(2, dim=1)
    masks = replicated(first, second)
    assert masks.count == samples * (side * side + 1)
    index = torch.tensor([0, masks.count - 1])
    built = masks.build(torch.zeros_like(index), index)
    assert torch.equal(built[0], first[0])
    assert torch.equal(built[1, :-1], first[-1, :-1])
    assert built[1, -1] == second[-1, -1]
