"""Stability under noise: closed forms, slow twins, captum side by side, and what each preset asks for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import explain, explainer, null, score
from bench.engine import Engine, Network
from bench.metrics._noisy import AT_ONCE, Noise, batches
from bench.registry import METRICS
from bench.spaces import Pixels

NOISY = [
    "average_stability",
    "avg_sensitivity",
    "local_lipschitz",
    "max_sensitivity",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
]
ZERO = np.zeros(4)


class Squares(nn.Module):
    """Logit 0 is the sum of squared pixels: its gradient is twice the image."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.square().flatten(1).sum(dim=1)
        return torch.stack([total, -total], dim=1)


class OnlyBlack(nn.Module):
    """Class 1 for an image that is 0 everywhere, class 0 for every other."""

    def forward(self, images: Tensor) -> Tensor:
        level = images.abs().flatten(1).amax(dim=1)
        return torch.stack([level, (level == 0).float() - 0.5], dim=1)


def gradient(engine: Engine) -> Callable[..., Tensor]:
    """Explain by the signed channel sum of the plain gradient."""

    def run(images: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        return Pixels().credit((on or engine).gradients(images, targets, space=Pixels()))

    return run


class Recorder:
    """An explainer that keeps what it was given."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        self.inner = inner
        self.images: list[Tensor] = []
        self.targets: list[Tensor] = []

    def __call__(self, images: Tensor, targets: Tensor, *, on: Engine | None = None) -> Tensor:
        self.images.append(images)
        self.targets.append(targets)
        return self.inner(images, targets, on=on)


@pytest.fixture
def grey_engine() -> Engine:
    """A linear classifier of images of one channel."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        module[1].weight.copy_(torch.randn(3, 64, generator=torch.Generator().manual_seed(4)))
    return Engine(Network(name="grey", module=module), device="cpu", precision="fp32", batch_size=7)


@pytest.fixture
def grey_images() -> Tensor:
    return torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def copies_of(name: str, engine: Engine, images: Tensor, noise: Noise, seed: int = 0) -> Tensor:
    """Return the copies (N, samples, ...) a metric makes, drawn one by one."""
    sizes = [
        noise.draw(stream, (noise.samples, *images.shape[1:])) for stream in one_by_one(name, engine, images, seed)
    ]
    return images[:, None] + noise.radius * torch.stack(sizes)


def one_by_one(name: str, engine: Engine, images: Tensor, seed: int) -> list[Any]:
    return [engine.draws(seed, "metric", name).for_images(images[index : index + 1])[0] for index in range(len(images))]


@pytest.mark.parametrize("name", NOISY)
def test_the_gradient_of_a_linear_network_does_not_move(name: str, linear_engine: Engine, small_images: Tensor) -> None:
    explain_it = gradient(linear_engine)
    maps = explain_it(small_images, torch.tensor([0, 1, 2, 3]))
    found = score(name, linear_engine, small_images, maps, [0, 1, 2, 3], null=ZERO, explainer=explain_it,
                  **({"layer": "fc"} if "representation" in name else {}))  # fmt: skip
    np.testing.assert_allclose(found.values, 0, atol=1e-6)


def test_the_gradient_of_a_sum_of_squares_has_the_lipschitz_constant_two(grey_images: Tensor) -> None:
    engine = Engine(Squares(), device="cpu", precision="fp32")
    maps = gradient(engine)(grey_images, torch.zeros(4, dtype=torch.int64))
    found = score("local_lipschitz", engine, grey_images, maps, 0, null=ZERO, explainer=gradient(engine))
    np.testing.assert_allclose(found.values, 2, rtol=1e-5)
    # The map is twice the image: relative to both norms the constant is 1.
    np.testing.assert_allclose(found.extra["condition"], 1, rtol=1e-5)


def test_gradient_input_of_a_linear_network_has_a_relative_input_stability_of_one(
    grey_engine: Engine, grey_images: Tensor
) -> None:
    run = explainer("gradient_input", grey_engine)
    targets = grey_engine.targets(grey_images)
    found = score("relative_input_stability", grey_engine, grey_images, run(grey_images, targets), targets, null=ZERO, explainer=run)  # fmt: skip
    np.testing.assert_allclose(found.values, 1, rtol=1e-3)


@pytest.mark.parametrize("name", ["max_sensitivity", "avg_sensitivity", "average_stability", "local_lipschitz"])
@pytest.mark.parametrize("noise", ["uniform", "positive", "normal"])
def test_a_slow_twin_gives_the_same_value(name: str, noise: str, engine: Engine, images: Tensor) -> None:
    targets = torch.tensor([3, 0, 1, 4])
    run = explainer("gradient_input", engine)
    maps = run(images, targets)
    options: dict[str, Any] = {"samples": 9, "radius": 0.05, "noise": noise}
    found = score(name, engine, images, maps, targets, null=ZERO, explainer=run, **options)
    copies = copies_of(name, engine, images, Noise(noise, 0.05, 9))  # type: ignore[arg-type]
    expected = []
    for index in range(4):
        sizes = []
        for copy in copies[index]:
            other = run(copy[None], targets[index : index + 1])[0]
            change = float((other - maps[index]).norm())
            against = float((copy - images[index]).norm() if name == "local_lipschitz" else maps[index].norm())
            sizes.append(change / against)
        expected.append(max(sizes) if name in ("max_sensitivity", "local_lipschitz") else np.mean(sizes))
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)


