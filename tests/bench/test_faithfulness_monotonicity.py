"""Monotonicity, by steps and by correlation: loops, closed forms and planted interactions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from bench.api import score
from bench.engine import Engine
from bench.metrics._replacement import reaction
from bench.metrics.faithfulness.monotonicity_correlation import monotonicity_correlation
from bench.spaces import Pixels

TARGETS = [3, 0, 1, 4]


class Interaction(nn.Module):
    """Logit 1 is 2ab - a of the first two pixels: the second must be there before the first helps."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = images.flatten(1)[:, 0], images.flatten(1)[:, 1]
        value = 2 * first * second - first
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(9))


@pytest.fixture
def interaction() -> Engine:
    return Engine(Interaction(), device="cpu", precision="fp32")


def credit(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 2, 2)


def cells_of(side: int | None) -> np.ndarray:
    place = np.arange(16) if side is None else np.arange(16) * side // 16
    return place[:, None] * (16 if side is None else side) + place


def steps(engine: Engine, image: Tensor, maps: Tensor, **options: object) -> tuple[float, float]:
    found = score("monotonicity", engine, image, maps, 1, null=np.zeros(1), side=2, **options)
    return float(found.values[0]), float(found.extra["share"][0])


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_the_order_that_an_interaction_needs_is_monotone_and_its_reverse_is_not(interaction: Engine, kind: str) -> None:
    image = torch.ones(1, 1, 2, 2)
    assert steps(interaction, image, credit(3, 2, 1, 0), score=kind) == (1, 1)
    assert steps(interaction, image, credit(2, 3, 1, 0), score=kind) == (0, 0.75)


def test_random_maps_sit_between_the_two_orders(interaction: Engine) -> None:
    images = 1 + 1e-3 * torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    found = score("monotonicity", interaction, images, maps, 1, side=2, null_draws=20)
    # Half of all orders bring the second pixel before the first.
    assert abs(found.value.mean - 0.5) < 0.2
    assert abs(found.null_value.mean - 0.5) < 0.06
    assert found.at_null


def test_an_additive_network_is_monotone_in_every_order_or_in_none() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)), device="cpu", precision="fp32")
    linear = engine.network.module[1]  # type: ignore[index]
    for weights, expected in (([1.0, 2.0, 3.0, 4.0], (1, 1)), ([1.0, -2.0, 3.0, 4.0], (0, 0.75))):
        with torch.no_grad():
            linear.weight.copy_(torch.tensor([[0.0] * 4, weights]))
        fresh = Engine(engine.network.module, device="cpu", precision="fp32")
        for order in (credit(1, -2, 3, 4), credit(4, 3, 2, 1)):
            assert steps(fresh, torch.ones(1, 1, 2, 2), order) == expected


def test_a_step_down_within_rounding_is_none() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)), device="cpu", precision="fp32")
    with torch.no_grad():
        engine.network.module[1].weight.copy_(torch.tensor([[0.0] * 4, [10.0, -1e-6, -1e-6, 1.0]]))  # type: ignore[index]
    assert steps(engine, torch.ones(1, 1, 2, 2), credit(0, 1, 2, 3), score="logit") == (1, 1)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("side", "group"), [(8, 1), (5, 2), (None, 32)])
def test_monotonicity_equals_its_loop(
    engine: Engine, images: Tensor, maps: Tensor, side: int | None, group: int, absolute: bool
) -> None:
    options = {"side": side, "group": group, "absolute": absolute}
    found = score("monotonicity", engine, images, maps, TARGETS, null=np.zeros(4), **options)
    cells = cells_of(side)
    count = int(cells.max()) + 1
    for index, target in enumerate(TARGETS):
        places = maps[index, 0].double().numpy()
        means = np.array([places[cells == cell].mean() for cell in range(count)])
        order = np.argsort(np.abs(means) if absolute else means)
        heights = []
        for start in range(0, count + group, group):
            shown = torch.from_numpy(np.isin(cells, order[:start]))
            with torch.no_grad():
                heights.append(engine.network.module((images[index] * shown)[None]).softmax(1)[0, target].item())
        rising = np.diff(heights) >= -1e-7
        assert found.values[index] == rising.all()
        # One step may lie within rounding of flat.
        assert found.extra["share"][index] == pytest.approx(rising.mean(), abs=1.01 / len(rising))
        assert found.curve_y is not None
        np.testing.assert_allclose(found.curve_y[index], heights, atol=1e-6)


def test_preset_quantus_adds_single_places_by_size_of_credit_to_the_smallest_number(
    engine: Engine, images: Tensor, maps: Tensor
) -> None:
    found = score("monotonicity", engine, images, maps, TARGETS, null=np.zeros(4), preset="quantus")
    assert found.curve_y is not None
    assert found.curve_y.shape == (4, 257)
    assert "256 places added to the baseline 'pixels (min)' 1 at a time" in found.convention
    assert "absolute credit" in found.convention


