"""Curves of removal and insertion: their area rules and presets by hand, their closed forms, and their null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import ScoreResult, score
from bench.engine import Engine
from bench.metrics.faithfulness._curves import Sweep, area
from bench.metrics.faithfulness._regions import grid, patches
from bench.registry import LimenError
from bench.spaces import Pixels


class Function(nn.Module):
    """Two logits, 0 and f(image)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images)
        return torch.stack([torch.zeros_like(value), value], dim=1)


def engine_of(function: Callable[[Tensor], Tensor]) -> Engine:
    return Engine(Function(function), device="cpu", precision="fp32")


def total(images: Tensor) -> Tensor:
    return images.flatten(1).sum(1)


def measured(name: str, engine: Engine, images: Tensor, maps: Tensor, **options: Any) -> ScoreResult:
    return score(name, engine, images, maps, 1, null=np.zeros(len(images)), **options)


@pytest.fixture
def line() -> tuple[Engine, Tensor, Tensor]:
    """The sum of the pixels 4, 3, 2, 1, and a map that ranks them in this order: scores 10, 6, 3, 1, 0."""
    image = torch.tensor([4.0, 3.0, 2.0, 1.0]).reshape(1, 1, 2, 2)
    return engine_of(total), image, image.clone()


LINE = {"steps": 4, "score": "logit"}


@pytest.mark.parametrize(
    ("rule", "deletion", "insertion"),
    [
        ("trapezoid", (5 + 6 + 3 + 1) / 4, (4 + 7 + 9 + 5) / 4),
        ("steps", (5 + 6 + 3 + 1) / 4, (4 + 7 + 9 + 5) / 4),
        ("counted", 3 + 3 + 1, 2 + 7 + 9 + 5),
        ("peak", (10 + 6 + 3 + 1) / (5 * 10), (4 + 7 + 9 + 10) / (5 * 10)),
    ],
)
def test_an_area_rule_gives_the_hand_computed_number(
    line: tuple[Engine, Tensor, Tensor], rule: str, deletion: float, insertion: float
) -> None:
    # Deletion: 10 6 3 1 0; insertion: 0 4 7 9 10.
    assert measured("deletion", *line, rule=rule, **LINE).values[0] == pytest.approx(deletion, abs=1e-5)
    found = measured("insertion", *line, rule=rule, **LINE).values[0]
    assert found == pytest.approx(insertion, abs=1e-5)


def test_steps_of_one_width_differ_from_the_trapezoid_where_the_last_step_is_short(
    line: tuple[Engine, Tensor, Tensor],
) -> None:
    # Three pixels, then one: 10 1 0 at 0, .75 and 1.
    options = {"step_pixels": 3, "score": "logit"}
    exact = measured("deletion", *line, **options)
    assert exact.curve_x is not None
    assert exact.curve_x.tolist() == [0, 0.75, 1]
    assert exact.values[0] == pytest.approx(5.5 * 0.75 + 0.5 * 0.25, abs=1e-5)
    assert measured("deletion", *line, rule="steps", **options).values[0] == pytest.approx((5.5 + 0.5) / 2, abs=1e-5)


def test_the_peak_rule_is_undefined_and_counted_where_no_score_is_positive() -> None:
    engine = engine_of(lambda images: -1 - images.flatten(1).sum(1))
    images = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = measured("deletion", engine, images, images, rule="peak", score="logit")
    assert np.isnan(found.values).all()
    assert found.extra["undefined"].tolist() == [1, 1]


def test_rise_takes_224_pixels_a_step_softmax_and_its_two_baselines() -> None:
    engine = engine_of(lambda images: images.flatten(1).mean(1))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    for name, baseline in (("deletion", "zero"), ("insertion", "blur")):
        found = measured(name, engine, images, maps, preset="rise")
        assert found.curve_x is not None
        assert found.curve_y is not None
        # ceil(1024 / 224) = 5 steps: 6 points.
        np.testing.assert_allclose(found.curve_x * 1024, [0, 224, 448, 672, 896, 1024], rtol=1e-6)
        end = engine.scores(Pixels(baseline).baseline(images), "probability")[:, 1]  # type: ignore[arg-type]
        place = -1 if name == "deletion" else 0
        np.testing.assert_allclose(found.curve_y[:, place], end, atol=1e-6)
        points = found.curve_y
        expected = (points.sum(1) - points[:, 0] / 2 - points[:, -1] / 2) / 5
        np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_rise_at_224_pixels_has_225_points_and_its_rule_is_the_trapezoid() -> None:
    sweep = Sweep(space=Pixels(), steps=32, width=224, score="probability", rule="steps")
    counts = sweep.counts(224 * 224)
    assert len(counts) == 225
    heights = torch.rand(3, 225, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        area(heights, torch.tensor(counts) / 224**2, "steps"),
        area(heights, torch.tensor(counts, dtype=torch.float64) / 224**2, "trapezoid"),
    )


