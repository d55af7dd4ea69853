"""Attributions of functions whose exact answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain
from bench.attributions.integrated_gradients import quadrature
from bench.engine import Engine
from bench.registry import LimenError
from bench.spaces import Pixels


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


def weights_of(linear_engine: Engine, target: int, images: Tensor) -> Tensor:
    """The (1, C, H, W) weights that the linear network gives a class."""
    return linear_engine.network.module.fc.weight[target].reshape(1, *images.shape[1:])


def test_saliency_of_a_linear_network_is_the_largest_absolute_weight(
    linear_engine: Engine, small_images: Tensor
) -> None:
    maps = explain("saliency", linear_engine, small_images, 2)
    expected = weights_of(linear_engine, 2, small_images).abs().amax(1, keepdim=True)
    torch.testing.assert_close(maps, expected.expand_as(maps))


@pytest.mark.parametrize("rule", ["gauss_legendre", "trapezoid", "right", "equal"])
def test_integrated_gradients_of_a_linear_network_is_weight_times_difference(
    linear_engine: Engine, small_images: Tensor, rule: str
) -> None:
    space = Pixels(baseline="mean")
    maps = explain("integrated_gradients", linear_engine, small_images, 1, space=space, steps=4, rule=rule)
    expected = weights_of(linear_engine, 1, small_images) * (small_images - space.baseline(small_images))
    torch.testing.assert_close(maps, expected.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_gradient_input_of_a_linear_network_is_weight_times_input(linear_engine: Engine, small_images: Tensor) -> None:
    maps = explain("gradient_input", linear_engine, small_images, 1)
    expected = (weights_of(linear_engine, 1, small_images) * small_images).sum(1, keepdim=True)
    torch.testing.assert_close(maps, expected)


def test_occlusion_pixel_by_pixel_of_a_linear_network_is_weight_times_difference(
    linear_engine: Engine, small_images: Tensor
) -> None:
    space = Pixels(baseline="mean")
    maps = explain("occlusion", linear_engine, small_images, 0, space=space, patch=1, stride=1)
    expected = weights_of(linear_engine, 0, small_images) * (small_images - space.baseline(small_images))
    torch.testing.assert_close(maps, expected.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("size", "patch", "stride"), [(10, 4, 3), (10, 4, 4), (7, 3, 2), (5, 9, 4), (6, 6, 1)])
def test_occlusion_covers_every_pixel_up_to_the_border(size: int, patch: int, stride: int) -> None:
    engine = engine_of(lambda flat: flat.sum(1))
    maps = explain("occlusion", engine, torch.ones(1, 1, size, size), 1, patch=patch, stride=stride)
    # Each window drops the score by its area, so the mean over any set of windows is that area.
    assert torch.allclose(maps, torch.full_like(maps, min(patch, size) ** 2))


def test_occlusion_sums_windows_when_asked() -> None:
    engine = engine_of(lambda flat: flat.sum(1))
    maps = explain("occlusion", engine, torch.ones(1, 1, 4, 4), 1, patch=2, stride=1, reduce_windows="sum")
    covered = torch.tensor([1.0, 2.0, 2.0, 1.0])
    assert torch.equal(maps[0, 0], 4 * torch.outer(covered, covered))


def test_occlusion_refuses_a_stride_that_leaves_gaps(linear_engine: Engine, small_images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"option 'stride': given 3, allowed is at most the patch of 2"):
        explain("occlusion", linear_engine, small_images, 0, patch=2, stride=3)


def test_integrated_gradients_of_a_product_splits_it_in_halves() -> None:
    engine = engine_of(lambda flat: flat[:, 0] * flat[:, 1])
    maps = explain("integrated_gradients", engine, torch.tensor([[[[2.0, 3.0]]]]), 1, steps=2)
    assert maps.flatten().tolist() == pytest.approx([3.0, 3.0], abs=1e-6)


def test_gradients_of_a_quadratic_have_their_closed_forms() -> None:
    engine = engine_of(lambda flat: flat.square().sum(1))
    image = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])
    torch.testing.assert_close(explain("saliency", engine, image, 1), 2 * image.abs())
    torch.testing.assert_close(explain("gradient_input", engine, image, 1), 2 * image.square())
    torch.testing.assert_close(explain("integrated_gradients", engine, image, 1, steps=3), image.square())


@pytest.mark.parametrize("rule", ["gauss_legendre", "trapezoid", "right", "equal"])
@pytest.mark.parametrize("steps", [2, 5, 50])
def test_quadrature_weights_sum_to_one_on_the_unit_interval(rule: str, steps: int) -> None:
    nodes, weights = quadrature(rule, steps)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert nodes.min() >= 0
    assert nodes.max() <= 1
    assert (weights > 0).all()


@pytest.mark.parametrize(("rule", "degree"), [("gauss_legendre", 9), ("trapezoid", 1)])
def test_quadrature_integrates_polynomials_up_to_its_degree(rule: str, degree: int) -> None:
    nodes, weights = quadrature(rule, 5)
    assert (weights * nodes**degree).sum() == pytest.approx(1 / (degree + 1), abs=1e-12)
    assert (weights * nodes ** (degree + 1)).sum() != pytest.approx(1 / (degree + 2), abs=1e-6)


def test_trapezoid_needs_two_points(linear_engine: Engine, small_images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"option 'steps': given 1, the trapezoid rule needs at least 2"):
        explain("integrated_gradients", linear_engine, small_images, 0, steps=1, rule="trapezoid")


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_integrated_gradients_is_complete(engine: Engine, images: Tensor, baseline: str) -> None:
    space = Pixels(baseline=baseline)
    maps = explain("integrated_gradients", engine, images, 3, space=space, steps=200)
    difference = engine.scores(images)[:, 3] - engine.scores(space.baseline(images))[:, 3]
    torch.testing.assert_close(maps.sum(dim=(1, 2, 3)), difference, atol=2e-3, rtol=0.01)


def test_grad_cam_of_a_pooled_linear_head_is_the_weighted_activation(engine: Engine, images: Tensor) -> None:
    maps = explain("grad_cam", engine, images, 4)
    activations = engine.tap(images, "stage")
    # The head is a mean over places and a linear layer, so each channel's gradient is w_k / (h w) everywhere.
    weights = engine.network.module.fc.weight[4] / activations[0, 0].numel()
    cam = torch.einsum("k,nkhw->nhw", weights, activations).relu().unsqueeze(1)
    expected = nn.functional.interpolate(cam, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, expected)
    assert (maps > 0).any()


def test_grad_cam_keeps_negative_evidence_without_relu(engine: Engine, images: Tensor) -> None:
    signed = explain("grad_cam", engine, images, 4, relu=False)
    assert (signed < 0).any()


def test_grad_cam_refuses_a_layer_without_places(engine: Engine, images: Tensor) -> None:
    with pytest.raises(LimenError, match=r"layer 'fc': given activations of shape \(5,\)"):
        explain("grad_cam", engine, images, 0, layer="fc")


def kernel(length: int, side: int, offset: int) -> np.ndarray:
    """(side, length): the weight of each coarse cell at each place of a RISE mask, from the formula of the method."""
    cell = -(-length // side)
    centres = (np.arange(offset, offset + length) + 0.5) * side / ((side + 1) * cell) - 0.5
    left = np.clip(np.floor(np.clip(centres, 0, None)), 0, side - 1).astype(int)
    right = np.minimum(left + 1, side - 1)
    share = np.clip(centres, 0, None) - left
    weights = np.zeros((side, length))
    np.add.at(weights, (left, np.arange(length)), 1 - share)
    np.add.at(weights, (right, np.arange(length)), share)
    return weights


def test_rise_of_a_linear_network_approaches_its_expectation() -> None:
    size, side, p, bias = 6, 3, 0.4, 0.7
    weights = torch.randn(size * size, generator=torch.Generator().manual_seed(3))
    engine = engine_of(lambda flat: flat @ weights + bias)
    image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(4))
    cell = -(-size // side)
    overlap = np.mean([kernel(size, side, o).T @ kernel(size, side, o) for o in range(cell)], axis=0)
    # E[m_i m_j] = p^2 + p (1 - p) sum_cells k_i k_j, with rows and columns drawn independently; E[m_i] = p.
    joint = p**2 + p * (1 - p) * np.kron(overlap, overlap)
    expected = joint @ (weights * image.flatten()).numpy() / p + bias
    found = explain("rise", engine, image, 1, masks=60_000, side=side, p=p, score="logit").flatten().numpy()
    assert np.abs(found - expected).max() < 0.05
    assert np.corrcoef(found, expected)[0, 1] > 0.999


def test_rise_of_a_constant_score_is_that_score() -> None:
    engine = engine_of(lambda flat: flat[:, 0] * 0 + 2.5)
    maps = explain("rise", engine, torch.rand(2, 1, 9, 9), 1, masks=200, score="logit")
    torch.testing.assert_close(maps, torch.full_like(maps, 2.5))


def sobol_cells(function: Callable[[Tensor], Tensor], image: Tensor, samples: int = 4096) -> list[float]:
    """Indices of the four pixels of a 2 x 2 image."""
    maps = explain("sobol", engine_of(function), image, 1, side=2, samples=samples, upsampling="nearest")
    return maps.flatten().tolist()


def test_sobol_of_a_linear_function_is_the_share_of_variance() -> None:
    image = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])
    weights = torch.tensor([1.0, 1.0, 2.0, -0.5])
    share = (weights * image.flatten()).square()
    expected = (share / share.sum()).tolist()
    assert sobol_cells(lambda flat: flat @ weights, image) == pytest.approx(expected, abs=3e-3)


def test_sobol_does_not_change_under_an_affine_map_of_the_score() -> None:
    image = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]])
    plain = sobol_cells(lambda flat: flat.square().sum(1), image, 64)
    moved = sobol_cells(lambda flat: 10 - 3 * flat.square().sum(1), image, 64)
    assert moved == pytest.approx(plain, abs=1e-4)


def test_sobol_of_a_product_is_four_sevenths_each() -> None:
    found = sobol_cells(lambda flat: flat[:, 0] * flat[:, 1], torch.ones(1, 1, 2, 2))
    assert found == pytest.approx([4 / 7, 4 / 7, 0, 0], abs=3e-3)


def test_sobol_of_the_ishigami_function_is_the_published_value() -> None:
    def ishigami(flat: Tensor) -> Tensor:
        first, second, third = (torch.pi * (2 * flat[:, place] - 1) for place in range(3))
        return first.sin() + 7 * second.sin() ** 2 + 0.1 * third**4 * first.sin()

    found = sobol_cells(ishigami, torch.ones(1, 1, 2, 2), 2**13)
    assert found == pytest.approx([0.5576, 0.4424, 0.2437, 0], abs=5e-3)


def test_sobol_of_a_constant_score_is_zero() -> None:
    assert sobol_cells(lambda flat: flat[:, 0] * 0 + 1, torch.ones(1, 1, 2, 2), 8) == [0, 0, 0, 0]


def test_sobol_runs_the_second_design_only_through_its_columns(linear_engine: Engine, small_images: Tensor) -> None:
    with linear_engine.meter() as cost:
        explain("sobol", linear_engine, small_images, 0, side=4, samples=8)
    explained = len(small_images) * 8 * (16 + 1)
    assert cost.forwards - explained <= len(small_images)  # f(x) itself, for the number of classes


def test_random_is_uniform_and_keyed_by_the_image(engine: Engine, images: Tensor) -> None:
    maps = explain("random", engine, images, seed=5)
    assert torch.equal(explain("random", engine, images[2:3], seed=5), maps[2:3])
    assert not torch.equal(maps[0], maps[1])
    assert maps.min() >= 0
    assert maps.max() < 1
    assert abs(float(maps.mean()) - 0.5) < 0.03


def test_image_gradient_finds_the_edge_and_nothing_on_a_flat_image(engine: Engine) -> None:
    flat, edge = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 1
    assert explain("image_gradient", engine, flat, 0).abs().max() == 0
    profile = explain("image_gradient", engine, edge, 0, scales=1)[0, 0].mean(0)
    assert set(profile.topk(2).indices.tolist()) == {7, 8}


def test_image_gradient_is_blind_to_the_network_and_the_class(
    engine: Engine, linear_network: object, images: Tensor
) -> None:
    other = Engine(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)), device="cpu", precision="fp32")
    assert torch.equal(explain("image_gradient", engine, images, 0), explain("image_gradient", other, images, 1))
