"""MeGe and ReCo: extremes, slow twins over pairs of networks, and an interval that means what it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from scipy.stats import ks_2samp, spearmanr
from torch import Tensor, nn

from bench.api import ScoreResult, explainer, score
from bench.engine import Engine, Network
from bench.metrics.stability import mege, reco
from bench.metrics.stability._retrained import Pairs
from bench.registry import LimenError
from bench.zoo import Folds

N, K, CLASSES = 60, 4, 3
FACTS: dict[str, Any] = {"size": 8, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
PICTURES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3)).astype(np.uint8)
FOLD = np.arange(N) % K
METRICS = ["mege", "reco"]


def linear(name: str, seed: int, shared: Tensor, share: float) -> Network:
    """A linear classifier whose weights are part of them its own."""
    own = torch.randn(shared.shape, generator=torch.Generator().manual_seed(seed))
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    with torch.no_grad():
        module[1].weight.copy_(share * own + (1 - share) * shared)
        module[1].bias.zero_()
    return Network(name=name, module=module, **FACTS)


def made(share: float) -> tuple[Engine, Folds, Tensor]:
    """Return K linear networks that agree the less the larger `share` is, with folds over the same pictures."""
    shared = torch.randn(CLASSES, 192, generator=torch.Generator().manual_seed(99))
    networks = [linear(f"network {index}", index, shared, share) for index in range(K)]
    engine = Engine(linear("whole", 50, shared, 0.0), device="cpu", precision="fp32", batch_size=7)
    inputs = engine.inputs(PICTURES)
    labels = engine.scores(inputs).argmax(dim=1).numpy()
    return engine, Folds.of_pictures("linear", networks, PICTURES, FOLD, labels), inputs


def run(
    name: str, engine: Engine, folds: Folds, inputs: Tensor, explain: Callable[..., Tensor], **options: Any
) -> ScoreResult:
    """Score with maps that neither metric looks at."""
    return score(name, engine, inputs, torch.zeros(len(inputs), 1, 8, 8), 0, folds=folds, explainer=explain, **options)


def by_network(table: Tensor) -> Callable[..., Tensor]:
    """Explain every image by one map of the network: row i of `table` for network i."""

    def explain(images: Tensor, targets: Tensor, *, on: Engine) -> Tensor:
        one = table[int(on.network.name.split()[1])]
        return one.reshape(1, 1, 8, 8).expand(len(images), -1, -1, -1)

    return explain


def by_prediction(images: Tensor, targets: Tensor, *, on: Engine) -> Tensor:
    """Explain by a random map of the image and the class the network predicts."""
    predicted = on.scores(images).argmax(dim=1).tolist()
    streams = on.draws(0, "planted").for_images(images)
    return torch.stack([stream.spawn(one).uniform(1, 8, 8) for stream, one in zip(streams, predicted, strict=True)])


def chance(images: Tensor, targets: Tensor, *, on: Engine) -> Tensor:
    """Explain by a random map of the image and the network."""
    streams = on.draws(0, "planted", on.network.name).for_images(images)
    return torch.stack([stream.uniform(1, 8, 8) for stream in streams])


def loops(folds: Folds, engine: Engine, inputs: Tensor, explain: Any, absolute: bool, prediction: bool) -> tuple:
    """Return the two sets of distances, pair by pair and image by image."""
    same, different = [], []
    labels = folds.labels(inputs)
    answers, maps = [], []
    for network in folds.networks:
        on = engine.beside(network)
        answers.append(on.scores(inputs).argmax(dim=1))
        asked = answers[-1] if prediction else torch.as_tensor(labels)
        maps.append(explain(inputs, asked, on=on).flatten(1).numpy())
    for i, j in itertools.combinations(range(len(maps)), 2):
        for n, fold in enumerate(folds.of(inputs)):
            if fold not in (i, j) or labels[n] not in (answers[i][n], answers[j][n]):
                continue
            rho = spearmanr(maps[i][n], maps[j][n]).statistic
            far = np.sqrt(1 - abs(rho)) if absolute else np.sqrt((1 - rho) / 2)
            (same if answers[i][n] == answers[j][n] else different).append(far)
    return np.array(same), np.array(different)


def test_identical_networks_explain_alike() -> None:
    engine, folds, inputs = made(share=0.0)
    found = run("mege", engine, folds, inputs, explainer("gradient_input", engine))
    np.testing.assert_allclose(found.values, 1, atol=1e-6)
    assert found.extra["pairs"].tolist() == [K - 1] * N
    # Nobody contradicts anybody, so there is nothing to tell apart.
    assert np.isnan(run("reco", engine, folds, inputs, explainer("gradient_input", engine)).values).all()


def test_orthogonal_ranks_give_a_mege_of_one_half_by_xpliques_distance() -> None:
    engine, folds, inputs = made(share=0.3)
    table = torch.tensor(hadamard(64)[1 : K + 1], dtype=torch.float32)
    found = run("mege", engine, folds, inputs, by_network(table), preset="xplique")
    np.testing.assert_allclose(found.value.mean, 0.5, rtol=1e-9)
    signed = run("mege", engine, folds, inputs, by_network(table))
    np.testing.assert_allclose(signed.value.mean, 1 / (1 + 0.5**0.5), rtol=1e-9)


def test_inverted_maps_are_the_same_map_to_xpliques_distance_only() -> None:
    engine, folds, inputs = made(share=0.3)
    base = torch.randn(64, generator=torch.Generator().manual_seed(1))
    table = torch.stack([base, -base, -base, -base])
    folds = Folds.of_pictures("linear", folds.networks, PICTURES, [0] * N, folds.labels(inputs))
    assert run("mege", engine, folds, inputs, by_network(table), preset="xplique").value.mean == pytest.approx(1)
    assert run("mege", engine, folds, inputs, by_network(table)).value.mean == pytest.approx(0.5)


def test_maps_that_differ_just_where_predictions_do_have_a_reco_of_one() -> None:
    engine, folds, inputs = made(share=0.6)
    found = run("reco", engine, folds, inputs, by_prediction)
    np.testing.assert_allclose(found.values, 1, rtol=1e-9)
    assert found.gain.low > 0.5
    assert run("mege", engine, folds, inputs, by_prediction).value.mean == pytest.approx(1)


def test_maps_that_do_not_look_at_the_network_have_a_mege_of_one_and_a_reco_of_zero() -> None:
    engine, folds, inputs = made(share=0.6)
    blind = explainer("image_gradient", engine)
    assert run("mege", engine, folds, inputs, blind).value.mean == pytest.approx(1)
    np.testing.assert_allclose(run("reco", engine, folds, inputs, blind).values, 0, atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_random_maps_of_each_network_sit_at_the_null(name: str) -> None:
    engine, folds, inputs = made(share=0.6)
    found = run(name, engine, folds, inputs, chance)
    assert found.at_null
    assert found.value.mean == pytest.approx(found.null_value.mean, abs=0.1)
    # Two unrelated maps are sqrt(1/2) apart; the largest difference of two samples of one distribution is small.
    bounds = (0.57, 0.6) if name == "mege" else (0.0, 0.3)
    assert bounds[0] < found.null_value.mean < bounds[1]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("options", [{}, {"distance": "absolute"}, {"explained": "prediction"}], ids=str)
def test_a_slow_twin_pools_the_same_pairs(name: str, options: dict[str, str]) -> None:
    engine, folds, inputs = made(share=0.6)
    explain = explainer("gradient_input", engine)
    same, different = loops(
        folds, engine, inputs, explain, options.get("distance") == "absolute", options.get("explained") == "prediction"
    )
    found = run(name, engine, folds, inputs, explain, **options)
    if name == "mege":
        expected = 1 / (1 + same.mean())
        assert found.extra["pairs"].sum() == len(same)
    else:
        expected = ks_2samp(same, different, alternative="greater").statistic
        every = np.concatenate([same, different])
        # The published form: the best true positive rate + true negative rate - 1 over all thresholds.
        assert expected == pytest.approx(max((same <= g).mean() + (different > g).mean() - 1 for g in every))
        assert found.extra["pairs_same"].sum() == len(same)
        assert found.extra["pairs_different"].sum() == len(different)
    assert len(different) > 10
    assert found.value.mean == pytest.approx(expected, abs=1e-5)
    assert f"{len(same)} pairs with the same prediction, {len(different)} with another" in found.convention


def planted(seed: int, n: int = 300) -> Pairs:
    """Pairs of `n` images with an effect of the image, so that its pairs go together."""
    draws = np.random.default_rng(seed)
    same = draws.random((n, 3)) < 0.7
    distance = 0.5 + 0.1 * draws.normal(size=(n, 1)) + 0.1 * draws.normal(size=(n, 3)) + 0.1 * ~same
    counted = draws.random((n, 3)) < 0.8
    return Pairs(distance, same & counted, ~same & counted, np.zeros_like(same))


@pytest.mark.parametrize("statistic", [mege.influenced, reco.influenced], ids=METRICS)
def test_the_spread_of_the_values_is_the_standard_error_of_the_pooled_score(
    statistic: Callable[[Pairs], np.ndarray],
) -> None:
    runs = [statistic(planted(seed)) for seed in range(300)]
    real = np.std([values.mean() for values in runs], ddof=1)
    told = np.mean([values.std(ddof=1) / np.sqrt(len(values)) for values in runs])
    assert told == pytest.approx(real, rel=0.15)


def test_the_values_follow_what_leaving_an_image_out_does() -> None:
    pairs = planted(0, 200)
    values = mege.influenced(pairs)

    def without(index: int) -> float:
        rest = np.arange(200) != index
        return mege.influenced(Pairs(pairs.distance[rest], pairs.same[rest], pairs.different[rest], pairs.undefined[rest])).mean()  # fmt: skip

    jackknife = [200 * values.mean() - 199 * without(index) for index in range(200)]
    np.testing.assert_allclose(values, jackknife, atol=2e-3)


@pytest.mark.parametrize("name", METRICS)
def test_batch_size_and_order_do_not_change_a_value(name: str) -> None:
    engine, folds, inputs = made(share=0.6)
    expected = run(name, engine, folds, inputs, explainer("gradient_input", engine))
    order = np.random.default_rng(1).permutation(N)
    other = Engine(engine.network, device="cpu", precision="fp32", batch_size=64)
    found = run(name, other, folds, inputs[order], explainer("gradient_input", other))
    np.testing.assert_allclose(found.values, expected.values[order], atol=1e-4)
    np.testing.assert_allclose(found.null, expected.null[order], atol=1e-4)


@pytest.mark.parametrize("name", METRICS)
def test_more_images_than_one_call_takes_give_the_same_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, folds, inputs = made(share=0.6)
    expected = run(name, engine, folds, inputs, explainer("gradient_input", engine)).values
    monkeypatch.setattr("bench.metrics.stability._retrained.AT_ONCE", 7)
    found = run(name, engine, folds, inputs, explainer("gradient_input", engine)).values
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", METRICS)
def test_a_constant_map_is_left_out_and_counted(name: str) -> None:
    engine, folds, inputs = made(share=0.6)
    inner = explainer("gradient_input", engine)
    first = inputs[0]

    def sometimes(images: Tensor, targets: Tensor, *, on: Engine) -> Tensor:
        empty = (images == first).flatten(1).all(dim=1).reshape(-1, 1, 1, 1)
        return inner(images, targets, on=on).masked_fill(empty, 0)

    found = run(name, engine, folds, inputs, sometimes)
    assert np.isfinite(found.values).all()
    assert found.extra["undefined"][0] > 0
    assert found.extra["undefined"][1:].sum() == 0


@pytest.mark.parametrize("name", METRICS)
def test_images_in_no_fold_and_missing_folds_are_told(name: str) -> None:
    engine, folds, inputs = made(share=0.3)
    explain = explainer("gradient_input", engine)
    with pytest.raises(LimenError, match=r"folds of 'linear': 1 of 1 images \(index 0\) are in no fold"):
        run(name, engine, folds, inputs[:1] + 1, explain)
    with pytest.raises(LimenError, match=f"metric '{name}', 'folds': nothing was given"):
        score(name, engine, inputs, torch.zeros(N, 1, 8, 8), 0, explainer=explain)