def test_max_sensitivity_equals_captums_on_the_same_copies(engine: Engine, images: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captum = pytest.importorskip("captum.metrics")
    targets = torch.tensor([3, 0, 1, 4])
    run = explainer("gradient_input", engine)
    maps = run(images, targets)
    found = score("max_sensitivity", engine, images, maps, targets, null=ZERO, explainer=run, preset="captum")
    copies = copies_of("max_sensitivity", engine, images, Noise("uniform", 0.02, 10))

    def perturb(inputs: Any, radius: float = 0.0) -> Any:
        return copies.flatten(0, 1) if isinstance(inputs, Tensor) else (copies.flatten(0, 1),)

    theirs = captum.sensitivity_max(
        lambda inputs, target: (run(inputs[0] if isinstance(inputs, tuple) else inputs, target),),
        images, perturb_func=perturb, n_perturb_samples=10, target=targets,
    )  # fmt: skip
    np.testing.assert_allclose(found.values, theirs.numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "preset", "samples", "low", "high"),
    [
        ("average_stability", "xplique", 20, 0.0, 0.1),
        ("max_sensitivity", "captum", 10, -0.02, 0.02),
        ("max_sensitivity", "quantus", 200, -0.2, 0.2),
        ("avg_sensitivity", "quantus", 200, -0.2, 0.2),
    ],
)
def test_a_preset_draws_the_noise_of_its_peer(
    name: str, preset: str, samples: int, low: float, high: float, linear_engine: Engine, small_images: Tensor
) -> None:
    run = Recorder(gradient(linear_engine))
    maps = run.inner(small_images, torch.zeros(4, dtype=torch.int64))
    score(name, linear_engine, small_images, maps, 0, null=ZERO, explainer=run, preset=preset)
    noise = (torch.cat(run.images).unflatten(0, (samples, 4)) - small_images).numpy()
    assert low - 1e-6 <= noise.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < noise.max() <= high + 1e-6


def test_the_quantus_lipschitz_preset_draws_gaussian_noise(linear_engine: Engine, small_images: Tensor) -> None:
    run = Recorder(gradient(linear_engine))
    maps = run.inner(small_images, torch.zeros(4, dtype=torch.int64))
    score("local_lipschitz", linear_engine, small_images, maps, 0, null=ZERO, explainer=run, preset="quantus")
    noise = torch.cat(run.images).unflatten(0, (200, 4)) - small_images
    assert noise.std().item() == pytest.approx(0.1, rel=0.01)
    assert noise.abs().max() > 0.3


def test_the_xplique_preset_is_the_plain_distance(engine: Engine, images: Tensor) -> None:
    run = explainer("gradient_input", engine)
    targets = torch.tensor([3, 0, 1, 4])
    maps = run(images, targets)
    found = score("average_stability", engine, images, maps, targets, null=ZERO, explainer=run, preset="xplique")
    copies = copies_of("average_stability", engine, images, Noise("positive", 0.1, 20))
    expected = [
        np.mean([float((run(copy[None], targets[i : i + 1])[0] - maps[i]).norm()) for copy in copies[i]])
        for i in range(4)
    ]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4)
    np.testing.assert_allclose(found.extra["absolute"], expected, rtol=1e-4)


def test_an_explainer_is_given_few_copies_at_once_and_the_class_of_the_clean_image(
    linear_engine: Engine, small_images: Tensor
) -> None:
    run = Recorder(gradient(linear_engine))
    targets = torch.tensor([3, 0, 1, 2])
    maps = run.inner(small_images, targets)
    score("max_sensitivity", linear_engine, small_images, maps, targets, null=ZERO, explainer=run, samples=50)
    assert [len(call) for call in run.images] == [AT_ONCE, AT_ONCE, AT_ONCE, 200 - 3 * AT_ONCE]
    assert torch.equal(torch.cat(run.targets), targets.repeat(50))