def test_xplique_takes_ten_truncated_steps_of_one_width_on_logits() -> None:
    weights = torch.randn(25, generator=torch.Generator().manual_seed(3))
    engine = engine_of(lambda images: images.flatten(1) @ weights)
    image = torch.randn(1, 1, 5, 5, generator=torch.Generator().manual_seed(4))
    contributions = (image.flatten() * weights).double()
    ordered = contributions.sort(descending=True).values.numpy()
    counts = np.linspace(0, 25, 11).astype(int)
    heights = np.array([ordered[count:].sum() for count in counts])
    found = measured("deletion", engine, image, (image.flatten() * weights).reshape(1, 1, 5, 5), preset="xplique")
    assert found.curve_y is not None
    np.testing.assert_allclose(found.curve_y[0], heights, atol=1e-5)
    assert found.values[0] == pytest.approx(np.mean((heights[:-1] + heights[1:]) / 2), abs=1e-5)


def test_wam_takes_64_steps_and_divides_the_mean_of_the_points_by_the_largest() -> None:
    engine = engine_of(lambda images: 4 * images.flatten(1).mean(1) - 1)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    for name in ("deletion", "insertion"):
        found = measured(name, engine, image, maps, preset="wam")
        assert found.curve_y is not None
        points = found.curve_y[0]
        assert len(points) == 65
        assert found.values[0] == pytest.approx(points.sum() / (points.max() * 65), abs=1e-6)


def test_a_baseline_by_name_wins_over_the_spaces() -> None:
    engine, image = engine_of(total), torch.rand(1, 1, 4, 4)
    found = measured("deletion", engine, image, image, baseline="mean", score="logit", space=Pixels("max"))
    assert "pixels (mean)" in found.convention
    with pytest.raises(LimenError, match="did you mean 'mean'"):
        measured("deletion", engine, image, image, baseline="meen")


def test_the_difference_equals_insertion_less_deletion_at_the_cost_of_both_without_the_shared_ends(
    engine: Engine, images: Tensor
) -> None:
    maps = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    both = score("insertion_deletion", engine, images, maps, 2, null=np.zeros(4), steps=10)
    single = {
        name: score(name, engine, images, maps, 2, null=np.zeros(4), steps=10).values
        for name in ("insertion", "deletion")
    }
    # Ties are broken by draws of the metric's own name, and here there are none.
    np.testing.assert_allclose(both.values, single["insertion"] - single["deletion"], atol=1e-6)
    for name, values in single.items():
        np.testing.assert_allclose(both.extra[name], values, atol=1e-6)
    assert both.cost.forwards == 4 * 2 * 10


@pytest.mark.parametrize("steps", [5, 12])
def test_the_difference_of_an_additive_function_has_its_closed_form(steps: int) -> None:
    weights = torch.randn(12, generator=torch.Generator().manual_seed(5))
    image = torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(6))
    engine = engine_of(lambda images: images.flatten(1) @ weights + 0.3)
    contributions = image.flatten() * weights
    found = measured("insertion_deletion", engine, image, contributions.reshape(1, 1, 3, 4), score="logit", steps=steps)
    assert found.extra["insertion"] + found.extra["deletion"] == pytest.approx(0.3 + 0.3 + float(contributions.sum()))
    if steps == 12:
        place = np.arange(1, 13)
        ordered = contributions.sort(descending=True).values.numpy()
        assert found.values[0] == pytest.approx((ordered * (13 - 2 * place)).sum() / 12, abs=1e-5)


