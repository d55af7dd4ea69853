"""Faithfulness metrics against closed forms, slow twins and scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import score
from bench.engine import Engine
from bench.spaces import Pixels

NO_NULL = np.zeros(1)


class Function(nn.Module):
    """Two logits, 0 and f(flattened image)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.flatten(1))
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.fixture
def additive() -> tuple[Engine, Tensor, Tensor]:
    """A linear function of a 3 x 4 image, the image, and each pixel's contribution."""
    weights = torch.randn(12, generator=torch.Generator().manual_seed(5))
    image = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(6))
    engine = Engine(Function(lambda flat: flat @ weights + 0.3), device="cpu", precision="fp32")
    return engine, image, image * weights.reshape(1, 1, 3, 4)


def area(
    metric: str, engine: Engine, image: Tensor, maps: Tensor, steps: int = 32, space: Pixels | None = None
) -> float:
    found = score(metric, engine, image, maps, 1, space=space, null=NO_NULL, steps=steps, score="logit")
    return float(found.values[0])


def test_deletion_of_an_additive_function_has_its_closed_form(additive: tuple[Engine, Tensor, Tensor]) -> None:
    engine, image, contributions = additive
    ordered = contributions.flatten().sort(descending=True).values.numpy()
    place = np.arange(1, 13)
    expected = 0.3 + (ordered * (place - 0.5)).sum() / 12
    assert area("deletion", engine, image, contributions) == pytest.approx(expected, abs=1e-5)


def test_insertion_of_an_additive_function_has_its_closed_form(additive: tuple[Engine, Tensor, Tensor]) -> None:
    engine, image, contributions = additive
    ordered = contributions.flatten().sort(descending=True).values.numpy()
    place = np.arange(1, 13)
    expected = 0.3 + (ordered * (12 - place + 0.5)).sum() / 12
    assert area("insertion", engine, image, contributions) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("steps", [3, 5, 12])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_deletion_and_insertion_of_an_additive_function_sum_to_both_ends(
    additive: tuple[Engine, Tensor, Tensor], steps: int, baseline: str
) -> None:
    engine, image, _ = additive
    space = Pixels(baseline=baseline)
    maps = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(7))
    both = sum(area(name, engine, image, maps, steps, space) for name in ("deletion", "insertion"))
    ends = engine.scores(image)[0, 1] + engine.scores(space.baseline(image))[0, 1]
    assert both == pytest.approx(float(ends), abs=1e-5)


def test_a_network_any_pixel_of_which_decides_has_the_extreme_curves() -> None:
    whole = Engine(Function(lambda flat: 200 * (flat.prod(1) - 0.5)), device="cpu", precision="fp32")
    image, maps = torch.ones(1, 1, 4, 8), torch.rand(1, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    found = {name: score(name, whole, image, maps, 1, null=NO_NULL).values[0] for name in ("deletion", "insertion")}
    # One pixel gone, or one missing: the trapezoid keeps half of the one step that holds the jump.
    assert found == pytest.approx({"deletion": 0.5 / 32, "insertion": 0.5 / 32}, abs=1e-6)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_a_curve_equals_its_loop(engine: Engine, images: Tensor, metric: str) -> None:
    maps = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(8))
    targets, steps = [3, 0, 1, 4], 10
    found = score(metric, engine, images, maps, targets, null=np.zeros(4), steps=steps)
    assert found.curve_x is not None
    assert found.curve_y is not None
    counts = [step * 256 // steps for step in range(steps + 1)]
    np.testing.assert_allclose(found.curve_x, np.array(counts) / 256, rtol=1e-6)
    for index, target in enumerate(targets):
        order = np.argsort(-maps[index].flatten().numpy(), kind="stable")
        heights = []
        for count in counts:
            flat = images[index].flatten(1)
            mixed = torch.zeros_like(flat) if metric == "insertion" else flat.clone()
            best = order[:count].copy()
            mixed[:, best] = flat[:, best] if metric == "insertion" else 0.0
            with torch.no_grad():
                heights.append(float(engine.network.module(mixed.reshape(1, 3, 16, 16)).softmax(1)[0, target]))
        np.testing.assert_allclose(found.curve_y[index], heights, atol=1e-6)
        assert found.values[index] == pytest.approx(np.trapezoid(heights, np.array(counts) / 256), abs=1e-6)


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_a_curve_starts_and_ends_at_image_and_baseline(engine: Engine, images: Tensor, metric: str) -> None:
    found = score(metric, engine, images, torch.rand(4, 1, 16, 16), 2, null=np.zeros(4))
    assert found.curve_y is not None
    ends = [engine.scores(end, "probability")[:, 2].numpy() for end in (images, torch.zeros_like(images))]
    first, last = ends if metric == "deletion" else reversed(ends)
    np.testing.assert_allclose(found.curve_y[:, 0], first, atol=1e-6)
    np.testing.assert_allclose(found.curve_y[:, -1], last, atol=1e-6)


def test_ties_do_not_fall_in_the_order_of_the_pixels() -> None:
    # The score is the mean of the top rows. Ties in raster order would delete them first.
    engine = Engine(Function(lambda flat: flat[:, :128].mean(1)), device="cpu", precision="fp32")
    image, flat_map = torch.ones(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    areas = [
        float(score("deletion", engine, image, flat_map, 1, null=NO_NULL, seed=seed, score="logit").values[0])
        for seed in range(20)
    ]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)
