"""Metrics that correlate credit with drops, against closed forms, numpy and scipy; and what a random map must not get."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn

from bench.api import explain, score
from bench.engine import Engine, Network
from bench.metrics._correlation import average_ranks, grain, pearson, spearman
from bench.metrics._removal import removal
from bench.metrics.faithfulness.faithfulness_correlation import faithfulness_correlation
from bench.metrics.faithfulness.mu_fidelity import mu_fidelity
from bench.registry import LimenError
from bench.spaces import Pixels

TARGETS = [3, 0, 1, 4]
FAMILY = ("mu_fidelity", "faithfulness_correlation", "faithfulness_estimate", "single_deletion")


class Weights(nn.Module):
    """Logits 0 and the sum of the image's numbers under weights (C, H, W)."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, images: Tensor) -> Tensor:
        value = (images * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(value), value], dim=1)


def positive(size: int) -> tuple[Engine, Tensor]:
    """Return a network that sums its image, and 24 images: the contributions are uniform in [0, 1)."""
    images = torch.rand(24, 1, size, size, generator=torch.Generator().manual_seed(3))
    return Engine(Weights(torch.ones(1, size, size)), device="cpu", precision="fp32", batch_size=256), images


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(9))


def cells_of(side: int | None) -> np.ndarray:
    """Return the cell of each pixel of a 16-pixel image."""
    place = np.arange(16) if side is None else np.arange(16) * side // 16
    return place[:, None] * (16 if side is None else side) + place


def answer(engine: Engine, image: Tensor, target: int) -> float:
    with torch.no_grad():
        return float(engine.network.module(image[None])[0, target])


def per_place(
    engine: Engine, image: Tensor, target: int, places: np.ndarray, hidden: np.ndarray, low: float = 0.0
) -> tuple[float, float]:
    """Return the mean credit of hidden places, and the drop of the logit without them over their number."""
    held = torch.where(torch.from_numpy(hidden), torch.tensor(low), image)
    drop = answer(engine, image, target) - answer(engine, held, target)
    return float(places[hidden].mean()), drop / hidden.sum()


def correlations(
    engine: Engine,
    images: Tensor,
    maps: Tensor,
    hidden: Callable[[int], Iterator[np.ndarray]],
    rule: Callable[..., float],
    lowest: bool = False,
) -> list[float]:
    """Correlate, image by image and set by set, as the definitions say it."""
    found = []
    for index, target in enumerate(TARGETS):
        low = float(images[index].min()) if lowest else 0.0
        places = maps[index, 0].double().numpy()
        pairs = [per_place(engine, images[index], target, places, chosen, low) for chosen in hidden(index)]
        found.append(rule(*zip(*pairs, strict=True)))
    return found


def rank_rule(left: object, right: object) -> float:
    return float(spearmanr(left, right).statistic)


def value_rule(left: object, right: object) -> float:
    return float(pearsonr(left, right).statistic)


@pytest.mark.parametrize("metric", FAMILY)
@pytest.mark.parametrize("side", [8, 5, 4])
def test_the_contributions_of_a_linear_network_score_one_and_inverted_minus_one(
    linear_engine: Engine, small_images: Tensor, metric: str, side: int
) -> None:
    maps = explain("gradient_input", linear_engine, small_images, 1)
    true, inverted = (
        score(metric, linear_engine, small_images, credit, 1, null=np.zeros(4), side=side) for credit in (maps, -maps)
    )
    np.testing.assert_allclose(true.values, 1, atol=1e-3)
    np.testing.assert_allclose(inverted.values, -1, atol=1e-3)