@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_random_orders_insert_as_much_as_they_delete_on_a_network_that_is_not_additive(baseline: str) -> None:
    def uneven(images: Tensor) -> Tensor:
        return 6 * images[:, :, :4].amax(dim=(1, 2, 3)) * images[:, :, 4:].mean(dim=(1, 2, 3)) - 2

    engine = engine_of(uneven)
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)).expand(200, -1, -1, -1)
    maps = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = measured("insertion_deletion", engine, image, maps, steps=16, baseline=baseline)
    error = found.values.std(ddof=1) / np.sqrt(200)
    assert error > 0
    assert abs(found.values.mean()) < 4 * error
    # The level of each curve is far from one half: it is the difference that has a floor of its own.
    assert abs(found.extra["deletion"].mean() - 0.5) > 10 * error


def test_a_network_that_any_pixel_decides_has_the_curves_zero_and_one() -> None:
    image = torch.ones(1, 1, 8, 8)
    maps = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    needs_all = engine_of(lambda images: 400 * (images.flatten(1).prod(1) - 0.5))
    needs_one = engine_of(lambda images: 400 * (images.flatten(1).amax(1) - 0.5))
    half = 0.5 / 64
    for needed, expected in ((needs_all, half), (needs_one, 1 - half)):
        for name in ("deletion", "insertion"):
            assert measured(name, needed, image, maps, steps=64).values[0] == pytest.approx(expected, abs=1e-6)


