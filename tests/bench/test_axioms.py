"""Axioms: completeness, sensitivity-n and non-sensitivity against closed forms, loops and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from scipy.stats import pearsonr
from torch import Tensor, nn

from bench.api import explain, score
from bench.engine import Engine
from bench.metrics.axioms.sensitivity_n import sensitivity_n
from bench.spaces import Pixels

TARGETS = [3, 0, 1, 4]


class Patch(nn.Module):
    """Logit 1 reads the rows 2 to 7 of the columns 6 to 13, and nothing else."""

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, :, 2:8, 6:14].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(seen), 8 * seen], dim=1)


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(9))


@pytest.fixture
def patch_engine() -> Engine:
    return Engine(Patch(), device="cpu", precision="fp32")


@pytest.fixture
def patch_map() -> Tensor:
    maps = torch.zeros(4, 1, 16, 16)
    maps[:, :, 2:8, 6:14] = 1
    return maps


@pytest.fixture
def smooth_engine() -> Engine:
    """A small network without kinks, which a quadrature of 50 points integrates."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5))
    return Engine(network, device="cpu", precision="fp32")


@pytest.mark.parametrize("baseline", ["zero", "mean", "min"])
def test_integrated_gradients_are_complete_and_saliency_is_not(
    smooth_engine: Engine, images: Tensor, baseline: str
) -> None:
    engine = smooth_engine
    space = Pixels(baseline=baseline)  # type: ignore[arg-type]
    path, slope = (
        score(
            "completeness", engine, images, explain(method, engine, images, TARGETS, space=space), TARGETS, space=space
        )
        for method in ("integrated_gradients", "saliency")
    )
    assert (path.values < 1e-3).all()
    assert (slope.values > 0.1).all()
    assert path.gain.low > 0.99


def test_completeness_of_contributions_of_a_linear_network_is_zero(linear_engine: Engine, small_images: Tensor) -> None:
    maps = explain("gradient_input", linear_engine, small_images, 1)
    found = score("completeness", linear_engine, small_images, maps, 1)
    np.testing.assert_allclose(found.values, 0, atol=1e-4)
    doubled = score("completeness", linear_engine, small_images, 2 * maps, 1)
    np.testing.assert_allclose(doubled.values, 1, atol=1e-4)


def test_completeness_of_an_empty_map_is_one_and_the_null(engine: Engine, images: Tensor) -> None:
    found = score("completeness", engine, images, torch.zeros(4, 1, 16, 16), TARGETS)
    assert found.values.tolist() == [1, 1, 1, 1]
    assert found.null.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_completeness_equals_its_definition(engine: Engine, images: Tensor, maps: Tensor, kind: str) -> None:
    found = score("completeness", engine, images, maps, TARGETS, score=kind)
    with torch.no_grad():
        ends = [engine.network.module(one) for one in (images, torch.zeros_like(images))]
    ends = [end.softmax(1) if kind == "probability" else end for end in ends]
    change = (ends[0] - ends[1])[torch.arange(4), torch.tensor(TARGETS)].double()
    gap = maps.double().sum(dim=(1, 2, 3)) - change
    np.testing.assert_allclose(found.extra["gap"], gap, rtol=1e-4)
    np.testing.assert_allclose(found.values, (gap / change).abs(), rtol=1e-3)


def test_the_gap_is_captums_convergence_delta(smooth_engine: Engine, images: Tensor) -> None:
    path = IntegratedGradients(smooth_engine.network.module)
    maps, delta = path.attribute(4 * images, target=2, n_steps=2, return_convergence_delta=True)
    found = score("completeness", smooth_engine, 4 * images, maps.float(), 2)
    np.testing.assert_allclose(found.extra["gap"], delta.numpy(), rtol=1e-3)
    assert (delta.abs() > 1e-3).all()


def test_an_image_that_does_not_move_the_score_has_no_completeness(patch_engine: Engine) -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[1, :, 2:8, 6:14] = 0
    found = score("completeness", patch_engine, images, torch.rand(2, 1, 16, 16), 1)
    assert np.isnan(found.values).tolist() == [False, True]
    assert found.extra["undefined"].tolist() == [0, 1]


@pytest.mark.parametrize("side", [8, 5, None])
def test_sensitivity_n_of_contributions_of_a_linear_network_is_one(
    linear_engine: Engine, small_images: Tensor, side: int | None
) -> None:
    maps = explain("gradient_input", linear_engine, small_images, 1)
    true, inverted = (
        score("sensitivity_n", linear_engine, small_images, credit, 1, null=np.zeros(4), side=side, sizes=4)
        for credit in (maps, -maps)
    )
    np.testing.assert_allclose(true.values, 1, atol=1e-3)
    np.testing.assert_allclose(inverted.values, -1, atol=1e-3)