def test_more_images_than_fit_in_a_call_are_split(linear_engine: Engine) -> None:
    many = torch.randn(AT_ONCE + 10, 3, 8, 8, generator=torch.Generator().manual_seed(8))
    sizes = [len(copies) for _, copies in batches(many, Noise("uniform", 0.1, 2), linear_engine.draws(0))]
    assert sizes == [AT_ONCE, AT_ONCE, 20]


def test_every_method_is_asked_about_the_same_copies(engine: Engine, images: Tensor) -> None:
    first, second = (Recorder(explainer(name, engine)) for name in ("gradient_input", "random"))
    for run in (first, second):
        score("avg_sensitivity", engine, images, run.inner(images, torch.zeros(4, dtype=torch.int64)), 0, null=ZERO,
              explainer=run, samples=4)  # fmt: skip
    assert torch.equal(torch.cat(first.images), torch.cat(second.images))


@pytest.mark.parametrize("name", ["max_sensitivity", "avg_sensitivity", "average_stability"])
def test_a_map_of_zeros_has_no_relative_change(name: str, engine: Engine, images: Tensor) -> None:
    maps = explain("gradient_input", engine, images, 0)
    maps[1] = 0
    found = score(name, engine, images, maps, 0, null=ZERO, explainer=explainer("gradient_input", engine), samples=3)
    assert np.isnan(found.values).tolist() == [False, True, False, False]
    assert found.extra["zero_map"].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "name", ["relative_input_stability", "relative_output_stability", "relative_representation_stability"]
)
def test_a_slow_twin_of_relative_stability_over_the_copies_that_keep_the_prediction(
    name: str, engine: Engine, images: Tensor
) -> None:
    targets = torch.tensor([3, 0, 1, 4])
    run = explainer("gradient_input", engine)
    maps = run(images, targets)
    options: dict[str, Any] = {"samples": 12, "radius": 3.5}
    found = score(name, engine, images, maps, targets, null=ZERO, explainer=run, **options)
    copies = copies_of(name, engine, images, Noise("uniform", 3.5, 12))
    expected, kept = [], []
    for index in range(4):
        image = images[index : index + 1]
        ratios = []
        for copy in copies[index]:
            one = copy[None]
            if engine.scores(one).argmax() != engine.scores(image).argmax():
                continue
            map_, other = maps[index].double(), run(one, targets[index : index + 1])[0].double()
            if name == "relative_input_stability":
                against = ((one - image).double() / image).norm()
            elif name == "relative_output_stability":
                against = (engine.scores(one) - engine.scores(image)).double().norm()
            else:
                features = engine.tap(image, "stage").double()
                base = torch.where(features == 0, 1e-6, features)
                against = ((engine.tap(one, "stage") - features) / base).norm()
            ratios.append(float(((other - map_) / map_).norm() / against))
        kept.append(len(ratios) / 12)
        expected.append(max(ratios, default=np.nan))
    np.testing.assert_allclose(found.values, expected, rtol=1e-3)
    np.testing.assert_allclose(found.extra["kept"], kept)
    assert 0 < min(kept) < 1


@pytest.mark.parametrize("name", ["relative_input_stability", "relative_output_stability"])
def test_an_image_whose_every_copy_changes_the_prediction_has_no_value(name: str) -> None:
    engine = Engine(OnlyBlack(), device="cpu", precision="fp32")
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    run = explainer("image_gradient", engine)
    maps = run(
        images + torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2, dtype=torch.int64)
    )
    found = score(name, engine, images, maps, 0, null=np.zeros(2), explainer=run, samples=5)
    assert np.isnan(found.values).tolist() == [True, False]
    assert found.extra["kept"].tolist() == [0, 1]
    assert found.n == 1


@pytest.mark.parametrize("name", ["max_sensitivity", "avg_sensitivity", "average_stability"])
def test_a_smooth_method_is_more_stable_than_chance_and_a_random_one_is_not(name: str, conv_network: Network) -> None:
    engine = Engine(conv_network, device="cpu", precision="fp32")
    images = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    floor = null(name, engine, images, 0, samples=4)
    found = {
        method: score(
            name, engine, images, explain(method, engine, images, 0, seed=7), 0, null=floor, samples=4,
            explainer=explainer(method, engine, seed=7),
        )
        for method in ("gradient_input", "random")
    }  # fmt: skip
    assert found["gradient_input"].gain.low > 0
    # Another random map for every image: two independent uniform maps lie 1/sqrt(6) of a pixel apart, over 1/sqrt(3).
    assert found["random"].value.mean == pytest.approx(0.5**0.5, abs=0.05)
    assert abs(found["random"].gain.mean) < 0.05


@pytest.mark.parametrize("name", NOISY)
def test_every_stability_metric_of_maps_falls_with_stability(name: str) -> None:
    card = METRICS.card(name)
    assert card.direction == "down"  # type: ignore[attr-defined]
    assert METRICS.group(name) == "stability"