def test_pixel_flipping_of_single_values_equals_its_loop(engine: Engine, images: Tensor) -> None:
    maps = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(8))
    found = score("pixel_flipping", engine, images, maps, 3, null=np.zeros(4), steps=6)
    assert found.curve_y is not None
    # Counts of whole pixels: 768 values in 6 steps of 128 end within pixels, 3 values a pixel.
    counts = [0, 128, 256, 384, 512, 640, 768]
    order = maps[0].flatten().argsort(descending=True)
    for place, count in enumerate(counts):
        low, high = (images[0].flatten(1).clone() for _ in range(2))
        low[:, order[: count // 3]] = 0
        high[:, order[: -(-count // 3)]] = 0
        with torch.no_grad():
            ends = [float(engine.network.module(end.reshape(1, 3, 16, 16)).softmax(1)[0, 3]) for end in (low, high)]
        assert min(ends) - 2e-3 <= found.curve_y[0, place] <= max(ends) + 2e-3


def test_pixel_flipping_of_whole_pixels_is_deletion(engine: Engine, images: Tensor) -> None:
    maps = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(8))
    flipped = score("pixel_flipping", engine, images, maps, 3, null=np.zeros(4), unit="pixel", steps=9)
    deleted = score("deletion", engine, images, maps, 3, null=np.zeros(4), steps=9)
    np.testing.assert_allclose(flipped.values, deleted.values, atol=1e-7)


def test_quantus_flips_one_value_a_step_to_the_images_minimum_and_does_not_normalise() -> None:
    engine = engine_of(lambda images: images.flatten(1) @ torch.tensor([1.0, 2.0, 3.0, 4.0]))
    # One channel, so that the order is known: 0.4 first.
    image = torch.tensor([0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 2, 2)
    found = measured("pixel_flipping", engine, image, image, preset="quantus")
    logits = np.array([3.0, 1.8, 1.2, 1.0, 1.0])
    points = 1 / (1 + np.exp(-logits))
    assert found.curve_y is not None
    np.testing.assert_allclose(found.curve_y[0], points, atol=1e-6)
    assert found.values[0] == pytest.approx(np.trapezoid(points[1:]), abs=1e-6)


def test_patches_are_numbered_row_by_row_and_the_last_are_smaller() -> None:
    labels, count = patches(torch.zeros(1, 1, 3, 5), 2)
    assert count == 6
    assert labels.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]


def test_patches_and_grids_take_any_number_of_axes() -> None:
    labels, count = patches(torch.zeros(1, 1, 5), 2)
    assert (labels.tolist(), count) == ([0, 0, 1, 1, 2], 3)
    labels, count = grid(torch.zeros(1, 1, 2, 4, 2), (1, 2, 2))
    assert count == 4
    assert labels[1].tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


@pytest.fixture
def quarters() -> tuple[Engine, Tensor, Tensor]:
    """The sum over a 4 x 4 image whose 2 x 2 patches add 4, 8, 12 and 16; the map is the image."""
    image = torch.ones(1, 1, 4, 4)
    image[..., :2, 2:], image[..., 2:, :2], image[..., 2:, 2:] = 2, 3, 4
    return engine_of(total), image, image.clone()


def test_region_perturbation_is_the_mean_drop_from_0_to_l_patches(quarters: tuple[Engine, Tensor, Tensor]) -> None:
    # Scores 40, 24, 12, 4, 0: drops 0, 16, 28, 36, 40.
    found = measured("region_perturbation", *quarters, patch=2, score="logit")
    assert found.values[0] == pytest.approx((0 + 16 + 28 + 36 + 40) / 5, abs=1e-4)
    assert found.curve_x is not None
    assert found.curve_x.tolist() == [0, 0.25, 0.5, 0.75, 1]
    first = measured("region_perturbation", *quarters, patch=2, steps=2, score="logit")
    assert first.values[0] == pytest.approx((0 + 16 + 28) / 3, abs=1e-4)


def test_selectivity_is_the_area_until_no_patch_is_left(quarters: tuple[Engine, Tensor, Tensor]) -> None:
    found = measured("selectivity", *quarters, patch=2, score="logit")
    assert found.values[0] == pytest.approx((20 + 24 + 12 + 4 + 0) / 4, abs=1e-4)
    quantus = measured("selectivity", *quarters, preset="quantus", patch=2, score="logit")
    # Black is the smallest value, 1: scores 40, 28, 20, 16, 16, the first left out.
    assert quantus.values[0] == pytest.approx(14 + 20 + 16 + 8, abs=1e-4)


def test_small_patches_at_the_edge_are_ranked_by_mean_credit() -> None:
    image = torch.ones(1, 1, 3, 3)
    maps = torch.ones(1, 1, 3, 3)
    maps[..., 2, 2] = 2
    found = measured("region_perturbation", engine_of(total), image, maps, patch=2, steps=1, score="logit")
    # The corner, one pixel of credit 2, goes before the four pixels of credit 1.
    assert found.values[0] == pytest.approx((0 + 1) / 2, abs=1e-5)


def test_patches_of_equal_credit_go_in_an_order_drawn_for_the_image() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    drops = {
        float(
            measured(
                "region_perturbation", engine_of(total), image, torch.zeros(1, 1, 4, 4), patch=2, steps=1,
                score="logit", seed=seed,
            ).values[0]
        )
        for seed in range(30)
    }  # fmt: skip
    assert len(drops) == 4


def test_average_drop_increase_and_gain_by_hand() -> None:
    engine = engine_of(lambda images: images.flatten(1).sum(1))
    images = torch.tensor([[2.0, 1.0, -1.0, 0.0], [2.0, 1.0, -1.0, 0.0]]).reshape(2, 1, 2, 2)
    # Scaled, the first map keeps 0, 1, .5, 0 of the image; the second 1, .5, 0, 0.
    maps = torch.tensor([[-1.0, 3.0, 1.0, -1.0], [4.0, 2.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)
    found = measured("average_drop", engine, images, maps)
    before, after = (1 / (1 + np.exp(-np.array(logits))) for logits in ([2.0, 2.0], [0.5, 2.5]))
    np.testing.assert_allclose(found.values, np.maximum(before - after, 0) / before, atol=1e-6)
    assert found.extra["increase"].tolist() == [0, 1]
    np.testing.assert_allclose(found.extra["gain"], [0, (after[1] - before[1]) / (1 - before[1])], atol=1e-5)


def test_average_drop_of_a_map_without_contrast_is_undefined_and_counted(engine: Engine, images: Tensor) -> None:
    found = measured("average_drop", engine, images, torch.ones(4, 1, 16, 16))
    assert np.isnan(found.values).all()
    assert found.extra["undefined"].tolist() == [1, 1, 1, 1]


def test_average_drop_tells_a_map_from_its_inverse_unless_asked_for_absolute_values(
    engine: Engine, images: Tensor
) -> None:
    maps = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    for weighting, same in (("signed", False), ("positive", False), ("absolute", True)):
        left, right = (measured("average_drop", engine, images, sign * maps, weighting=weighting) for sign in (1, -1))
        # Drops below 0 are cut to 0 in both, so compare what is not.
        assert np.allclose(left.extra["gain"] - left.values, right.extra["gain"] - right.values, atol=1e-7) == same
    preset = measured("average_drop", engine, images, maps, preset="grad_cam_pp")
    rectified = measured("average_drop", engine, images, maps.clamp(min=0))
    np.testing.assert_allclose(preset.values, rectified.values, atol=1e-7)