@pytest.mark.parametrize("side", [4, 3])
def test_sensitivity_n_equals_its_loop(engine: Engine, images: Tensor, maps: Tensor, side: int) -> None:
    found = sensitivity_n(
        engine, images, torch.tensor(TARGETS), maps, space=Pixels(), draws=engine.draws(4), side=side, sizes=3,
        subsets=20,
    )  # fmt: skip
    count, draws = side * side, engine.draws(4)
    most = int(0.8 * count)
    sizes = [1, round(most**0.5), most]
    assert found.curve_x.tolist() == sizes
    place = np.arange(16) * side // 16
    cells = place[:, None] * side + place
    chosen = [draws.subsets(20, count, size).numpy() for size in sizes]
    for index, target in enumerate(TARGETS):
        values = []
        for subsets in chosen:
            credits, drops = [], []
            for subset in subsets:
                hidden = torch.from_numpy(subset[cells])
                with torch.no_grad():
                    both = engine.network.module(torch.stack([images[index], images[index] * ~hidden]))[:, target]
                credits.append(float(maps[index, 0][hidden].double().mean()))
                drops.append(float(both[0] - both[1]) / float(hidden.sum()))
            values.append(pearsonr(credits, drops).statistic)
        np.testing.assert_allclose(found.curve_y[index], values, atol=2e-4)
        assert float(found.values[index]) == pytest.approx(np.mean(values), abs=2e-4)


def test_sensitivity_n_of_random_maps_is_zero_on_a_positive_network_even_with_unequal_cells() -> None:
    images = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.stack([torch.zeros(256), torch.ones(256)]))
    engine = Engine(network, device="cpu", precision="fp32", batch_size=512)
    maps = 1 + torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found = score("sensitivity_n", engine, images, maps, 1, null=np.zeros(24), side=6)
    assert abs(found.value.mean) < 4 * found.values.std(ddof=1) / 24**0.5
    true = score("sensitivity_n", engine, images, images, 1, null=np.zeros(24), side=6)
    np.testing.assert_allclose(true.values, 1, atol=1e-3)


def test_sensitivity_n_counts_the_sizes_at_which_nothing_varies(engine: Engine, images: Tensor) -> None:
    found = score("sensitivity_n", engine, images, torch.ones(4, 1, 16, 16), TARGETS, null=np.zeros(4))
    assert found.values.tolist() == [0, 0, 0, 0]
    assert found.extra["constant"].tolist() == [1, 1, 1, 1]


def test_credit_on_exactly_what_the_network_reads_has_no_non_sensitivity(
    patch_engine: Engine, patch_map: Tensor, images: Tensor
) -> None:
    assert score("non_sensitivity", patch_engine, images, patch_map, 1).values.tolist() == [0, 0, 0, 0]


def test_idle_credit_and_missed_effect_are_told_apart(patch_engine: Engine, patch_map: Tensor, images: Tensor) -> None:
    full = score("non_sensitivity", patch_engine, images, torch.ones_like(patch_map), 1)
    assert full.extra["idle"].tolist() == [52 / 64] * 4
    assert full.extra["missed"].tolist() == [0] * 4
    half = patch_map.clone()
    half[..., 10:] = 0
    missed = score("non_sensitivity", patch_engine, images, half, 1)
    assert missed.extra["missed"].tolist() == [6 / 64] * 4
    assert missed.extra["count"].tolist() == [6] * 4
    inverted = score("non_sensitivity", patch_engine, images, 1 - patch_map, 1)
    assert inverted.values.tolist() == [1] * 4


def test_random_maps_sit_at_the_share_of_cells_that_do_nothing(patch_engine: Engine, images: Tensor) -> None:
    found = score("non_sensitivity", patch_engine, images, torch.rand(4, 1, 16, 16) + 0.01, 1)
    assert found.values.tolist() == found.null.tolist() == [52 / 64] * 4


def test_credit_of_both_signs_in_a_cell_is_credit(patch_engine: Engine, patch_map: Tensor, images: Tensor) -> None:
    checkered = patch_map.clone()
    checkered[..., ::2] *= -1
    assert score("non_sensitivity", patch_engine, images, checkered, 1).values.tolist() == [0, 0, 0, 0]


def test_a_cell_that_already_holds_the_baseline_is_noticed(patch_engine: Engine, patch_map: Tensor) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, 2:8, 6:14] = 0
    assert score("non_sensitivity", patch_engine, images, patch_map, 1).values.tolist() == [0, 0, 0, 0]
