"""Pointing game, rank accuracy, top-k, AUC and energy: closed forms, ties, chance, outside libraries, planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from bench import api
from bench.engine import Engine, Network
from bench.registry import METRICS, LimenError

NAMES = [name for name in METRICS.names() if METRICS.group(name) == "localization"]
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
LEFT = np.zeros((2, 8, 8), dtype=bool)
LEFT[:, :, :4] = True


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), device="cpu")


def measure(name: str, engine: Engine, maps: Tensor, region: np.ndarray = LEFT, **options: object) -> api.ScoreResult:
    images = torch.zeros(len(maps), 3, *maps.shape[-2:])
    return api.score(name, engine, images, maps, 0, masks={"object": region}, **options)


def noise(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("columns", "expected"), [(slice(0, 4), 1.0), (slice(4, 8), 0.0), (slice(2, 6), 0.5)])
def test_all_none_and_half_of_the_credit_inside(name: str, engine: Engine, columns: slice, expected: float) -> None:
    maps = torch.zeros(2, 1, 8, 8)
    maps[..., columns] = 2.0
    options = {"k": 32} if name == "top_k_intersection" else {}
    np.testing.assert_allclose(measure(name, engine, maps, **options).values, expected)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_null_is_exact_and_random_maps_average_to_it(name: str, engine: Engine) -> None:
    region = np.zeros((2, 8, 8), dtype=bool)
    region[0, :2], region[1, :, :6] = True, True
    scored = measure(name, engine, noise(), region)
    share = np.array([0.5, 0.5]) if name == "localization_auc" else np.array([0.25, 0.75])
    np.testing.assert_array_equal(scored.null, share)
    sampled = api.null(name, engine, IMAGES, 0, masks={"object": region}, null_draws=400)
    np.testing.assert_allclose(sampled, share, atol=0.08)


@pytest.mark.parametrize("name", NAMES)
def test_images_without_the_region_have_no_value_and_are_counted(name: str, engine: Engine) -> None:
    empty = LEFT.copy()
    empty[1] = False
    scored = measure(name, engine, noise(), empty)
    assert np.isfinite(scored.values[0])
    assert np.isnan(scored.values[1])
    assert np.isnan(scored.null[1])
    assert scored.n == 1
    assert scored.extra["undefined"].tolist() == [0, 1]
    assert scored.extra["area"].tolist() == [0.5, 0]
    assert "missing in 1 of 2 images" in scored.convention
    assert "0.500 of the image" in scored.convention


@pytest.mark.parametrize("name", NAMES)
def test_a_region_that_is_the_whole_image_scores_one_or_leaves_nothing_to_tell_apart(name: str, engine: Engine) -> None:
    scored = measure(name, engine, noise(), np.ones((2, 8, 8), dtype=bool))
    np.testing.assert_array_equal(scored.values, np.nan if name == "localization_auc" else 1.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [1.0, 0.0])
def test_a_flat_map_points_nowhere_and_sits_at_the_null(name: str, engine: Engine, level: float) -> None:
    region = LEFT.copy()
    region[0, 1:] = False
    scored = measure(name, engine, torch.full((2, 1, 8, 8), level), region)
    expected = np.full(2, np.nan) if name == "energy_in_mask" and level == 0 else scored.null
    np.testing.assert_allclose(scored.values, expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_region_the_set_does_not_know_and_a_size_that_differs_are_told_in_one_sentence(
    name: str, engine: Engine
) -> None:
    with pytest.raises(LimenError, match=rf"metric '{name}', option 'mask': unknown name 'objct'; .*'object'\?"):
        measure(name, engine, noise(), mask="objct")
    with pytest.raises(LimenError, match=rf"metric '{name}', region 'object': given \(2, 1, 4, 8\), allowed is"):
        measure(name, engine, noise(), LEFT[:, :4])


def test_auc_equals_sklearn_s_with_and_without_ties(engine: Engine) -> None:
    smooth = noise(6, seed=1)
    maps = torch.cat([smooth, smooth.mul(2).round(), smooth.relu()])
    regions = np.random.default_rng(0).random((18, 8, 8)) < np.linspace(0.05, 0.95, 18)[:, None, None]
    expected = [
        roc_auc_score(region.ravel(), credit.flatten().numpy()) for region, credit in zip(regions, maps, strict=True)
    ]
    np.testing.assert_allclose(measure("localization_auc", engine, maps, regions).values, expected, atol=1e-12)


def literal_top(credit: np.ndarray, region: np.ndarray, count: int, draws: np.random.Generator) -> float:
    """Take the `count` largest places after a shuffle, so that ties fall at random; return their share inside."""
    order = draws.permutation(credit.size)
    top = order[np.argsort(-credit.ravel()[order], kind="stable")[:count]]
    return float(region.ravel()[top].mean())


@pytest.mark.parametrize(("name", "options"), [("top_k_intersection", {"k": 10}), ("relevance_rank_accuracy", {})])
def test_without_ties_a_share_of_the_top_equals_its_literal_count(
    name: str, engine: Engine, options: dict[str, object]
) -> None:
    maps = noise(5)
    regions = np.random.default_rng(0).random((5, 8, 8)) < 0.3
    draws = np.random.default_rng(1)
    expected = [
        literal_top(credit[0].numpy(), region, int(options.get("k", region.sum())), draws)  # type: ignore[call-overload]
        for credit, region in zip(maps, regions, strict=True)
    ]
    np.testing.assert_allclose(measure(name, engine, maps, regions, **options).values, expected)


@pytest.mark.parametrize(("name", "count"), [("pointing_game", 1), ("top_k_intersection", 10)])
def test_ties_get_the_mean_over_their_random_orders(name: str, count: int, engine: Engine) -> None:
    maps = noise(1).mul(1.5).round().clamp(max=1)
    region = LEFT[:1].copy()
    region[0, :3] = False
    draws = np.random.default_rng(0)
    sampled = np.mean([literal_top(maps[0, 0].numpy(), region[0], count, draws) for _ in range(4000)])
    options = {"k": count} if name == "top_k_intersection" else {}
    found = measure(name, engine, maps, region, **options).values[0]
    assert 0.05 < found < 0.95
    assert found == pytest.approx(sampled, abs=0.03)


@pytest.mark.parametrize(("options", "count"), [({}, 1), ({"k": 0.25}, 16), ({"k": 16}, 16), ({"k": 64}, 64)])
def test_k_is_a_number_of_places_or_a_share_of_them(engine: Engine, options: dict[str, object], count: int) -> None:
    assert measure("top_k_intersection", engine, noise(), **options).convention.startswith(f"{count} places")


def test_k_above_the_number_of_places_is_refused_and_a_small_region_s_best_value_is_told(engine: Engine) -> None:
    with pytest.raises(LimenError, match="option 'k': given 1000, allowed is at most the 64 places"):
        measure("top_k_intersection", engine, noise(), preset="quantus")
    region = np.zeros((2, 8, 8), dtype=bool)
    region[:, 0] = True
    scored = measure("top_k_intersection", engine, torch.as_tensor(region[:, None]).float(), region, k=32)
    assert scored.values.tolist() == scored.extra["most"].tolist() == [0.25, 0.25]


def test_the_quantus_preset_of_energy_in_mask_counts_absolute_credit(engine: Engine) -> None:
    maps = torch.zeros(2, 1, 8, 8)
    maps[..., 0], maps[..., 6], maps[..., 7] = -3.0, 1.0, 2.0
    assert measure("energy_in_mask", engine, maps).values.tolist() == [0, 0]
    assert measure("energy_in_mask", engine, maps, preset="quantus").values.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3, 5])
def test_a_hit_may_lie_within_the_tolerance_of_the_region(engine: Engine, tolerance: int) -> None:
    """The slow twin: the distance of every place to every place of the region; one map points at each place."""
    region = np.zeros((64, 8, 8), dtype=bool)
    region[:, 2:4, 1], region[:, 7, 7] = True, True
    maps = torch.eye(64).reshape(64, 1, 8, 8)
    points, inside = np.argwhere(np.ones((8, 8))), np.argwhere(region[0])
    near = np.linalg.norm(points[:, None] - inside[None], axis=2).min(axis=1) <= tolerance
    scored = measure("pointing_game", engine, maps, region, tolerance=tolerance)
    np.testing.assert_array_equal(scored.values, near.astype(float))
    np.testing.assert_allclose(scored.null, near.mean())


def test_torchray_s_preset_is_a_tolerance_of_15_pixels(engine: Engine) -> None:
    maps, region = torch.zeros(2, 1, 40, 40), np.zeros((2, 40, 40), dtype=bool)
    region[:, 20, 20] = True
    maps[0, 0, 20, 35] = maps[1, 0, 20, 36] = 1
    assert measure("pointing_game", engine, maps, region, preset="torchray").values.tolist() == [1, 0]


class PatchNetwork(nn.Module):
    """Logit 1 is the brightness of one patch; nothing else is seen."""

    def forward(self, images: Tensor) -> Tensor:
        seen = (images[:, :, 2:8, 6:14] ** 2).mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(seen), 8 * seen - 2], dim=1)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "saliency"])
def test_on_planted_evidence_a_true_map_beats_a_random_one_which_beats_the_inverted_one(method: str) -> None:
    engine = Engine(Network(name="patch", module=PatchNetwork(), classes=("no", "yes"), size=16), device="cpu")
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.1
    patch = np.zeros((24, 16, 16), dtype=bool)
    patch[:, 2:8, 6:14] = True
    options = {"patch": 2, "stride": 1} if method == "occlusion" else {}
    maps = api.explain(method, engine, images, 1, **options)
    blind = api.explain("random", engine, images, 1, seed=7)
    for name in NAMES:
        # Turned around, credit that is 0 outside is the largest there.
        true, null, inverted = (
            api.score(name, engine, images, credit, 1, masks={"object": patch})
            for credit in (maps, blind, maps.amax(dim=(2, 3), keepdim=True) - maps)
        )
        assert true.gain.low > 0.1, name
        assert true.value.mean > 0.8, name
        assert null.gain.low < 0.05, name
        assert null.gain.high > -0.05, name
        assert inverted.gain.high < 0, name