def test_the_reaction_of_a_linear_network_has_its_closed_form(linear_engine: Engine, small_images: Tensor) -> None:
    """E[(w . (x - u))^2] over uniform u in [0, 1] is (w . (x - 1/2))^2 + |w|^2 / 12, cell by cell."""
    weights = linear_engine.network.module.fc.weight[1].detach().reshape(3, 8, 8).double()  # type: ignore[union-attr, operator]
    found = reaction(
        linear_engine, small_images, torch.ones(4, dtype=torch.int64), space=Pixels(), draws=linear_engine.draws(0),
        side=3, samples=1500, score="logit", within=(0.0, 1.0),
    )  # fmt: skip
    place = torch.arange(8) * 3 // 8
    cells = place[:, None] * 3 + place
    for cell in range(9):
        inside = weights * (cells == cell)
        shift = (inside * (small_images - 0.5)).sum(dim=(1, 2, 3))
        expected = shift.square() + inside.square().sum() / 12
        np.testing.assert_allclose(found.square[:, cell], expected, rtol=0.2)


def test_replacements_stay_in_the_range_of_each_image_and_channel(engine: Engine) -> None:
    """A channel that is flat cannot be replaced by anything else, so a network that reads it alone does not react."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 0.7
    reader = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        reader[0].weight.zero_()[1, 1] = 1
    alone = Engine(reader, device="cpu", precision="fp32")
    found = score("monotonicity_correlation", alone, images, torch.rand(2, 1, 16, 16), 1, null=np.zeros(2), samples=2)
    assert found.extra["constant"].tolist() == [1, 1]


@pytest.mark.parametrize(("side", "within"), [(5, None), (4, (0.0, 1.0))])
def test_monotonicity_correlation_equals_its_loop(
    engine: Engine, images: Tensor, maps: Tensor, side: int, within: tuple[float, float] | None
) -> None:
    found = monotonicity_correlation(
        engine, images, torch.tensor(TARGETS), maps, space=Pixels(), draws=engine.draws(4), side=side, samples=3,
        within=within,
    )  # fmt: skip
    cells, streams = cells_of(side), engine.draws(4).for_images(images)
    for index, target in enumerate(TARGETS):
        image = images[index]
        low, high = (image.amin(dim=(1, 2)), image.amax(dim=(1, 2))) if within is None else map(torch.tensor, within)
        low, high = low.reshape(-1, 1, 1), high.reshape(-1, 1, 1)
        pictures = [low + (high - low) * streams[index].uniform(3, 16, 16) for _ in range(3)]
        credits, changes = [], []
        for cell in range(side * side):
            hidden = torch.from_numpy(cells == cell)
            held = torch.stack([image, *(torch.where(hidden, picture, image) for picture in pictures)])
            with torch.no_grad():
                scores = engine.network.module(held)[:, target].double()
            # The division by f(x)^2 of the paper, which moves no rank.
            square = float((scores[0] - scores[1:]).square().mean() / scores[0].square())
            credits.append(abs(float(maps[index, 0][hidden].double().mean())))
            changes.append(square / float(hidden.sum()))
        assert float(found.values[index]) == pytest.approx(spearmanr(credits, changes).statistic, abs=2e-3)


def test_credit_against_the_class_counts_by_its_size(linear_engine: Engine, small_images: Tensor) -> None:
    weights = linear_engine.network.module.fc.weight[1].detach().reshape(3, 8, 8)  # type: ignore[union-attr, operator]
    # What a cell of contributions adds on average, since replacements are symmetric around 0 here.
    maps = (small_images * weights).sum(dim=1, keepdim=True)
    options = {"side": 4, "within": (-0.1, 0.1), "samples": 8}
    by_size, by_sign = (
        score(
            "monotonicity_correlation", linear_engine, small_images, maps, 1, null=np.zeros(4), absolute=way, **options
        ).values.mean()
        for way in (True, False)
    )
    assert by_size > 0.9
    assert by_sign < 0.6


def test_a_score_of_zero_is_no_exception() -> None:
    engine = Engine(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), device="cpu", precision="fp32")
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    linear = engine.network.module[1]  # type: ignore[index]
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(16), torch.linspace(-1, 1, 16)]))
        linear.bias.copy_(torch.tensor([0.0, -float(linear.weight[1] @ image.flatten())]))
    assert abs(float(engine.scores(image)[0, 1])) < 1e-6
    maps = linear.weight[1].detach().abs().reshape(1, 1, 4, 4)
    found = score("monotonicity_correlation", engine, image, maps, 1, null=np.zeros(1), side=4)
    assert found.values[0] > 0.6


def test_preset_quantus_replaces_single_places_within_the_unit_interval(linear_engine: Engine) -> None:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = score("monotonicity_correlation", linear_engine, image, image[:, :1], 1, null=np.zeros(1), preset="quantus")
    assert "probability; Spearman with average ranks over 64 places of absolute credit" in found.convention
    assert "100 uniform replacements in [0, 1]" in found.convention
    assert found.cost.forwards >= 64 * 100