@pytest.mark.parametrize("metric", FAMILY)
def test_a_map_that_says_nothing_scores_zero_and_is_counted(engine: Engine, images: Tensor, metric: str) -> None:
    found = score(metric, engine, images, torch.full((4, 1, 16, 16), 2.0), null=np.zeros(4))
    assert found.values.tolist() == [0, 0, 0, 0]
    assert found.extra["constant"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("metric", FAMILY)
def test_a_network_that_does_not_react_scores_zero_and_is_counted(maps: Tensor, metric: str) -> None:
    blind = Engine(Weights(torch.zeros(3, 16, 16)), device="cpu", precision="fp32")
    found = score(metric, blind, torch.rand(4, 3, 16, 16), maps, 1, null=np.zeros(4))
    assert found.values.tolist() == [0, 0, 0, 0]
    assert found.extra["constant"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("metric", FAMILY)
def test_a_level_common_to_all_places_earns_nothing_where_cells_differ_in_size(
    engine: Engine, images: Tensor, maps: Tensor, metric: str
) -> None:
    plain, raised = (
        score(metric, engine, images, credit, TARGETS, null=np.zeros(4), side=9) for credit in (maps, maps + 50)
    )
    np.testing.assert_allclose(raised.values, plain.values, atol=0.02)


def test_mu_fidelity_equals_its_loop(engine: Engine, images: Tensor, maps: Tensor) -> None:
    found = mu_fidelity(
        engine, images, torch.tensor(TARGETS), maps, space=Pixels(), draws=engine.draws(4), side=5, subsets=60
    ).values
    chosen, cells = engine.draws(4).subsets(60, 25, 5).numpy(), cells_of(5)
    expected = correlations(engine, images, maps, lambda index: (subset[cells] for subset in chosen), rank_rule)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("side", [None, 5])
def test_faithfulness_correlation_equals_its_loop(
    engine: Engine, images: Tensor, maps: Tensor, side: int | None
) -> None:
    options = {"side": side, "size": 7, "subsets": 40}
    found = faithfulness_correlation(
        engine, images, torch.tensor(TARGETS), maps, space=Pixels(), draws=engine.draws(4), **options
    ).values
    cells = cells_of(side)
    chosen = engine.draws(4).subsets(40, int(cells.max()) + 1, 7).numpy()
    expected = correlations(engine, images, maps, lambda index: (subset[cells] for subset in chosen), value_rule)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("side", "group"), [(8, 1), (5, 1), (8, 3), (5, 2), (None, 32)])
def test_faithfulness_estimate_equals_its_loop(
    engine: Engine, images: Tensor, maps: Tensor, side: int | None, group: int
) -> None:
    # With a level, the order by sums would be the order by area.
    maps, options = maps + 3, {"side": side, "group": group}
    found = score("faithfulness_estimate", engine, images, maps, TARGETS, null=np.zeros(4), **options)
    cells = cells_of(side)
    count = int(cells.max()) + 1

    def groups(index: int) -> Iterator[np.ndarray]:
        places = maps[index, 0].double().numpy()
        order = np.argsort([-places[cells == cell].mean() for cell in range(count)])
        for start in range(0, count, group):
            yield np.isin(cells, order[start : start + group])

    np.testing.assert_allclose(found.values, correlations(engine, images, maps, groups, value_rule), atol=1e-4)


@pytest.mark.parametrize("side", [4, 5])
def test_single_deletion_equals_its_loop(engine: Engine, images: Tensor, maps: Tensor, side: int) -> None:
    found = score("single_deletion", engine, images, maps, TARGETS, null=np.zeros(4), side=side)
    cells = cells_of(side)
    expected = correlations(
        engine, images, maps, lambda index: (cells == cell for cell in range(side * side)), rank_rule
    )
    np.testing.assert_allclose(found.values, expected, atol=2e-3)


def test_single_deletion_costs_one_forward_a_cell_and_two(engine: Engine, images: Tensor, maps: Tensor) -> None:
    """One of the untouched copy, one of the image whose maps the windows of cells are read from."""
    found = score("single_deletion", engine, images, maps, TARGETS, null=np.zeros(4))
    assert found.cost.forwards == 4 * 18


@pytest.mark.parametrize(
    ("name", "told"),
    [("tiny@digits_deletion", "' is trained on deletions"), ("tiny@digits", "is not known to be trained on deletions")],
)
def test_single_deletion_says_whether_the_network_knows_deletions(
    conv_network: Network, images: Tensor, maps: Tensor, name: str, told: str
) -> None:
    network = Network(name=name, module=conv_network.module)
    found = score("single_deletion", Engine(network, device="cpu"), images, maps, TARGETS, null=np.zeros(4))
    assert told in found.convention


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        *((name, {}) for name in FAMILY),
        ("faithfulness_correlation", {"side": 8}),
        ("infidelity", {"samples": 4}),
        ("infidelity", {"perturbation": "patches"}),
        ("monotonicity_correlation", {"samples": 2}),
        ("completeness", {}),
        ("sensitivity_n", {"sizes": 3, "subsets": 9}),
        ("non_sensitivity", {"samples": 2}),
    ],
)
def test_another_map_of_the_same_images_costs_no_forward(
    engine: Engine, images: Tensor, maps: Tensor, metric: str, options: dict[str, object]
) -> None:
    first, second = (
        score(metric, engine, images, credit, TARGETS, null=np.zeros(4), **options)
        for credit in (maps, (maps.flip(3) - 1).clamp(min=0))
    )
    assert first.cost.forwards > 0
    assert second.cost.forwards == 0
    assert not np.array_equal(first.values, second.values)


def test_mu_fidelity_removes_as_many_cells_in_every_subset(engine: Engine, images: Tensor) -> None:
    found = score("mu_fidelity", engine, images, torch.rand(4, 1, 16, 16), null=np.zeros(4))
    assert "200 subsets of exactly 16 of 81 cells" in found.convention


