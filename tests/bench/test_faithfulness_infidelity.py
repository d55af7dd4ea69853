"""Infidelity against closed forms, loops and captum on the same perturbations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor, nn

from bench.api import explain, score
from bench.engine import Engine
from bench.metrics.faithfulness import infidelity as module
from bench.metrics.faithfulness.infidelity import infidelity
from bench.spaces import Pixels

TARGETS = [3, 0, 1, 4]


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(9))


def noise_of(engine: Engine, images: Tensor, samples: int, sigma: float = 0.3) -> Tensor:
    """Return the noise (N, samples, 1, H, W) that the metric draws with `engine.draws(4)`."""
    size = images.shape[-1]
    streams = engine.draws(4).for_images(images)
    return torch.stack([torch.stack([sigma * own.normal(1, size, size) for _ in range(samples)]) for own in streams])


def measured(engine: Engine, images: Tensor, maps: Tensor, targets: list[int], **options: Any) -> Any:
    return infidelity(engine, images, torch.tensor(targets), maps, space=Pixels(), draws=engine.draws(4), **options)


def channel_sum_of_weights(engine: Engine, target: int) -> Tensor:
    """Return the gradient of a linear classifier of 8-pixel images, (1, 8, 8)."""
    linear = engine.network.module
    assert isinstance(linear.fc, nn.Linear)
    return linear.fc.weight[target].detach().reshape(3, 8, 8).sum(dim=0, keepdim=True)


def test_the_gradient_of_a_linear_network_has_no_infidelity(linear_engine: Engine, small_images: Tensor) -> None:
    gradient = channel_sum_of_weights(linear_engine, 1).expand(4, 1, 8, 8)
    np.testing.assert_allclose(measured(linear_engine, small_images, gradient, [1] * 4).values, 0, atol=1e-9)


def test_on_a_linear_network_it_is_the_variance_times_the_square_distance_to_the_gradient(
    linear_engine: Engine, small_images: Tensor
) -> None:
    maps = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    gap = maps - channel_sum_of_weights(linear_engine, 1)
    found = measured(linear_engine, small_images, maps, [1] * 4, samples=4000).values
    # The mean of 4,000 squares of Gaussians has a relative error of sqrt(2 / 4000) = .022.
    np.testing.assert_allclose(found, 0.3**2 * gap.square().flatten(1).sum(dim=1), rtol=0.09)
    noise = noise_of(linear_engine, small_images, 64)
    exact = (noise * gap[:, None]).flatten(2).double().sum(dim=2).square().mean(dim=1)
    np.testing.assert_allclose(measured(linear_engine, small_images, maps, [1] * 4).values, exact, rtol=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
def test_captum_says_the_same_of_the_same_noise(engine: Engine, images: Tensor, maps: Tensor, scaled: bool) -> None:
    samples = 12
    found = measured(engine, images, maps, TARGETS, samples=samples, scaled=scaled)
    noise = noise_of(engine, images, samples).flatten(0, 1).expand(-1, 3, 16, 16)
    expected = captum_infidelity(
        engine.network.module,
        lambda copies: (noise, copies - noise),
        images,
        # A place has one credit, which its three channels share.
        maps.expand(-1, 3, 16, 16) / 3,
        target=torch.tensor(TARGETS),
        n_perturb_samples=samples,
        normalize=scaled,
    )
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)


def test_preset_captum_draws_ten(engine: Engine, images: Tensor, maps: Tensor) -> None:
    found = score("infidelity", engine, images, maps, TARGETS, null=np.zeros(4), preset="captum")
    assert "10 draws" in found.convention


def test_noise_drawn_in_rounds_is_the_same_noise(
    engine: Engine, images: Tensor, maps: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measured(engine, images, maps, TARGETS, samples=7).values
    monkeypatch.setattr(module, "_NOISE_NUMBERS", 2 * maps.numel())
    np.testing.assert_allclose(measured(engine, images, maps, TARGETS, samples=7).values, whole, rtol=1e-5)


def test_the_best_factor_forgives_a_scale_and_nothing_else(engine: Engine, images: Tensor, maps: Tensor) -> None:
    plain, larger = (measured(engine, images, factor * maps, TARGETS) for factor in (1, -7))
    for name in ("scaled", "unexplained"):
        np.testing.assert_allclose(larger.extra[name], plain.extra[name], rtol=1e-6)
    np.testing.assert_allclose(-7 * larger.extra["beta"], plain.extra["beta"], rtol=1e-6)
    assert (plain.extra["scaled"] <= plain.values).all()
    assert (plain.extra["unexplained"] > 0).all()
    assert (plain.extra["unexplained"] <= 1).all()
    assert not np.allclose(larger.values, plain.values)


def test_a_gradient_explains_the_change_under_weak_noise_and_a_random_map_does_not(
    engine: Engine, images: Tensor, maps: Tensor
) -> None:
    gradient = engine.gradients(images, torch.tensor(TARGETS), space=Pixels()).sum(dim=1, keepdim=True)
    true, blind = (
        measured(engine, images, credit, TARGETS, sigma=0.003).extra["unexplained"] for credit in (gradient, maps)
    )
    assert (true < 0.05).all()
    assert (blind > 0.6).all()


def test_an_empty_map_leaves_the_whole_change_unexplained(engine: Engine, images: Tensor) -> None:
    found = measured(engine, images, torch.zeros(4, 1, 16, 16), TARGETS)
    np.testing.assert_allclose(found.values, found.extra["scaled"])
    np.testing.assert_allclose(found.extra["unexplained"], 1)
    assert (found.values > 0).all()
    assert found.extra["beta"].tolist() == [0, 0, 0, 0]


def test_where_the_score_never_changes_no_share_is_defined(linear_engine: Engine, small_images: Tensor) -> None:
    with torch.no_grad():
        for parameter in linear_engine.network.module.parameters():
            parameter.zero_()
    found = measured(linear_engine, small_images, torch.rand(4, 1, 8, 8), [1] * 4)
    assert found.values.isfinite().all()
    assert found.extra["unexplained"].isnan().all()


@pytest.mark.parametrize("side", [4, 3])
def test_patches_find_no_fault_in_the_contributions_of_a_linear_network(
    linear_engine: Engine, small_images: Tensor, side: int
) -> None:
    maps = explain("gradient_input", linear_engine, small_images, 1)
    options = {"perturbation": "patches", "side": side}
    np.testing.assert_allclose(measured(linear_engine, small_images, maps, [1] * 4, **options).values, 0, atol=1e-9)
    half = measured(linear_engine, small_images, maps / 2, [1] * 4, **options)
    assert (half.values > 1e-4).all()
    np.testing.assert_allclose(half.extra["beta"], 2, rtol=1e-4)


@pytest.mark.parametrize("perturbation", ["patches", "differences"])
def test_patches_equal_their_loop(engine: Engine, images: Tensor, maps: Tensor, perturbation: str) -> None:
    """With 'differences' and the smallest number as baseline this is Quantus' patch of 4 pixels, one at a time."""
    found = measured(engine, images, maps, TARGETS, perturbation=perturbation, side=4, baseline="min").values
    for index, target in enumerate(TARGETS):
        image, errors = images[index], []
        for row in range(0, 16, 4):
            for column in range(0, 16, 4):
                held = image.clone()
                held[:, row : row + 4, column : column + 4] = image.min()
                with torch.no_grad():
                    clean, altered = (engine.network.module(one[None])[0, target].item() for one in (image, held))
                weight = (image - held) if perturbation == "differences" else (image != held).any(0, keepdim=True)
                errors.append((float((weight * maps[index]).double().sum()) - (clean - altered)) ** 2)
        assert float(found[index]) == pytest.approx(np.mean(errors), rel=1e-4)


def test_preset_quantus_weighs_the_map_by_the_difference_to_the_smallest_number(maps: Tensor) -> None:
    images = torch.rand(2, 1, 56, 56, generator=torch.Generator().manual_seed(1))
    engine = Engine(nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(49, 2)), device="cpu", precision="fp32")
    found = score("infidelity", engine, images, torch.ones(2, 1, 56, 56), 1, null=np.zeros(2), preset="quantus")
    assert "3136 patches, each alone replaced by the baseline 'pixels (min)'" in found.convention
    assert found.cost.forwards >= 2 * 3137
