"""Complexity, redundancy, robustness and importance of features: closed forms and planted codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from bench.engine import Draws, Engine, Network
from bench.metrics.complexity._ridge import PENALTIES, fit_ridge
from bench.records import Measurement
from bench.registry import METRICS, LimenError
from bench.spaces.concept_data import ConceptData
from bench.spaces.dictionary import Dictionary
from bench.spaces.gather import concept_data


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def neurons(d: int) -> Dictionary:
    """Codes are the activations themselves."""
    return Dictionary(name="neurons", atoms=torch.eye(d), mean=torch.zeros(d), encoder="identity", signed=True)


def complexity(codes: tuple[Tensor, Tensor], layers: dict[str, tuple[Tensor, Tensor]], **options: bool) -> Measurement:
    known = ConceptData(*codes, layers=layers)
    return METRICS.load("feature_complexity")([neurons(codes[0].shape[1])], known, draws=Draws(0), **options)


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def test_noise_is_as_complex_as_can_be_on_held_out_images() -> None:
    layers = {name: halves(normal(400, 80, seed=seed)) for name, seed in (("a", 1), ("b", 2))}
    found = complexity(halves(normal(400, 50)), layers)
    np.testing.assert_allclose(found.values, 1, atol=0.06)
    assert found.values.mean() == pytest.approx(1, abs=0.01)


def test_noise_is_told_in_sample_which_is_why_it_is_held_out() -> None:
    codes, layer = normal(200, 50), normal(200, 80, seed=1)
    fit = fit_ridge(layer, codes)
    spread = (codes - codes.mean(dim=0)).square().sum()
    centred = (layer - layer.mean(dim=0)).double(), (codes - codes.mean(dim=0)).double()
    least = centred[1] - centred[0] @ torch.linalg.lstsq(*centred).solution
    assert float(1 - least.square().sum() / spread) == pytest.approx(80 / 199, abs=0.02)
    assert float(1 - (codes - fit.predict(layer)).square().sum() / spread) < 0.2


@pytest.mark.parametrize("linear_in", [0, 1, 2, 3])
def test_a_code_that_a_layer_holds_linearly_loses_one_share(linear_in: int) -> None:
    codes = normal(400, 4)
    layers = {}
    for index in range(3):
        other = normal(400, 10, seed=10 + index)
        held = torch.cat([codes, other], dim=1) @ normal(14, 14, seed=20 + index)
        layers[f"layer {index}"] = halves(held if index < linear_in else other)
    found = complexity(halves(codes), layers)
    np.testing.assert_allclose(found.values, 1 - linear_in / 3, atol=0.04)
    np.testing.assert_allclose(1 - np.mean([found.extra[f"r2 layer {i}"] for i in range(3)], axis=0), found.values)


def test_complexity_knows_neither_units_nor_mixtures_of_a_layers_activations() -> None:
    codes, layer = normal(300, 3), normal(300, 6, seed=1)
    codes = codes + layer[:, :3]
    plain = complexity(halves(codes), {"a": halves(layer)}).values
    scaled = complexity(halves(5 - 100 * codes), {"a": halves(1e-3 * layer + 7)}).values
    np.testing.assert_allclose(scaled, plain, atol=1e-3)


def test_a_constant_code_has_no_complexity() -> None:
    codes = torch.cat([normal(40, 1), torch.ones(40, 1)], dim=1)
    found = complexity(halves(codes), {"a": halves(normal(40, 3, seed=1))})
    assert math.isnan(found.values[1])
    assert math.isfinite(found.values[0])


def test_codes_in_another_order_know_nothing() -> None:
    codes = normal(400, 6)
    found = complexity(halves(codes), {"a": halves(codes)}, noise=True)
    np.testing.assert_allclose(found.values, 0, atol=1e-3)
    np.testing.assert_allclose(found.extra["noise"], 1, atol=0.05)


@pytest.mark.long
def test_ten_thousand_features_share_one_factorisation_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    factorise = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *given, **named: counted.append(1) or factorise(*given, **named))
    layers = {f"layer {index}": halves(normal(120, 16, seed=index)) for index in range(3)}
    found = complexity(halves(normal(120, 10_000, seed=9)), layers)
    assert found.values.shape == (10_000,)
    assert found.values.mean() == pytest.approx(1, abs=0.02)
    assert len(counted) == 3


@pytest.mark.parametrize("shape", [(60, 9), (20, 40)])
def test_each_target_gets_the_ridge_fit_of_its_penalty(shape: tuple[int, int]) -> None:
    features = normal(*shape) * torch.linspace(0.1, 5, shape[1]) + 3
    targets = torch.stack([features @ normal(shape[1], seed=1), features[:, 0] + normal(shape[0], seed=2)], dim=1)
    fit = fit_ridge(features, targets)
    ready = ((features - features.mean(dim=0)) / features.std(dim=0, correction=0)).double().numpy()
    new = normal(7, shape[1], seed=3)
    moved = ((new - features.mean(dim=0)) / features.std(dim=0, correction=0)).double().numpy()
    for index in range(2):
        assert math.isfinite(float(fit.penalty[index]))
        twin = Ridge(alpha=float(fit.penalty[index]), solver="svd").fit(ready, targets[:, index].double().numpy())
        np.testing.assert_allclose(fit.predict(new)[:, index], twin.predict(moved), rtol=1e-3, atol=1e-3)


def test_the_penalty_is_the_best_by_generalised_cross_validation() -> None:
    features, n = normal(30, 12).double(), 30
    targets = features[:, :1] + 1.5 * normal(30, 1, seed=1).double()
    fit = fit_ridge(features, targets)
    ready = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    centred = targets - targets.mean(dim=0)
    level = ready.square().sum() / 12
    errors = []
    for penalty in PENALTIES:
        hat = ready @ torch.linalg.solve(ready.T @ ready + penalty * level * torch.eye(12).double(), ready.T)
        errors.append(float((centred - hat @ centred).square().sum() / (n - 1 - hat.trace()) ** 2))
    best = PENALTIES[int(np.argmin(errors))] * float(level)
    assert min(errors) < float(centred.square().sum() / (n - 1) ** 2)
    assert float(fit.penalty) == pytest.approx(best, rel=1e-6)


def redundancy(rows: Tensor, one: Dictionary, **options: object) -> Measurement:
    return METRICS.load("feature_redundancy")([one], ConceptData(rows, rows), draws=Draws(0), **options)


def test_redundancy_is_the_ratio_of_two_cka() -> None:
    rows = normal(50, 6) @ normal(6, 6, seed=1)
    found = redundancy(rows, neurons(6), masks=5)
    masks = Draws(0).spawn("masks").subsets(5, 6, 3).double()

    def cka(features: Tensor, code: Tensor) -> float:
        one, other = (part - part.mean(dim=0) for part in (features.double(), code.double()))
        return float((one.T @ other).norm() ** 2 / ((one.T @ one).norm() * (other.T @ other).norm()))

    expected = [np.mean([cka(rows * mask, rows[:, [j]]) / cka(rows, rows[:, [j]]) for mask in masks]) for j in range(6)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)


def test_a_code_that_all_units_hold_is_redundant_and_one_units_code_is_not() -> None:
    common = normal(100, 1)
    rows = torch.cat([common.expand(-1, 20) + 0.01 * normal(100, 20), 3 * normal(100, 1, seed=1)], dim=1)
    found = redundancy(rows, neurons(21))
    np.testing.assert_allclose(found.values[:20], 1, atol=0.12)
    assert found.values[20] < 0.75


def test_random_codes_are_as_redundant_as_the_null() -> None:
    rows = normal(200, 12)
    noise = normal(12, 12, seed=3)
    one = Dictionary(
        name="given", atoms=torch.eye(12), mean=torch.zeros(12), encoder="linear", signed=True, parameters={"filters": noise}
    )  # fmt: skip
    found = redundancy(rows, one)
    assert found.null.mean() == pytest.approx(2**-0.5, abs=0.06)


@pytest.mark.parametrize("kept", [0.0, 1.0, 0.01])
def test_a_mask_keeps_some_units_and_takes_some_away(kept: float) -> None:
    with pytest.raises(LimenError, match=f"option 'kept': given {kept} of 4 units"):
        redundancy(normal(10, 4), neurons(4), kept=kept)


def robustness(known: ConceptData, **options: object) -> Measurement:
    return METRICS.load("feature_robustness")([neurons(known.test.shape[1])], known, **options)


def test_robustness_of_a_linear_layer_is_noise_over_signal() -> None:
    test = normal(400, 3) * torch.tensor([1.0, 2.0, 4.0])
    known = ConceptData(test, test, noisy=lambda level, draw: test + level * normal(400, 3, seed=50 + draw))
    found = robustness(known)
    among = test.var(dim=0, correction=0).numpy()
    for level in (0.01, 0.1, 0.5):
        np.testing.assert_allclose(found.extra[f"noise {level}"], level**2 / among, rtol=0.06)
    expected = np.mean([found.extra[f"noise {level}"] for level in (0.01, 0.1, 0.5)], axis=0)
    np.testing.assert_allclose(found.values, expected)


def test_codes_that_noise_does_not_reach_are_robust() -> None:
    test = normal(20, 3)
    found = robustness(ConceptData(test, test, noisy=lambda level, draw: test))
    np.testing.assert_array_equal(found.values, 0)


@pytest.mark.parametrize("options", [{"copies": 1}, {"levels": ()}, {"levels": (0.1, -1.0)}])
def test_robustness_needs_copies_and_levels(options: dict[str, object]) -> None:
    test = normal(20, 3)
    with pytest.raises(LimenError, match="metric 'feature_robustness': given .* allowed are two or more"):
        robustness(ConceptData(test, test, noisy=lambda level, draw: test), **options)


@pytest.fixture
def network() -> Engine:
    module = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    for index, part in enumerate(module.parameters()):
        part.data = 0.5 * normal(*part.shape, seed=index)
    return Engine(Network(name="small", module=module, size=8), device="cpu", precision="fp32")


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def test_importance_at_a_linear_head_is_code_times_atom_times_weights(network: Engine) -> None:
    known = concept_data(network, "1", pictures(10, 0), pictures(40, 1))
    atoms = torch.nn.functional.normalize(normal(5, 6))
    one = Dictionary(
        name="given", atoms=atoms, mean=known.train.mean(dim=0), encoder="linear", signed=True,
        parameters={"filters": normal(5, 6, seed=1)},
    )  # fmt: skip
    found = METRICS.load("feature_importance")([one], known)
    assert known.test_maps is not None
    assert known.head_weights is not None
    assert known.targets is not None
    credit = one.encode(known.test_maps).mean(dim=1) * (known.head_weights @ atoms.T)[known.targets]
    np.testing.assert_allclose(found.values, credit.abs().mean(dim=0), rtol=1e-4)
    np.testing.assert_allclose(found.extra["signed"], credit.mean(dim=0), rtol=1e-3, atol=1e-6)
    shares = METRICS.load("feature_importance")([one], known, share=True).values
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares, found.values / found.values.sum())


def test_a_code_of_the_last_layer_is_less_complex_than_noise_in_a_network(network: Engine) -> None:
    known = concept_data(network, "1", pictures(200, 0), pictures(200, 1), layers=["0", "1"])
    found = METRICS.load("feature_complexity")([neurons(6)], known, draws=Draws(0), noise=True)
    np.testing.assert_allclose(found.extra["r2 1"], 1, atol=1e-3)
    assert found.values.max() <= 0.5 + 1e-3
    assert found.extra["noise"].min() > 0.8