def test_preset_xplique_rewards_a_random_positive_map_on_a_positive_network_and_the_default_does_not() -> None:
    """Subsets of varying size make credit and drop grow together.

    Their Pearson correlation is the cosine of credit and contributions, 3/4 for two uniform maps, and so their rank
    correlation about (6 / pi) asin(3/8) = .734.
    """
    engine, images = positive(9)
    maps = torch.rand(24, 1, 9, 9, generator=torch.Generator().manual_seed(4))
    lifted = score("mu_fidelity", engine, images, maps, 1, null=np.zeros(24), preset="xplique", subsets=1000)
    honest = score("mu_fidelity", engine, images, maps, 1, null=np.zeros(24), subsets=1000)
    assert 0.70 < lifted.value.mean < 0.76
    assert honest.value.holds(0)
    assert "each of 81 cells with probability 0.2" in lifted.convention


def test_cells_of_unequal_size_lift_sums_and_not_the_default() -> None:
    engine, images = positive(64)
    maps = 1 + 0.1 * torch.rand(24, 1, 64, 64, generator=torch.Generator().manual_seed(4))
    chosen = engine.draws(0).subsets(200, 81, 16).float()
    targets = torch.ones(24, dtype=torch.int64)
    sums, means = (
        spearman(*removal(engine, images, targets, maps, chosen, space=Pixels(), side=9, score="logit", per_place=way))
        for way in (False, True)
    )
    assert float(sums[0].mean()) > 0.5
    assert abs(float(means[0].mean())) < 4 * float(means[0].std()) / 24**0.5


def test_preset_quantus_takes_224_places_to_the_smallest_number_of_the_image(
    engine: Engine, images: Tensor, maps: Tensor
) -> None:
    found = faithfulness_correlation(
        engine,
        images,
        torch.tensor(TARGETS),
        maps,
        space=Pixels(),
        draws=engine.draws(4),
        **faithfulness_correlation.card.presets["quantus"],  # type: ignore[attr-defined]
    )
    chosen, cells = engine.draws(4).subsets(100, 256, 224).numpy(), cells_of(None)
    expected = correlations(
        engine, images, maps, lambda index: (subset[cells] for subset in chosen), value_rule, lowest=True
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    assert "100 subsets of exactly 224 of 256 places replaced by the baseline 'pixels (min)'" in found.convention


def test_preset_quantus_of_the_estimate_removes_one_place_at_a_time(
    engine: Engine, images: Tensor, maps: Tensor
) -> None:
    found = score("faithfulness_estimate", engine, images, maps, TARGETS, null=np.zeros(4), preset="quantus")
    cells = cells_of(None)
    expected = correlations(
        engine, images, maps, lambda index: (cells == place for place in range(256)), value_rule, lowest=True
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-3)


def test_subsets_that_leave_nothing_are_refused(engine: Engine, images: Tensor, maps: Tensor) -> None:
    with pytest.raises(LimenError, match="option 'size': given 256 units of 256, allowed is 1 to 255"):
        score("faithfulness_correlation", engine, images, maps, null=np.zeros(4), size=256)


def test_a_baseline_that_the_space_lacks_is_refused(engine: Engine, images: Tensor, maps: Tensor) -> None:
    with pytest.raises(LimenError, match="blakc"):
        score("faithfulness_correlation", engine, images, maps, null=np.zeros(4), baseline="blakc")


def test_rank_correlation_with_ties_equals_scipy() -> None:
    source = np.random.default_rng(0)
    left, right = source.integers(0, 6, (5, 40)).astype(float), source.integers(0, 9, (5, 40)).astype(float)
    found, constant = spearman(torch.from_numpy(left), torch.from_numpy(right))
    expected = [spearmanr(one, other).statistic for one, other in zip(left, right, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not constant.any()


def test_correlation_equals_scipy() -> None:
    left, right = np.random.default_rng(0).normal(size=(2, 5, 40))
    found, constant = pearson(torch.from_numpy(left), torch.from_numpy(right))
    np.testing.assert_allclose(found, [pearsonr(*pair).statistic for pair in zip(left, right, strict=True)], atol=1e-12)
    assert not constant.any()


def test_ranks_share_what_differs_by_rounding_alone() -> None:
    values = torch.tensor([[1.0, 1.0 + 1e-7, 2.0, 0.5]], dtype=torch.float64)
    assert average_ranks(values, grain(values)).tolist() == [[2.5, 2.5, 4.0, 1.0]]


def test_differences_of_large_scores_that_are_rounding_alone_are_ties_and_constant() -> None:
    left = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    drops, size = torch.tensor([[0.0, 1e-6, 0.0, 2e-6]], dtype=torch.float64), torch.tensor([[10.0]])
    for rule in (pearson, spearman):
        assert not rule(left, drops)[1].item()
        value, constant = rule(left, drops, size)
        assert value.item() == 0
        assert constant.item()
